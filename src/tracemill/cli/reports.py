"""Commands that show what the records say, and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from msgspec import to_builtins

from tracemill.cli.opening import Folder, Json, open_workspace, options_of
from tracemill.cli.output import emit_json, progress, say, table

Platform = Annotated[str | None, typer.Option(help="Only this platform.")]


Newest = Annotated[
    int | None, typer.Option(min=1, help="Read only so many of the newest records; sums are of all of them.")
]


def stats(
    context: typer.Context,
    platform: Platform = None,
    newest: Newest = None,
    sums: Annotated[bool, typer.Option("--sums", help="Read no record at all: only what the daily sums tell.")] = False,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Print statistics of everything stored: outcomes, tools, chats, trajectories, feedback, costs."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened, progress(options) as shown:
        statistics = opened.statistics(platform=platform, bodies=not sums, newest=newest, progress=shown)
    if options.json:
        emit_json(to_builtins(statistics))
    elif not options.quiet:
        from rich.console import Console

        from tracemill.insight.terminal import render_terminal

        render_terminal(statistics, Console(highlight=False))


def report(
    context: typer.Context,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained HTML file with charts.")] = None,
    platform: Platform = None,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Print the report, or write it as one HTML file."""
    if html is None:
        stats(context, platform, workspace=workspace, json=json)
        return
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        statistics = opened.write_report(html, platform=platform)
    if options.json:
        emit_json({"html": str(html), **to_builtins(statistics)})
    say(options, f"Wrote {html}.")


def demo(
    context: typer.Context,
    source: Annotated[
        tuple[str, Path] | None,
        typer.Option("--from", metavar="FORMAT PATH", help="Use this file instead of the sample."),
    ] = None,
    workspace: Annotated[
        str | None, typer.Option("--workspace", help="New folder to work in (default: tracemill-demo).")
    ] = None,
    json: Json = False,
) -> None:
    """Run the main job on a sample: capture, store, signals, a dataset version, two exports and a report.

    It works in a folder of its own (tracemill-demo, or the workspace given); one that is in use gets a number.
    """
    from tracemill.demo.run import run_demo

    options = options_of(context, workspace, json)
    stages = run_demo(Path(options.workspace or "tracemill-demo"), source, say=lambda text: say(options, text))
    if options.json:
        emit_json(stages)


def readiness(
    context: typer.Context,
    platform: Annotated[str | None, typer.Argument(help="A platform; all of them by default.")] = None,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Say whether there is enough to train on: five gates, each with its value."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        names = [platform] if platform is not None else sorted({row.platform for row in opened.store.daily()})
        found = [opened.readiness(name) for name in names]
    if options.json:
        emit_json([each.as_dict() for each in found])
        return
    for each in found:
        state = "ready" if each.is_ready else "not ready"
        rows = [
            [gate.name, f"{gate.value:g}", f"{gate.required:g}", "yes" if gate.passed else "no"] for gate in each.gates
        ]
        table(options, f"{each.platform}: {state}, score {each.score:g}", ["gate", "value", "required", "passed"], rows)
        for advice in each.recommendations:
            say(options, f"  {advice}")
    if not found:
        say(options, "Nothing is stored yet.")
