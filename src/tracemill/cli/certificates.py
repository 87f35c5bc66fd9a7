"""Commands about what a dataset version may be trusted for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tracemill.cli.opening import Folder, Json, open_workspace, options_of
from tracemill.cli.output import Options, emit_json, progress, say, table
from tracemill.core.certificate import Certificate, Check

Reference = Annotated[str, typer.Argument(help="name, or name@v2.")]
Columns = Annotated[
    str | None,
    typer.Option(
        help="Quasi-identifiers, separated by commas (default: platform,task_id,signal,tools); also model, day, month, "
        "channel, tags, kind, language of the interactions."
    ),
]
Members = Annotated[int, typer.Option("--k", min=1, help="People that must at least look alike.")]


def certify(
    context: typer.Context,
    reference: Reference,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(help="Evaluation set (JSONL, JSON, Parquet or text) to look for. May be repeated."),
    ] = None,
    k: Members = 5,
    columns: Columns = None,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 when a check failed.")] = False,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Look at a version for leaks, contamination, personal data, consent and anonymity; sign what was found.

    The certificate lies beside the manifest and holds no content.
    """
    from tracemill.workspace import local_actor

    options = options_of(context, workspace, json)
    with open_workspace(options) as opened, progress(options) as shown:
        made = opened.certifying.certify(
            reference,
            evaluation or [],
            k=k,
            columns=_split(columns),
            actor=local_actor(),
            progress=shown,
        )
    _show(options, made, [])
    if check and made.state == "failed":
        raise typer.Exit(1)


def certificate(context: typer.Context, reference: Reference, workspace: Folder = None, json: Json = False) -> None:
    """Show a version's certificate and check it: signature, manifest and every file. Exit code 1 when anything is wrong."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        found, problems = opened.certifying.certificate(reference)
    _show(options, found, problems)
    if problems:
        raise typer.Exit(1)


def anonymity(
    context: typer.Context,
    reference: Reference,
    k: Members = 5,
    columns: Columns = None,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 when the rows are not k-anonymous.")] = False,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Say how well the rows of a version hide among each other by what they carry beside their content (k-anonymity)."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        found = opened.certifying.anonymity(reference, _split(columns), k=k)
    if options.json:
        emit_json(
            {
                "k": found.k,
                "holds": found.holds,
                "columns": found.columns,
                "rows": found.rows,
                "classes": found.classes,
                "smallest": found.smallest,
                "below": found.below,
                "unique": found.unique,
                "unresolved": found.unresolved,
                "sizes": {str(size): number for size, number in found.sizes.items()},
            }
        )
    say(
        options,
        f"By {', '.join(found.columns)} the {found.rows:,} rows make {found.classes:,} classes; the smallest has "
        f"{found.smallest:,} people. {found.below:,} rows are in classes of fewer than {found.k}: the rows are "
        f"{'' if found.holds else 'NOT '}{found.k}-anonymous."
        + (f" Of {found.unresolved:,} rows a source is not stored any more." if found.unresolved else ""),
    )
    if check and not found.holds:
        raise typer.Exit(1)


def _split(columns: str | None) -> list[str]:
    return [name.strip() for name in (columns or "").split(",") if name.strip()]


def _show(options: Options, found: Certificate, problems: list[str]) -> None:
    if options.json:
        emit_json({**msgspec.to_builtins(found), "state": found.state, "problems": problems})
        return
    say(options, f"{found.dataset}@{found.version}, {found.issued}: {found.state}")
    rows = [[check.name, check.state, _share(check), check.reason] for check in found.checks]
    table(options, "", ["check", "state", "found (95 % interval)", "why"], rows)
    for problem in problems:
        say(options, f"LOOK  {problem}")
    if not problems:
        say(options, f"Signed with the key {found.key_id} over manifest {found.manifest_sha256[:16]}….")


def _share(check: Check) -> str:
    if check.low is None or check.high is None or check.value is None:
        return ""
    return f"{check.hits:,} of {check.total:,} ({100 * check.low:.2g}–{100 * check.high:.2g} %)"
