"""The command about tool patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from tracemill.cli.opening import Folder, Json, open_workspace, options_of
from tracemill.cli.output import emit_json, progress, say, table

if TYPE_CHECKING:
    from tracemill.drawing.measures import Rate
    from tracemill.insight.patterns import Recovery


def patterns(
    context: typer.Context,
    platform: Annotated[str | None, typer.Option(help="Only this platform.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Patterns shown at most.")] = 20,
    minimum_support: Annotated[int, typer.Option(min=1, help="Trajectories a pattern must occur in.")] = 2,
    llmunix: Annotated[bool, typer.Option("--llmunix", help="Print LLMunix tool_execution_pattern documents.")] = False,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Mine sequences of tool calls: support, success with its interval, latency, failures, what follows a failure."""
    from tracemill.dataset.recipe import Source
    from tracemill.insight.mining import mine
    from tracemill.insight.patterns import tool_execution_pattern

    options = options_of(context, workspace, json or llmunix)
    source = Source(platforms=(platform,) if platform is not None else ())
    with open_workspace(options) as opened, progress(options) as shown:
        found = mine(
            opened.store,
            lambda after, up_to: source.filter(after=after, up_to=up_to),
            limit=limit,
            minimum_support=minimum_support,
            progress=shown,
        )
    if llmunix:
        tools = {tool.tool: tool for tool in found.tools}
        emit_json([tool_execution_pattern(pattern, tools) for pattern in found.patterns])
        return
    if options.json:
        emit_json(msgspec.to_builtins(found))
    rows = [
        [
            " → ".join(one.tools),
            one.support,
            f"{one.share:.0%}",
            _rate(one.succeeded),
            _time(one.p50_ms),
            _time(one.p95_ms),
        ]
        for one in found.patterns
    ]
    table(options, "", ["sequence", "support", "share", "success", "p50", "p95"], rows)
    rows = [
        [tool.tool, tool.calls, _rate(tool.succeeded), _time(tool.p50_ms), _time(tool.p95_ms), _next(tool.recoveries)]
        for tool in found.tools
    ]
    table(options, "", ["tool", "calls", "success", "p50", "p95", "after a failure"], rows)
    error = f" A support may be {found.error} too low." if found.error else ""
    say(options, f"{found.trajectories:,} trajectories call tools.{error}")


def _rate(rate: Rate) -> str:
    if rate.value is None or rate.low is None or rate.high is None:
        return ""
    return f"{rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%})"


def _time(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds / 1000:.2f} s"


def _next(recoveries: list[Recovery]) -> str:
    return ", ".join(f"{one.tool} {one.share:.0%}" for one in recoveries)
