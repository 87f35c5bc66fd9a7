"""Frequent sequences of tools, with how often they occur, how often they end well and how long they take.

A pattern is a run of tools called directly one after another within a trajectory. Its ``support`` is the number of
trajectories it occurs in. Counting keeps at most :data:`ROOM` patterns: when they do not fit, the rarer half is let go and
the largest support let go is added to ``error``. A pattern's true support is then at most ``error`` larger than stated
(lossy counting after Manku and Motwani 2002); with ``error`` 0 it is exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from tracemill.drawing.measures import Measure, Rate, Share, Tally, rate, shares, short_name
from tracemill.insight.trajectories import Call, Trajectory

LENGTHS = (2, 3, 4)
ROOM = 20_000
_FREQUENT, _OCCASIONAL = 0.2, 0.05
_TYPICAL, _COMMON = 6, 3
_NEXTS = 40
_EXACT = 256
"""Times of one pattern or tool that are kept before they are put into buckets."""


class Recovery(Struct, frozen=True):
    """What was called next after a tool had failed: its ``share`` of such calls, how often it ``worked`` if known."""

    tool: str
    count: int
    share: float
    worked: Rate


class ToolPerformance(Struct, frozen=True):
    """One tool as the trajectories show it: ``succeeded`` and the mean time only over calls that state them.

    ``trajectories`` is the success rate of the trajectories that call the tool and whose outcome is known. The quantiles of
    time are over the calls that state it; ``recoveries`` are the most usual next calls after a failure.
    """

    tool: str
    calls: int
    succeeded: Rate
    trajectories: Rate
    mean_ms: float | None
    parameters: list[Share]
    failures: list[Share]
    p50_ms: float | None = None
    p95_ms: float | None = None
    recoveries: list[Recovery] = []


class ToolPattern(Struct, frozen=True):
    """A sequence of tools. ``support`` counts trajectories, ``occurrences`` also repetitions within one.

    ``share`` is the support over all trajectories that call a tool. ``succeeded`` is over those of its trajectories whose
    outcome is known. ``mean_ms`` is the mean time of one run through the sequence, over the occurrences of which every
    call states its time.
    """

    tools: list[str]
    support: int
    share: float
    occurrences: int
    succeeded: Rate
    mean_ms: float | None
    p50_ms: float | None = None
    p95_ms: float | None = None


@dataclass(slots=True)
class _Seen:
    support: int = 0
    occurrences: int = 0
    succeeded: int = 0
    known: int = 0
    times: Measure | None = None


@dataclass(slots=True)
class _Tool:
    calls: int = 0
    trajectories: int = 0
    trajectories_succeeded: int = 0
    succeeded: int = 0
    known: int = 0
    times: Measure = field(default_factory=lambda: Measure(_EXACT))
    nexts: Tally = field(default_factory=lambda: Tally(40))
    worked: dict[str, tuple[int, int]] = field(default_factory=dict)
    parameters: Tally = field(default_factory=lambda: Tally(40))
    failures: Tally = field(default_factory=lambda: Tally(40))


class PatternCounter:
    """Counts the tool sequences of trajectories as they come."""

    def __init__(self, lengths: Sequence[int] = LENGTHS, room: int = ROOM) -> None:
        self._lengths = tuple(lengths)
        self._room = room
        self._seen: dict[tuple[str, ...], _Seen] = {}
        self._tools: dict[str, _Tool] = {}
        self.trajectories = 0
        self.error = 0

    def add(self, trajectory: Trajectory) -> None:
        """Count one trajectory."""
        calls = [call for call in trajectory.calls if call.tool]
        if not calls:
            return
        self.trajectories += 1
        for call, after in zip(calls, [*calls[1:], None], strict=True):
            self._add_call(call)
            if call.success is False and after is not None:
                self._add_next(short_name(call.tool), after)
        if trajectory.success is not None:
            for tool in {short_name(call.tool) for call in calls} & self._tools.keys():
                self._tools[tool].trajectories += 1
                self._tools[tool].trajectories_succeeded += trajectory.success
        met: set[tuple[str, ...]] = set()
        for tools, run in _runs(calls, self._lengths):
            seen = self._seen.setdefault(tools, _Seen())
            seen.occurrences += 1
            times = [call.duration_ms for call in run]
            if all(_is_time(time) for time in times):
                seen.times = seen.times or Measure(_EXACT)
                seen.times.add(sum(time for time in times if time is not None))
            met.add(tools)
        for tools in met:
            seen = self._seen[tools]
            seen.support += 1
            seen.known += trajectory.success is not None
            seen.succeeded += trajectory.success is True
        if len(self._seen) > self._room:
            self._let_go()

    def _add_call(self, call: Call) -> None:
        name = short_name(call.tool)
        if name not in self._tools and len(self._tools) >= self._room // 10:
            return
        tool = self._tools.setdefault(name, _Tool())
        tool.calls += 1
        if call.success is not None:
            tool.known += 1
            tool.succeeded += call.success
        if _is_time(call.duration_ms):
            tool.times.add(call.duration_ms)
        for key in call.keys:
            tool.parameters.add(key)
        if call.success is False:
            tool.failures.add(call.error or "(no type)")

    def _add_next(self, failed: str, after: Call) -> None:
        if (tool := self._tools.get(failed)) is None:
            return
        name = short_name(after.tool)
        tool.nexts.add(name)
        if after.success is not None and (name in tool.worked or len(tool.worked) < _NEXTS):
            worked, known = tool.worked.get(name, (0, 0))
            tool.worked[name] = worked + after.success, known + 1

    def _let_go(self) -> None:
        supports = sorted(seen.support for seen in self._seen.values())
        limit = supports[len(supports) // 2]
        self.error += limit
        self._seen = {tools: seen for tools, seen in self._seen.items() if seen.support > limit}

    def patterns(self, limit: int = 20, minimum_support: int = 2) -> list[ToolPattern]:
        """The most frequent patterns. A pattern that only ever occurs inside one longer pattern is left to that one."""
        frequent = {tools: seen for tools, seen in self._seen.items() if seen.support >= minimum_support}
        swallowed = {
            part
            for tools, seen in frequent.items()
            for part in (tools[1:], tools[:-1])
            if part in frequent and frequent[part].occurrences == seen.occurrences
        }
        ordered = sorted(
            ((tools, seen) for tools, seen in frequent.items() if tools not in swallowed),
            key=lambda item: (-item[1].support, -item[1].occurrences, -len(item[0]), item[0]),
        )
        return [
            ToolPattern(
                list(tools),
                seen.support,
                seen.support / self.trajectories,
                seen.occurrences,
                rate(seen.succeeded, seen.known),
                *_times(seen.times),
            )
            for tools, seen in ordered[:limit]
        ]

    def tools(self) -> dict[str, ToolPerformance]:
        """What the trajectories show of each tool, by name."""
        return {
            name: ToolPerformance(
                name,
                tool.calls,
                rate(tool.succeeded, tool.known),
                rate(tool.trajectories_succeeded, tool.trajectories),
                times[0],
                shares(tool.parameters.counts, tool.calls)[:_TYPICAL],
                shares(tool.failures.counts)[:_COMMON],
                *times[1:],
                _recoveries(tool),
            )
            for name, tool in sorted(self._tools.items())
            for times in [_times(tool.times)]
        }


def _times(times: Measure | None) -> tuple[float | None, float | None, float | None]:
    """Mean, median and 95th percentile."""
    found = None if times is None else times.distribution()
    return (None, None, None) if found is None else (found.mean, found.median, found.p95)


def _recoveries(tool: _Tool) -> list[Recovery]:
    return [
        Recovery(share.name, share.count, share.share, rate(*tool.worked.get(share.name, (0, 0))))
        for share in shares(tool.nexts.counts)[:_COMMON]
    ]


def _runs(calls: Sequence[Call], lengths: Sequence[int]) -> Iterator[tuple[tuple[str, ...], Sequence[Call]]]:
    names = [short_name(call.tool) for call in calls]
    for length in lengths:
        for start in range(len(calls) - length + 1):
            yield tuple(names[start : start + length]), calls[start : start + length]


def _is_time(value: float | None) -> bool:
    return value is not None and 0 <= value < float("inf")


def tool_execution_pattern(pattern: ToolPattern, tools: dict[str, ToolPerformance]) -> dict[str, Any]:
    """A pattern as a LLMunix ``tool_execution_pattern``.

    ``pattern_id`` is a function of the tools. ``pattern_type`` is what can be told without guessing at a meaning:
    ``repetition`` (one tool again and again) or ``sequence``. ``frequency`` is high from 20 % of the trajectories that
    call a tool, medium from 5 %, else low. Latencies are in seconds, as ``8.5s``, ``success_interval`` is the 95 % Wilson
    interval of ``success_rate``; what is not known is left out.
    """
    repeats = len(set(pattern.tools)) == 1
    share = pattern.share
    return {
        "tool_execution_pattern": _without_none(
            {
                "pattern_id": "pattern_"
                + hashlib.sha256("\x1f".join(pattern.tools).encode("utf-8", "surrogatepass")).hexdigest()[:12],
                "pattern_type": "repetition" if repeats else "sequence",
                "frequency": "high" if share >= _FREQUENT else "medium" if share >= _OCCASIONAL else "low",
                "support": pattern.support,
                "success_rate": _rounded(pattern.succeeded.value),
                "success_interval": _interval(pattern.succeeded),
                "avg_latency": _seconds(pattern.mean_ms),
                "p50_latency": _seconds(pattern.p50_ms),
                "p95_latency": _seconds(pattern.p95_ms),
                "sequence": [_llmunix_tool(name, tools.get(name)) for name in pattern.tools],
            }
        )
    }


def _llmunix_tool(name: str, tool: ToolPerformance | None) -> dict[str, Any]:
    if tool is None:
        return {"tool": name}
    performance = _without_none(
        {
            "avg_latency": _seconds(tool.mean_ms),
            "p50_latency": _seconds(tool.p50_ms),
            "p95_latency": _seconds(tool.p95_ms),
            "success_rate": _rounded(tool.succeeded.value),
            "success_interval": _interval(tool.succeeded),
            "common_failures": [failure.name for failure in tool.failures] or None,
            "usual_recovery": [recovery.tool for recovery in tool.recoveries] or None,
        }
    )
    return {
        "tool": name,
        "typical_inputs": {"parameters": [parameter.name for parameter in tool.parameters]},
        "performance": performance,
    }


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _seconds(milliseconds: float | None) -> str | None:
    return None if milliseconds is None else f"{milliseconds / 1000:.1f}s"


def _interval(found: Rate) -> list[float] | None:
    """The 95 % Wilson interval of a rate."""
    return None if found.low is None or found.high is None else [round(found.low, 4), round(found.high, 4)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
