"""Which call repeats which, and where two trials part."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import calls, interaction, result, says, user
from tests.strategies import messages
from tracemill.core.records import Message
from tracemill.dataset.history import call_ids, content_digest, scope, shared_length, spine, split_tail

CALL = calls("f", '{"a": 1}', "c1")


@given(messages(), messages())
def test_a_call_that_continues_another_holds_its_whole_spine(history: list[Message], more: list[Message]) -> None:
    earlier = interaction("a", history, conversation_id="c", response=says("assistant", "r"))
    later = interaction("b", [*history, says("assistant", "r"), *more], conversation_id="c")
    assert spine(later)[: len(history) + 1] == spine(earlier)


@pytest.mark.parametrize(
    ("sent", "resent"),
    [
        (says("assistant", "a", reasoning_content="long"), says("assistant", "a")),
        (says("assistant", "a", refusal=None, annotations=[]), says("assistant", "a", tool_calls=[])),
        (CALL, {**CALL, "content": ""}),
        (CALL, calls("f", '{"a":1}', "c1")),
        (
            CALL,
            {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}]},
        ),
        (
            {"role": "assistant", "tool_calls": [{**CALL["tool_calls"][0], "index": 0}]},
            {"role": "assistant", "content": None, "tool_calls": CALL["tool_calls"]},
        ),
    ],
)
def test_what_is_lost_when_history_is_sent_back_does_not_count(sent: Message, resent: Message) -> None:
    assert spine(interaction("a", [sent])) == spine(interaction("b", [resent]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (says("user", "a"), says("user", "b")),
        (says("user", "a"), says("assistant", "a")),
        (says("user", "a", name="x"), says("user", "a", name="y")),
        (CALL, calls("f", '{"a": 1}', "c2")),
        (CALL, calls("f", '{"a": 2}', "c1")),
        (CALL, calls("f", '{"a": 1.0}', "c1")),
        (CALL, calls("g", '{"a": 1}', "c1")),
        (calls("f", '"1"', "c1"), calls("f", "1", "c1")),
        (calls("f", "{broken", "c1"), calls("f", "{broken ", "c1")),
        (result("c1", "r"), result("c2", "r")),
    ],
)
def test_what_was_said_counts(one: Message, other: Message) -> None:
    assert spine(interaction("a", [one])) != spine(interaction("b", [other]))


@pytest.mark.parametrize(
    "fields",
    [
        {"conversation_id": "d"},
        {"platform": "other"},
        {"task_id": "2"},
        {"trial": 1},
    ],
)
def test_only_calls_of_one_conversation_and_trial_can_repeat_each_other(fields: dict[str, Any]) -> None:
    common: dict[str, Any] = {"conversation_id": "c", "platform": "p", "task_id": "1", "trial": 0}
    assert scope(interaction("a", [], **common)) != scope(interaction("b", [], **{**common, **fields}))
    assert scope(interaction("a", [], **common)) == scope(interaction("b", [], **common, session_id="s"))


def test_without_a_conversation_session_and_user_hold_calls_together() -> None:
    assert scope(interaction("a", [], user=user("u"))) == scope(interaction("b", [], user=user("u")))
    assert scope(interaction("a", [], user=user("u"))) != scope(interaction("b", [], user=user("v")))
    assert scope(interaction("a", [], session_id="s")) != scope(interaction("b", []))


@given(messages(), messages(), messages())
def test_shared_length_is_where_two_lists_part(common: list[Message], one: list[Message], other: list[Message]) -> None:
    first, second = [*common, says("user", "one"), *one], [*common, says("user", "other"), *other]
    assert shared_length(first, second) == shared_length(second, first) == len(common)
    assert shared_length(first, first) == len(first)


@given(messages(), st.integers(0, 10))
def test_renaming_call_ids_changes_no_history(history: list[Message], offset: int) -> None:
    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            ids = ("id", "tool_call_id")
            return {
                key: f"other-{offset}-{child}" if key in ids and isinstance(child, str) else renamed(child)
                for key, child in value.items()
                if key != "extra"
            }
        return [renamed(child) for child in value] if isinstance(value, list) else value

    plain = [{key: value for key, value in message.items() if key != "extra"} for message in history]
    assert shared_length(plain, renamed(plain)) == len(plain)


@given(messages())
def test_the_tail_is_what_follows_the_last_answer(history: list[Message]) -> None:
    body, tail = split_tail(history)
    assert body + tail == history
    assert not body or body[-1]["role"] == "assistant"
    assert all(message["role"] != "assistant" for message in tail)


def test_call_ids_are_those_of_calls_and_results() -> None:
    assert call_ids([says("user", "q"), CALL, result("c1", "r")]) == ["c1", "c1"]
    assert call_ids([{"role": "assistant", "tool_calls": "odd"}, {"role": "tool", "tool_call_id": 3}]) == []


def test_a_digest_takes_no_account_of_the_order_of_keys() -> None:
    assert content_digest({"a": 1, "b": 2}) == content_digest({"b": 2, "a": 1}) != content_digest({"a": 1, "b": 2.0})
