"""What Lightspeed's clients are answered: one JSON object, or events of a stream.

A stream's event is ``data: {"event": …, "data": …}`` and an empty line, without a line that names the event. Clients that
ask for ``text/plain`` get the bare text instead, and little around it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from tracemill.capture.lightspeed.schemas import TEXT
from tracemill.capture.lightspeed.turns import Answer
from tracemill.core.records import Interaction

EVENT_STREAM = "text/event-stream"


def query_answer(turn: Interaction, answer: Answer, shown: str) -> dict[str, Any]:
    """The body of ``/query``. There is no retrieval here, so no chunks or documents; nor are there quotas."""
    return {
        "conversation_id": turn.conversation_id,
        "response": shown,
        "rag_chunks": [],
        "referenced_documents": [],
        "truncated": False,
        "input_tokens": answer.input_tokens or 0,
        "output_tokens": answer.output_tokens or 0,
        "available_quotas": {},
        "tool_calls": tool_calls(answer),
        "tool_results": [],
    }


def tool_calls(answer: Answer) -> list[dict[str, Any]]:
    """The calls the model asked for, in Lightspeed's shape."""
    calls = []
    for call in answer.tool_calls:
        function = call.get("function")
        named: Mapping[str, Any] = function if isinstance(function, dict) else {}
        calls.append(
            {
                "id": str(call.get("id") or ""),
                "name": str(named.get("name") or ""),
                "args": _arguments(named.get("arguments")),
                "type": "tool_call",
            }
        )
    return calls


def _arguments(value: Any) -> dict[str, Any]:
    """Arguments as an object; what is none, or text that is no JSON, stands under ``arguments``."""
    if isinstance(value, str):
        try:
            parsed = msgspec.json.decode(value) if value.strip() else {}
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            parsed = value
    else:
        parsed = {} if value is None else value
    return parsed if isinstance(parsed, dict) else {"arguments": parsed}


class Frames:
    """Writes a stream's events as bytes, numbering its tokens from 0. Empty bytes mean that there is nothing to send."""

    def __init__(self, *, as_text: bool) -> None:
        self._as_text = as_text
        self._next = 0

    @property
    def media_type(self) -> str:
        """The stream's content type."""
        return f"{TEXT if self._as_text else EVENT_STREAM}; charset=utf-8"

    def start(self, conversation_id: str, request_id: str) -> bytes:
        """The first event."""
        return self._event("start", {"conversation_id": conversation_id, "request_id": request_id})

    def token(self, piece: str) -> bytes:
        """A piece of text."""
        return self._event("token", {"id": self._number(), "token": piece}, piece)

    def tool_call(self, call: dict[str, Any]) -> bytes:
        """A call the model asked for."""
        return self._event("tool_call", call, f"[Tool Call: {call['name']}]\n")

    def turn_complete(self, whole: str) -> bytes:
        """The whole text again."""
        return self._event("turn_complete", {"id": self._number(), "token": whole})

    def interrupted(self, request_id: str) -> bytes:
        """The last event of a stream its reader stopped."""
        return self._event("interrupted", {"request_id": request_id})

    def error(self, status: int, response: str, cause: str) -> bytes:
        """What went wrong after the stream began."""
        data = {"status_code": status, "response": response, "cause": cause}
        return self._event("error", data, f"Status: {status} - {response} - {cause}")

    def end(self, answer: Answer) -> bytes:
        """The last event of a stream that went well. The quotas stand beside the data."""
        data: dict[str, Any] = {
            "referenced_documents": [],
            "truncated": None,
            "input_tokens": answer.input_tokens or 0,
            "output_tokens": answer.output_tokens or 0,
        }
        return self._event("end", data, available_quotas={})

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def _event(self, event: str, data: dict[str, Any], text: str = "", **beside: Any) -> bytes:
        if self._as_text:
            return text.encode()
        # Escaped to ASCII, byte for byte as the service does: readers of lines take more than a line feed for their end.
        return b"data: " + json.dumps({"event": event, "data": data, **beside}).encode() + b"\n\n"
