"""What a streamed answer amounts to, put together as it goes by and kept within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracemill.core.records import Message
from tracemill.sdk.events import fields_of
from tracemill.sdk.prediction import usage_fields

MOST_CHARACTERS = 1_000_000
"""Text of a streamed answer that is kept; beyond it the interaction is marked as truncated."""
MOST_OTHERS = 1_000
"""Items that are neither text nor a chat completion's chunk and are kept as they are."""


class Stream:
    """Gathers pieces of text and chunks of a chat completion (OpenAI's ``choices[0].delta``) into one message."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._others: list[Any] = []
        self._room = MOST_CHARACTERS
        self._fields: dict[str, Any] = {}
        self._truncated = False
        self.items = 0

    def take(self, item: Any) -> None:
        """Take note of one item that went by."""
        self.items += 1
        if isinstance(item, str):
            self._add_text(item)
            return
        fields = fields_of(item)
        choices = fields.get("choices")
        if isinstance(choices, list):
            self._fields.update(usage_fields(fields.get("usage")))
            for choice in choices[:1]:
                self._add_choice(fields_of(choice))
        elif isinstance(fields.get("content"), str):
            self._add_text(fields["content"])
        elif len(self._others) < MOST_OTHERS:
            self._others.append(item)
        else:
            self._truncated = True

    def fields(self) -> dict[str, Any]:
        """The fields of an Interaction that the stream amounts to."""
        fields = dict(self._fields)
        extra: dict[str, Any] = {"streamed_items": self.items}
        if self._texts or self._calls:
            message: Message = {"role": "assistant", "content": "".join(self._texts) or None}
            if self._calls:
                message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
            fields["response"] = message
        if self._others:
            extra["stream"] = self._others
        if self._truncated:
            fields["truncated"] = True
        return {**fields, "extra": extra}

    def _add_text(self, text: str) -> None:
        kept = text[: self._room]
        if kept:
            self._texts.append(kept)
        self._room -= len(kept)
        self._truncated = self._truncated or len(kept) < len(text)

    def _add_choice(self, choice: Mapping[str, Any]) -> None:
        if choice.get("finish_reason") is not None:
            self._fields["finish_reason"] = choice["finish_reason"]
        delta = fields_of(choice.get("delta"))
        if isinstance(delta.get("content"), str):
            self._add_text(delta["content"])
        calls = delta.get("tool_calls")
        for given in calls if isinstance(calls, list) else []:
            self._add_call(fields_of(given))

    def _add_call(self, part: Mapping[str, Any]) -> None:
        index = part.get("index")
        if not isinstance(index, int) or len(self._calls) >= MOST_OTHERS:
            self._truncated = True
            return
        call = self._calls.setdefault(
            index, {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = part.get("id") or call["id"]
        function = fields_of(part.get("function"))
        call["function"]["name"] += function.get("name") or ""
        arguments = (function.get("arguments") or "")[: self._room]
        call["function"]["arguments"] += arguments
        self._room -= len(arguments)
