"""Tool patterns mined out of a store: the counting of :mod:`tracemill.insight.patterns` over interactions and their steps.

Unlike the report, which states only what records state, a call in messages counts as failed here when its result says so,
so that success rates and recoveries are known for applications that log messages alone. Patterns are runs of two to four
tools called directly one after another (n-grams); gaps are not looked for.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct

from tracemill.core.records import Interaction
from tracemill.core.steps import Progress
from tracemill.drawing.measures import Rate
from tracemill.feedback.executions import BATCH, find_executions
from tracemill.insight.patterns import PatternCounter, ToolPattern, ToolPerformance
from tracemill.insight.trajectories import TrajectoryStream
from tracemill.store.base import Filter, Store


class Mined(Struct, frozen=True, kw_only=True):
    """What was mined: of how many trajectories that call tools, the patterns, the tools, and by how much a support may be
    too low (0: the counts are exact).
    """

    trajectories: int
    error: int
    patterns: list[ToolPattern]
    tools: list[ToolPerformance]


def mine(
    store: Store,
    scan: Callable[[int, int], Filter],
    *,
    up_to: int | None = None,
    limit: int = 50,
    minimum_support: int = 2,
    leaves_out: Callable[[Interaction], bool] | None = None,
    progress: Progress | None = None,
) -> Mined:
    """Mine the interactions up to a watermark that pass a filter; ``scan`` gives it for two watermarks (after, up to).

    Those that ``leaves_out`` says are not looked at.
    """
    watermark = store.watermark() if up_to is None else up_to
    executions = find_executions(store, up_to=watermark)
    counter = PatternCounter()
    stream = TrajectoryStream(counter.add, judge_results=True)
    records = iter(store.scan(scan(0, watermark)))
    done = 0
    while batch := list(islice(records, BATCH)):
        found = executions.of(store, [record.id for record in batch])
        for record in batch:
            if not isinstance(record, Interaction) or (leaves_out is not None and leaves_out(record)):
                continue
            if (execution := found.get(record.id)) is not None:
                for step in execution.steps:
                    stream.step(msgspec.structs.replace(step, interaction_id=record.id))
            stream.interaction(record)
        done += len(batch)
        if progress is not None:
            progress("mine tool calls", done, None)
    stream.close()
    return Mined(
        trajectories=counter.trajectories,
        error=counter.error,
        patterns=counter.patterns(limit, minimum_support),
        tools=sorted(counter.tools().values(), key=lambda tool: (-tool.calls, tool.tool)),
    )


def narrow(mined: Mined) -> dict[str, Any]:
    """What was mined as plain data with numbers and names of tools alone: no parameter, no message of an error."""
    return {
        "trajectories": mined.trajectories,
        "support_error": mined.error,
        "patterns": [
            {
                "tools": pattern.tools,
                "support": pattern.support,
                "share": round(pattern.share, 6),
                "occurrences": pattern.occurrences,
                "success": _rate(pattern.succeeded),
                "p50_ms": pattern.p50_ms,
                "p95_ms": pattern.p95_ms,
            }
            for pattern in mined.patterns
        ],
        "tools": [
            {
                "tool": tool.tool,
                "calls": tool.calls,
                "failed": tool.succeeded.total - tool.succeeded.successes,
                "success": _rate(tool.succeeded),
                "p50_ms": tool.p50_ms,
                "p95_ms": tool.p95_ms,
                "after_a_failure": [
                    {"tool": one.tool, "count": one.count, "share": round(one.share, 6), "worked": _rate(one.worked)}
                    for one in tool.recoveries
                ],
            }
            for tool in mined.tools
        ],
    }


def _rate(found: Rate) -> dict[str, Any] | None:
    """A rate with its 95 % Wilson interval; None without anything known."""
    if found.value is None or found.low is None or found.high is None:
        return None
    return {
        "of": found.total,
        "rate": round(found.value, 6),
        "low": round(found.low, 6),
        "high": round(found.high, 6),
    }
