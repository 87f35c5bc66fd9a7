"""Chat events of any shape become messages; what they say about themselves is kept apart, without raw ids."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies
from tracemill.sdk.events import read_events, to_messages


def pseudonym(raw: str | int) -> str:
    return f"<{len(str(raw))} letters>"


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "hi"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "so"},
        {"role": "tool", "tool_call_id": "c", "name": "f", "content": "1", "cache_control": {"type": "ephemeral"}},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "user", "content": "hi", "name": "ada"},
    ],
)
def test_messages_of_the_openai_shape_stay_what_they_are(message: dict[str, Any]) -> None:
    read = read_events([message], pseudonym)
    assert read.messages == [message]
    assert read.messages[0] is not message, "the application may go on changing its own"
    assert read.about == []


@pytest.mark.parametrize(
    ("event", "message", "about"),
    [
        ("hello", {"role": "user", "content": "hello"}, {}),
        ({"author": "ada", "text": "hi"}, {"role": "user", "content": "hi", "name": "ada"}, {}),
        (
            {"author": {"id": 7, "name": "ada", "avatar": "a.png"}, "content": "hi", "attachments": []},
            {"role": "user", "content": "hi", "name": "ada"},
            {"author": {"avatar": "a.png"}, "attachments": [], "author_id": "<1 letters>"},
        ),
        ({"author": {"id": 7, "bot": True}, "content": "hi"}, {"role": "assistant", "content": "hi"}, None),
        (
            {"type": "message", "user": "U024BE7LH", "text": "hi", "ts": "1355517523.000005"},
            {"role": "user", "content": "hi", "name": "user-<9 lette"},
            {"type": "message", "ts": "1355517523.000005", "author_id": "<9 letters>"},
        ),
        (
            {"role": "user", "content": "hi", "timestamp": "2024-01-15T10:30:00Z", "user_id": "ada@example.com"},
            {"role": "user", "content": "hi"},
            {"timestamp": "2024-01-15T10:30:00Z", "user_id": "<15 letters>"},
        ),
        ({"from": "gpt", "value": "yes"}, {"role": "assistant", "content": "yes"}, {}),
        ({"from": "human", "value": "no?"}, {"role": "user", "content": "no?"}, {}),
        (
            {"type": "ai", "content": "", "tool_calls": [{"name": "f", "args": {"x": 1}, "id": "c"}]},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}],
            },
            {},
        ),
        (
            {"type": "tool", "content": "1", "tool_call_id": "c"},
            {"role": "tool", "content": "1", "tool_call_id": "c"},
            {},
        ),
        (
            {"update_id": 5, "message": {"from": {"id": 9, "first_name": "Ada"}, "text": "hi", "date": 1700000000}},
            {"role": "user", "content": "hi", "name": "Ada"},
            {"update_id": 5, "date": 1700000000, "author_id": "<1 letters>"},
        ),
        ({"role": "narrator", "content": "x"}, {"role": "user", "content": "x"}, {"role": "narrator"}),
        ({"text": 5}, {"role": "user", "content": None}, {"text": 5}),
        (7, {"role": "user", "content": None}, {"event": 7}),
    ],
)
def test_events_of_other_shapes(event: Any, message: dict[str, Any], about: dict[str, Any] | None) -> None:
    read = read_events([event], pseudonym)
    assert read.messages == [message]
    if about is not None:
        assert read.about == ([{"index": 0, **about}] if about else [])


def test_objects_are_read_by_their_fields() -> None:
    @dataclass
    class Said:
        role: str
        content: str

    class Struct(msgspec.Struct):
        author: str
        text: str

    class Plain:
        def __init__(self) -> None:
            self.text, self._secret = "three", "x"

        @property
        def costly(self) -> str:
            raise AssertionError("a property was run")

    class Pydantic:
        def model_dump(self) -> dict[str, Any]:
            return {"role": "assistant", "content": "four"}

    read = read_events([Said("system", "one"), Struct("ada", "two"), Plain(), Pydantic()], pseudonym)
    assert read.messages == [
        {"role": "system", "content": "one"},
        {"role": "user", "content": "two", "name": "ada"},
        {"role": "user", "content": "three"},
        {"role": "assistant", "content": "four"},
    ]


def test_one_event_alone_any_collection_and_none() -> None:
    message = {"role": "user", "content": "x"}
    assert (
        to_messages(message)
        == to_messages("x")
        == to_messages(deque([message]))
        == to_messages((message,))
        == [message]
    )
    assert to_messages(None) == to_messages([]) == []


def test_a_generator_of_the_application_is_not_read() -> None:
    def items() -> Iterator[str]:
        yield "mine"

    running = items()
    assert to_messages(running)[0]["content"] is None
    assert next(running) == "mine"


def test_indexes_count_on_from_where_the_messages_begin() -> None:
    assert read_events(["a", {"text": "b", "ts": 1}], pseudonym, start=3).about == [{"index": 4, "ts": 1}]


@given(st.lists(strategies.json_values, max_size=4))
def test_any_list_gives_a_message_for_each_item_and_loses_no_text(events: list[Any]) -> None:
    read = read_events(events, pseudonym)
    assert len(read.messages) == len(events)
    assert all(
        message["role"] in ("user", "assistant", "system", "developer", "tool", "function") for message in read.messages
    )
    for event, message in zip(events, read.messages, strict=True):
        if isinstance(event, str):
            assert message["content"] == event
