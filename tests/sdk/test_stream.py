"""Streams are put together as they go by, within bounds."""

from __future__ import annotations

from typing import Any

from tracemill.sdk import stream as stream_module
from tracemill.sdk.stream import Stream


def _fields(items: list[Any]) -> dict[str, Any]:
    stream = Stream()
    for item in items:
        stream.take(item)
    return stream.fields()


def _chunk(delta: dict[str, Any], **choice: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, **choice}]}


def test_chunks_of_a_chat_completion_with_tool_calls_and_usage() -> None:
    def call(**part: Any) -> dict[str, Any]:
        return _chunk({"tool_calls": [{"index": 0, **part}]})

    fields = _fields(
        [
            _chunk({"role": "assistant", "content": ""}),
            _chunk({"content": "let me "}),
            _chunk({"content": "look"}),
            call(id="call_1", function={"name": "search", "arguments": ""}),
            call(function={"arguments": '{"q":'}),
            call(function={"arguments": " 1}"}),
            _chunk({}, finish_reason="tool_calls"),
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9}},
        ]
    )
    assert fields["response"] == {
        "role": "assistant",
        "content": "let me look",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": '{"q": 1}'}},
        ],
    }
    assert (fields["finish_reason"], fields["input_tokens"], fields["output_tokens"]) == ("tool_calls", 3, 9)
    assert fields["extra"] == {"streamed_items": 8}


def test_text_and_other_things() -> None:
    fields = _fields(["a", {"content": "b"}, 7, {"event": "end"}])
    assert fields["response"]["content"] == "ab"
    assert fields["extra"] == {"streamed_items": 4, "stream": [7, {"event": "end"}]}


def test_what_goes_beyond_the_bounds_is_left_out_and_said_so(monkeypatch: Any) -> None:
    monkeypatch.setattr(stream_module, "MOST_CHARACTERS", 10)
    monkeypatch.setattr(stream_module, "MOST_OTHERS", 2)
    fields = _fields(["12345678", "90abc", "d"])
    assert (fields["response"]["content"], fields["truncated"]) == ("1234567890", True)
    assert _fields(["1234567890"]).get("truncated") is None
    assert _fields([1, 2, 3])["extra"] == {"streamed_items": 3, "stream": [1, 2]}
    assert _fields([1, 2, 3])["truncated"] is True


def test_hostile_chunks() -> None:
    odd = [
        {"choices": [None]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {"tool_calls": [{"index": "x"}, None, {"index": 0, "function": None}]}}]},
        None,
    ]
    assert _fields(odd)["extra"]["streamed_items"] == 4
