"""Reading messages of any shape, and finding what is wrong with a list of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from tests import strategies
from tracemill.core import messages
from tracemill.core.ids import new_id, now
from tracemill.core.records import Interaction


def call(*ids: str, name: str = "search") -> dict[str, Any]:
    functions = [
        {"id": identity, "type": "function", "function": {"name": name, "arguments": "{}"}} for identity in ids
    ]
    return {"role": "assistant", "content": None, "tool_calls": functions}


def result(identity: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identity, "content": "found"}


USER = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "hi"}
SYSTEM = {"role": "system", "content": "be kind"}


@pytest.mark.parametrize(
    "conversation",
    [
        [],
        [SYSTEM, USER, ANSWER],
        [USER, call("1"), result("1"), ANSWER],
        [USER, call("1", "2"), result("2"), result("1"), ANSWER, USER],
        [SYSTEM, {"role": "developer", "content": "x"}, USER, {"role": "assistant", "content": None, "refusal": "no"}],
        [USER, call("1"), result("1"), call("1"), result("1"), ANSWER],
    ],
)
def test_a_sound_conversation_has_no_problems(conversation: list[dict[str, Any]]) -> None:
    assert messages.problems(conversation) == []


@pytest.mark.parametrize(
    ("conversation", "found"),
    [
        ([ANSWER], [(0, "starts_with_assistant")]),
        ([USER, SYSTEM], [(1, "late_system")]),
        ([USER, {"role": "bot", "content": "x"}], [(1, "unknown_role")]),
        ([{"content": "x"}], [(0, "unknown_role")]),
        ([USER, {"role": "assistant", "content": ""}], [(1, "empty_message")]),
        ([USER, result("1")], [(1, "orphan_result")]),
        ([USER, call("1"), USER], [(1, "unanswered_call")]),
        ([USER, call("1")], [(1, "unanswered_call")]),
        ([USER, call("1", "1"), result("1")], [(1, "repeated_call_id")]),
        ([USER, call("1"), result("1"), result("1")], [(3, "orphan_result")]),
        ([USER, call("1", "2"), result("1"), ANSWER], [(1, "unanswered_call")]),
    ],
)
def test_each_problem_is_found_where_it_is(conversation: list[dict[str, Any]], found: list[tuple[int, str]]) -> None:
    assert [(problem.index, problem.reason) for problem in messages.problems(conversation)] == found


def test_text_of_every_shape_of_content() -> None:
    assert messages.text(USER) == "hello"
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, "odd", {"type": "text", "text": "b"}]
    assert messages.text({"role": "user", "content": parts}) == "a\nb"
    assert messages.text({"role": "assistant", "content": None}) == ""
    assert messages.text({"content": 7}) == ""


def test_tool_calls_of_every_shape() -> None:
    legacy = {"role": "assistant", "function_call": {"name": "old", "arguments": "{}"}}
    odd = {"tool_calls": [None, 3, {"function": None}, {"id": 5, "function": {"name": 6, "arguments": {"x": 1}}}]}
    assert [found.name for found in messages.tool_calls(call("1", "2"))] == ["search", "search"]
    assert [(found.id, found.name) for found in messages.tool_calls(legacy)] == [(None, "old")]
    assert [(found.id, found.name, found.arguments) for found in messages.tool_calls(odd)] == [(None, None, {"x": 1})]
    assert list(messages.tool_calls({"tool_calls": "x"})) == []


def test_a_trajectory_ends_with_the_response() -> None:
    record = Interaction(
        id=new_id(), time=now(), schema_version=1, producer="p", sequence=0, messages=[USER], response=ANSWER
    )
    assert messages.trajectory(record) == [USER, ANSWER]
    assert record.messages == [USER]


def test_a_digest_ignores_key_order_and_nothing_else() -> None:
    assert messages.digest({"role": "user", "content": "x"}) == messages.digest({"content": "x", "role": "user"})
    assert messages.digest({"content": "x"}) != messages.digest({"content": "x", "name": None})
    assert messages.digest({"content": 10**5000, "half": "\ud800"}) != messages.digest({"content": 10**5001})


@given(strategies.messages())
def test_generated_conversations_are_sound(conversation: list[dict[str, Any]]) -> None:
    reasons = {problem.reason for problem in messages.problems(conversation)}
    assert reasons <= {"empty_message"}
