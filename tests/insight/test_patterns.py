"""Sequences of tools against counting by hand, and their LLMunix form."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.insight.patterns import PatternCounter, tool_execution_pattern
from tracemill.insight.trajectories import Call, Trajectory


def trajectory(*calls: Call | str, success: bool | None = None) -> Trajectory:
    made = [Call(call) if isinstance(call, str) else call for call in calls]
    return Trajectory("p", success, made, len(made), 0, len(made), 0, True)


def counted(*trajectories: Trajectory, room: int = 1000) -> PatternCounter:
    counter = PatternCounter(room=room)
    for each in trajectories:
        counter.add(each)
    return counter


def test_support_counts_trajectories_and_occurrences_repetitions() -> None:
    found = counted(
        trajectory("a", "b", "a", "b", success=True), trajectory("a", "b", success=False), trajectory("b", "a")
    ).patterns()
    by_tools = {tuple(pattern.tools): pattern for pattern in found}
    ab = by_tools["a", "b"]
    assert (ab.support, ab.occurrences) == (2, 3)
    assert ab.share == pytest.approx(2 / 3)
    assert (ab.succeeded.successes, ab.succeeded.total) == (1, 2)
    assert by_tools["b", "a"].support == 2
    assert found[0].tools == ["a", "b"]  # as often as b, a, but with more occurrences


def test_time_is_that_of_a_whole_run_and_only_where_every_call_states_it() -> None:
    timed = trajectory(Call("a", duration_ms=10), Call("b", duration_ms=20), Call("a", duration_ms=30), Call("b"))
    pattern = counted(timed, trajectory("a", "b")).patterns()[0]
    assert (pattern.tools, pattern.mean_ms) == (["a", "b"], 30)


def test_a_pattern_that_only_occurs_inside_a_longer_one_is_left_to_that() -> None:
    found = counted(trajectory("a", "b", "c"), trajectory("a", "b", "c"), trajectory("x", "y")).patterns()
    assert [pattern.tools for pattern in found] == [["a", "b", "c"]]


def test_trajectories_without_calls_do_not_count() -> None:
    assert counted(trajectory(), trajectory("a", "b"), trajectory("a", "b")).patterns()[0].share == 1


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=8), max_size=12))
def test_every_count_is_right(runs: list[list[str]]) -> None:
    support: Counter[tuple[str, ...]] = Counter()
    occurrences: Counter[tuple[str, ...]] = Counter()
    for run in runs:
        found = [tuple(run[at : at + n]) for n in (2, 3, 4) for at in range(len(run) - n + 1)]
        occurrences.update(found)
        support.update(set(found))
    counter = counted(*(trajectory(*run) for run in runs))
    for pattern in counter.patterns(limit=1000, minimum_support=1):
        key = tuple(pattern.tools)
        assert (pattern.support, pattern.occurrences) == (support[key], occurrences[key])
    assert counter.error == 0


def test_with_too_many_patterns_the_frequent_ones_stay_and_the_error_is_stated() -> None:
    rare = [trajectory(f"x{number}", f"y{number}") for number in range(400)]
    counter = PatternCounter(room=50)
    for index, each in enumerate(rare):
        counter.add(each)
        if index % 4 == 0:
            counter.add(trajectory("often", "too"))
    best = counter.patterns(limit=1)[0]
    assert best.tools == ["often", "too"]
    assert best.support <= 100 <= best.support + counter.error


def test_tools_say_how_they_do() -> None:
    counter = counted(
        trajectory(
            Call("get", ("url",), True, 100.0), Call("get", ("url", "depth"), False, 300.0, "Timeout"), success=True
        ),
        trajectory(Call("get"), success=False),
    )
    tool = counter.tools()["get"]
    assert (tool.calls, tool.mean_ms) == (3, 200)
    assert (tool.succeeded.successes, tool.succeeded.total) == (1, 2)
    assert (tool.trajectories.successes, tool.trajectories.total) == (1, 2)
    assert [(each.name, each.count) for each in tool.parameters] == [("url", 2), ("depth", 1)]
    assert [(each.name, each.count) for each in tool.failures] == [("Timeout", 1)]


def test_the_llmunix_form() -> None:
    fetch = Call("fetch", ("url",), True, 8500.0)
    counter = counted(
        trajectory(fetch, Call("write", ("path",), True, 2100.0), success=True),
        trajectory(fetch, Call("write", ("path",), False, 2100.0, "DiskFull"), success=False),
    )
    [pattern] = counter.patterns()
    made = tool_execution_pattern(pattern, counter.tools())["tool_execution_pattern"]
    assert made.pop("pattern_id").startswith("pattern_")
    assert made == {
        "pattern_type": "sequence",
        "frequency": "high",
        "support": 2,
        "success_rate": 0.5,
        "success_interval": [0.0945, 0.9055],
        "avg_latency": "10.6s",
        "p50_latency": "10.6s",
        "p95_latency": "10.6s",
        "sequence": [
            {
                "tool": "fetch",
                "typical_inputs": {"parameters": ["url"]},
                "performance": {
                    "avg_latency": "8.5s",
                    "p50_latency": "8.5s",
                    "p95_latency": "8.5s",
                    "success_rate": 1.0,
                    "success_interval": [0.3424, 1.0],
                },
            },
            {
                "tool": "write",
                "typical_inputs": {"parameters": ["path"]},
                "performance": {
                    "avg_latency": "2.1s",
                    "p50_latency": "2.1s",
                    "p95_latency": "2.1s",
                    "success_rate": 0.5,
                    "success_interval": [0.0945, 0.9055],
                    "common_failures": ["DiskFull"],
                },
            },
        ],
    }


def test_a_repetition_is_called_one() -> None:
    counter = counted(trajectory("a", "a"), trajectory("a", "a"))
    made = tool_execution_pattern(counter.patterns()[0], {})["tool_execution_pattern"]
    assert made["pattern_type"] == "repetition"
    assert made["sequence"] == [{"tool": "a"}, {"tool": "a"}]


def test_the_next_call_after_a_failure_is_its_recovery() -> None:
    failed, fine = Call("book", success=False), Call("book", success=True)
    search = Call("search", success=True)
    counter = counted(
        trajectory(failed, search, fine),
        trajectory(failed, fine),
        trajectory(failed, failed, search),
        trajectory(failed),
    )
    found = {one.tool: one for one in counter.tools()["book"].recoveries}
    assert {name: (one.count, one.worked.successes, one.worked.total) for name, one in found.items()} == {
        "search": (2, 2, 2),
        "book": (2, 1, 2),
    }
    assert found["search"].share == 0.5
    assert counter.tools()["search"].recoveries == []


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_quantiles_of_time(times: list[float]) -> None:
    tool = counted(*(trajectory(Call("a", duration_ms=time)) for time in times)).tools()["a"]
    ordered = sorted(times)
    for value, share in ((tool.p50_ms, 0.5), (tool.p95_ms, 0.95)):
        assert value is not None
        place = share * (len(ordered) - 1)
        low, high = ordered[int(place)], ordered[min(len(ordered) - 1, int(place) + 1)]
        assert low * 0.98 - 1e-5 <= value <= high * 1.02 + 1e-5
