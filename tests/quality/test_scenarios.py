"""Scenarios: values exchanged everywhere, failures before a real retry, odd inputs, grades; nothing invented."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import calls, result, says, tau_bench
from tracemill.core.messages import problems, role, text, tool_calls, trajectory
from tracemill.core.records import Interaction
from tracemill.quality.metrics import is_failure
from tracemill.quality.rewording import draws
from tracemill.quality.scenarios import TRANSIENT, Fault, Slots, difficulty, edge, fail, graded, vary

TALK = [
    says("system", "You book flights."),
    says("user", "Which flights go from Boston (BOS) to Seattle? I'm in BOSTON."),
    calls("search", '{"from": "BOS", "note": "say\\nBoston"}', "c1"),
    result("c1", '[{"to": "Seattle", "city": "boston", "fare": 12}]'),
    says("assistant", "Two flights from Boston."),
    says("user", "Book the first."),
    calls("book", '{"flight": 1}', "c2"),
    result("c2", "Error: no seat"),
    says("assistant", "There is no seat."),
]
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "It does."}} for name in ("search", "book", "cancel")
]
CITIES: Slots = {
    "city": [
        {"name": "Boston", "code": "BOS"},
        {"name": "Denver", "code": "DEN"},
        {"name": "Oslo", "code": "OSL"},
        {"name": "Seattle", "code": "SEA"},
    ]
}


def test_values_change_everywhere_and_together() -> None:
    made = vary(TALK, TOOLS, CITIES, draws(1))
    assert made is not None
    whole = json.dumps(made.messages)
    assert not {name for name in ("Boston", "boston", "BOSTON", "BOS", "Seattle") if name in whole}
    first, second = (("Denver", "DEN"), ("Oslo", "OSL")) if "DEN" in whole else (("Oslo", "OSL"), ("Denver", "DEN"))
    called = json.loads(next(iter(tool_calls(made.messages[2]))).arguments)
    assert called == {"from": first[1], "note": f"say\n{first[0]}"}
    found = json.loads(text(made.messages[3]))
    assert found == [{"to": second[0], "city": first[0].lower(), "fare": 12}]
    assert first[0].upper() in text(made.messages[1])
    assert made.messages[0] == TALK[0]
    assert [message.get("tool_call_id") for message in made.messages] == [m.get("tool_call_id") for m in TALK]
    assert (vary(TALK, TOOLS, CITIES, draws(1)), TALK[1]["content"][:13]) == (made, "Which flights")


def test_values_that_cannot_change_are_refused() -> None:
    assert vary(TALK, TOOLS, {"city": ["Paris", "Rome"]}, draws(1)) is None
    assert vary(TALK, TOOLS, {"city": ["Boston", "Seattle", "Rome"]}, draws(1)) is None  # two stand there, one is free
    described = [*TOOLS, {"type": "function", "function": {"name": "x", "description": "Only for Boston."}}]
    assert vary(TALK, described, CITIES, draws(1)) is None
    assert vary(TALK, TOOLS, {"part": ["ost", "est"]}, draws(1)) is None  # a part of a word is no value


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_transient_failure_is_followed_by_what_happened(fault: Fault) -> None:
    made = fail(TALK, TOOLS, fault, draws(2))
    assert made is not None
    assert made.needs == ""
    assert made.messages[:2] == TALK[:2]
    assert made.messages[4:] == TALK[2:]
    assert made.messages[3]["content"] != TALK[3]["content"]
    assert {problem.reason for problem in problems(made.messages)} == set()
    before, again = next(iter(tool_calls(made.messages[2]))), next(iter(tool_calls(made.messages[4])))
    assert (before.name, before.arguments) == (again.name, again.arguments)
    assert before.id != again.id
    assert TALK[2]["tool_calls"][0]["id"] == "c1"  # the original is untouched


@pytest.mark.parametrize("fault", ["error", "unknown_tool"])
def test_any_other_failure_ends_the_row(fault: Fault) -> None:
    made = fail(TALK, TOOLS, fault, draws(2))
    assert made is not None
    assert made.needs == "recovery"
    assert len(made.messages) == 4
    assert is_failure(text(made.messages[-1]))


def test_only_a_good_call_is_made_to_fail() -> None:
    places = {len(made.messages) for at in range(20) if (made := fail(TALK, TOOLS, "error", draws(at)))}
    assert places == {4}  # the second call failed already
    assert fail(TALK[:2], TOOLS, "timeout", draws(1)) is None


def test_odd_inputs() -> None:
    written = edge(TALK, TOOLS, "unicode", draws(1))
    assert written is not None
    changed = [at for at in range(len(TALK)) if written.messages[at] != TALK[at]]
    assert len(changed) == 1
    plain = unicodedata.normalize("NFKC", text(written.messages[changed[0]])).replace("\u200b", "").replace("’", "'")
    assert plain == text(TALK[changed[0]])
    long = edge(TALK, TOOLS, "very_long", draws(1))
    assert long is not None
    assert max(len(text(message)) for message in long.messages) >= 1500
    empty = edge(TALK, TOOLS, "empty", draws(1))
    assert empty is not None
    assert (empty.needs, text(empty.messages[-1]), role(empty.messages[-1])) == ("answer", "", "user")
    gone = edge(TALK, TOOLS, "tool_gone", draws(1))
    assert gone is not None
    assert gone.needs == "answer"
    assert (gone.messages, len(gone.tools)) == (TALK[:2], 2)
    assert edge([says("system", "x")], [], "empty", draws(1)) is None


def test_difficulty_counts_what_it_says() -> None:
    found = difficulty(TALK, TOOLS)
    assert (found.turns, found.calls, found.different_tools, found.distractors, found.level) == (2, 2, 2, 1, 2)
    assert difficulty([says("user", "Hello")], []).level == 1
    hard = [message for at in range(3) for message in (says("user", "And?"), calls(f"t{at}", "{}", f"c{at}"))]
    many = [{"type": "function", "function": {"name": f"other{at}"}} for at in range(5)]
    assert difficulty(hard, many).level == 5


def test_grades_are_prefixes_or_other_tools() -> None:
    others = [{"type": "function", "function": {"name": f"other{at}"}} for at in range(5)]
    made = list(graded(TALK, TOOLS, others))
    assert [difficulty(one.messages, one.tools).level for one in made] == [3]
    longer = [says("user", "Hello."), says("assistant", "Hello!"), *TALK[1:]]
    levels = {difficulty(one.messages, one.tools).level: one for one in graded(longer, TOOLS, others)}
    assert set(levels) == {1, 2, 4}
    for one in levels.values():
        assert one.messages == longer[: len(one.messages)]
        assert role(one.messages[-1]) == "assistant"
        assert one.needs == ""
        assert not any(tool_calls(one.messages[-1]))


def test_real_trajectories_stay_sound(shared_data: Path) -> None:
    made = 0
    for record in tau_bench(shared_data / "tau_bench_airline_gpt4o.json"):
        if not isinstance(record, Interaction) or any(problems(trajectory(record))):
            continue
        whole: list[dict[str, Any]] = trajectory(record)
        for fault in TRANSIENT:
            if (one := fail(whole, record.tools, fault, draws(record.id))) is not None:
                assert problems(one.messages) == []
                assert len(one.messages) == len(whole) + 2
                made += 1
    assert made > 200


@pytest.mark.parametrize("levels", [600, 5000])
def test_json_that_is_nested_too_deep_is_varied_as_text(levels: int) -> None:
    deep = "[" * levels + '"Oslo"' + "]" * levels
    talk = [says("user", "to Oslo"), calls("f", deep, "c"), result("c", deep, "f"), says("assistant", "Oslo it is")]
    made = vary(talk, (), {"city": ["Oslo", "Boston"]}, draws(1))
    assert made is not None
    assert "Oslo" not in json.dumps(made.messages)
    assert made.messages[2]["content"] == deep.replace("Oslo", "Boston")
