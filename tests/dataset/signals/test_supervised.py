"""Successful turns become examples to imitate; any objection keeps them out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dataset.support import calls as tool_call
from tests.dataset.support import feedback, interaction, list_store, record_id, result, says, validation
from tracemill.core.examples import SupervisedExample
from tracemill.core.records import AnyRecord, Interaction
from tracemill.core.steps import Drop
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.signals.supervised import supervised
from tracemill.feedback.attach import attach

QUESTION, ANSWER = says("user", "q"), says("assistant", "a")


def run(subject: Interaction, *said: AnyRecord) -> list[SupervisedExample] | Drop:
    return supervised(subject, attach(list_store([subject, *said])).of(subject.id), Recipe())


def test_a_success_is_one_example_of_the_whole_trajectory() -> None:
    tools = [{"type": "function", "function": {"name": "search"}}]
    subject = interaction("t", [QUESTION], response=ANSWER, success=True, platform="support", task_id="7", tools=tools)
    (example,) = run(subject)  # type: ignore[misc]
    assert example.messages == [QUESTION, ANSWER]
    assert (example.sources, example.tail, example.tools) == ([subject.id], [], tools)
    assert (example.platform, example.task_id, example.signal) == ("support", "7", "success")
    assert not example.human_validated


def test_what_follows_the_last_answer_is_the_tail() -> None:
    messages = [QUESTION, tool_call("search", "{}", "c1"), result("c1", "found")]
    (example,) = run(interaction("t", messages, success=True))  # type: ignore[misc]
    assert example.messages == messages[:2]
    assert example.tail == messages[2:]


def test_an_approval_stands_in_for_an_unknown_success() -> None:
    subject = interaction("t", [QUESTION], response=ANSWER)
    thumb = feedback("f", "t", kind="thumbs_up")
    (example,) = run(subject, thumb)  # type: ignore[misc]
    assert example.sources == sorted([subject.id, thumb.id])
    assert (example.signal, example.human_validated, example.confidence) == ("approval", True, 1.0)


@pytest.mark.parametrize(
    ("fields", "said", "reason"),
    [
        ({"success": False}, [], "not_successful"),
        ({}, [], "success_unknown"),
        ({}, [feedback("f", "t", kind="comment", comment="nice")], "success_unknown"),
        ({"success": True}, [feedback("f", "t", kind="thumbs_down")], "negative_feedback"),
        ({"success": True}, [feedback("f", "t", kind="rating", rating=1)], "negative_feedback"),
        ({}, [feedback("f", "t", kind="thumbs_up"), feedback("g", "t", kind="thumbs_down")], "negative_feedback"),
        ({"success": True}, [feedback("f", "t", kind="report")], "reported"),
        ({"success": True}, [feedback("f", "t", kind="edit", correction="b")], "corrected"),
        ({"success": True}, [validation("v", "t", passed=False)], "failed_validation"),
        ({"success": False}, [feedback("f", "t", kind="thumbs_up")], "not_successful"),
    ],
)
def test_an_objection_keeps_it_out(fields: dict[str, Any], said: list[AnyRecord], reason: str) -> None:
    assert run(interaction("t", [QUESTION], response=ANSWER, **fields), *said) == Drop(reason)


def test_without_an_answer_there_is_nothing_to_imitate() -> None:
    assert run(interaction("t", [QUESTION], success=True)) == Drop("no_assistant_message")


def test_equal_content_has_one_id_and_the_order_of_keys_does_not_count() -> None:
    swapped = {"content": "a", "role": "assistant"}
    one = run(interaction("t", [QUESTION], response=ANSWER, success=True))
    other = run(interaction("u", [QUESTION], response=swapped, success=True))
    different = run(interaction("u", [QUESTION], response=says("assistant", "b"), success=True))
    assert not isinstance(one, Drop)
    assert not isinstance(other, Drop)
    assert not isinstance(different, Drop)
    assert one[0].id == other[0].id != different[0].id
    assert one[0].sources == [record_id("t")]
