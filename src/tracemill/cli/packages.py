"""The commands about dataset packages and tool patterns."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from tracemill.cli.opening import Folder, Json, open_workspace, options_of
from tracemill.cli.output import emit_json, progress, say, table

NEWEST = 10_000


def packages(
    context: typer.Context,
    newest: Annotated[
        int, typer.Option(min=0, help="Count over this many newest places of the store; 0 looks at everything.")
    ] = NEWEST,
    domain: Annotated[str | None, typer.Option(help="Count only what is of this domain.")] = None,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """List the packages, what each needs, and how many interactions here would go into it."""
    from tracemill.dataset.packages import PACKAGES, count_qualified

    options = options_of(context, workspace, json)
    with open_workspace(options) as opened, progress(options) as shown:
        counts = count_qualified(opened.store, newest=newest or None, domain=domain, progress=shown)
    if options.json:
        plain = {
            name: {
                "summary": package.summary,
                "needs": list(package.needs),
                "formats": list(package.formats),
                "recipe": package.recipe.plain(),
                "here": msgspec.to_builtins(counts[name]),
            }
            for name, package in PACKAGES.items()
        }
        emit_json(plain)
    rows = [
        [
            name,
            package.summary,
            "; ".join(package.needs),
            counts[name].interactions,
            counts[name].comparable,
            sum(counts[name].examples.values()),
        ]
        for name, package in PACKAGES.items()
    ]
    looked_at = max(count.looked_at for count in counts.values())
    table(options, "", ["package", "what it teaches", "needs", "interactions", "comparable", "examples"], rows)
    say(
        options,
        f"Counted over {looked_at:,} interactions. `comparable` ones give examples only in pairs: build to see.",
    )
