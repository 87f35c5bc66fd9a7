"""A turn after a failed tool call is a recovery exactly when every call of it worked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import calls, interaction, result, says
from tracemill.core.examples import ActionExample
from tracemill.core.steps import Drop
from tracemill.dataset.signals.confidence import RECOVERED
from tracemill.dataset.signals.recoveries import recoveries

ASK = says("user", "Book it.")
FAILED = [calls("book", '{"pay": 250}', "c1"), result("c1", "Error: the price is 305", "book")]


def made(*messages: dict[str, Any], **fields: Any) -> ActionExample:
    found = recoveries(interaction("t", [ASK, *messages], **fields))
    assert not isinstance(found, Drop)
    (example,) = found
    return example


@pytest.mark.parametrize(
    ("turn", "kind"),
    [
        (calls("book", '{"pay": 305}', "c2"), "corrected_arguments"),
        (calls("book", '{ "pay":250 }', "c2"), "retried"),
        (calls("search", '{"pay": 250}', "c2"), "other_tool"),
    ],
)
def test_what_it_did_is_named(turn: dict[str, Any], kind: str) -> None:
    example = made(*FAILED, turn, result("c2", '{"ok": true}'), says("assistant", "Booked."))
    assert (example.signal, example.confidence) == (kind, RECOVERED[kind])
    assert example.prompt == [ASK, *FAILED]
    assert example.completion == [turn]
    assert example.state == {"failed_tools": ["book"]}
    assert example.outcome == {"success": True, "results": [result("c2", '{"ok": true}')]}


def test_one_inside_a_failed_execution_counts_half() -> None:
    turn = [calls("book", '{"pay": 305}', "c2"), result("c2", "{}")]
    assert made(*FAILED, *turn, success=False).confidence == RECOVERED["corrected_arguments"] / 2
    assert made(*FAILED, *turn, success=True).confidence == RECOVERED["corrected_arguments"]


def test_thinking_aloud_mends_nothing_and_is_passed_over() -> None:
    thought = [calls("think", '{"thought": "it costs more"}', "c2"), result("c2", "", "think")]
    turn = calls("book", '{"pay": 305}', "c3")
    example = made(*FAILED, *thought, turn, result("c3", "{}"))
    assert (example.signal, example.completion, len(example.prompt)) == ("corrected_arguments", [turn], 5)
    assert recoveries(interaction("t", [ASK, *FAILED, *thought, says("assistant", "Sorry.")])) == Drop("no_recovery")


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([calls("book", "{}", "c1"), result("c1", "{}")], "no_failed_call"),
        ([says("assistant", "Error: what?")], "no_failed_call"),
        (FAILED, "no_recovery"),
        ([*FAILED, says("assistant", "It failed.")], "no_recovery"),
        ([*FAILED, says("user", "Try again."), calls("book", "{}", "c2"), result("c2", "{}")], "no_recovery"),
        ([*FAILED, calls("book", "{}", "c2")], "no_recovery"),
        ([*FAILED, calls("book", "{}", "c2"), result("c2", "Error: no")], "no_recovery"),
    ],
)
def test_what_is_no_recovery(messages: list[dict[str, Any]], reason: str) -> None:
    assert recoveries(interaction("t", [ASK, *messages])) == Drop(reason)


_events = st.lists(st.sampled_from(["ok", "bad", "open", "talk", "user"]), max_size=8)


@given(_events)
def test_by_brute_force(events: list[str]) -> None:
    """A call that worked, directly behind one that failed: nothing else, and each of these once."""
    messages: list[dict[str, Any]] = [ASK]
    for number, event in enumerate(events):
        if event in ("talk", "user"):
            messages.append(says("assistant" if event == "talk" else "user", f"w{number}"))
            continue
        messages.append(calls("book", f'{{"n": {number}}}', f"c{number}"))
        if event != "open":
            messages.append(result(f"c{number}", "{}" if event == "ok" else "Error: no"))
    expected = [{"n": at + 1} for at in range(len(events) - 1) if events[at : at + 2] == ["bad", "ok"]]
    found = recoveries(interaction("t", messages))
    assert ([] if isinstance(found, Drop) else [example.parameters for example in found]) == expected
