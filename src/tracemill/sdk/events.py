"""Chat events of any shape as messages in the OpenAI shape; nothing an event holds is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tracemill.core.records import Message

_TEXT_KEYS = ("content", "text", "message", "body")
_AUTHOR_KEYS = ("author", "user", "sender", "from", "name", "user_name", "username")
_ASSISTANTS = {"assistant", "ai", "bot", "agent", "model", "gpt"}
_ROLES = {"system", "developer", "user", "assistant", "tool"}


def to_messages(events: Any) -> list[Message]:
    """The messages of a list of chat events (one event alone is taken for a list of one).

    A mapping that has a ``role`` and is otherwise in the OpenAI shape is kept as it is. From others the text is taken from
    the first of ``content``, ``text``, ``message``, ``body``, and the role from ``role`` or the author; everything else
    stays in the message under ``event``.
    """
    if events is None:
        return []
    if isinstance(events, (str, Mapping)) or not isinstance(events, Iterable):
        events = [events]
    return [_message(event) for event in events]


def _message(event: Any) -> Message:
    if isinstance(event, str):
        return {"role": "user", "content": event}
    if not isinstance(event, Mapping):
        event = _fields_of(event)
    if event.get("role") in _ROLES and ("content" in event or "tool_calls" in event):
        return dict(event)
    text_key = next((key for key in _TEXT_KEYS if isinstance(event.get(key), (str, list))), None)
    message: Message = {"role": _role(event), "content": event.get(text_key) if text_key else None}
    author = next((event[key] for key in _AUTHOR_KEYS if isinstance(event.get(key), str)), None)
    if author is not None:
        message["name"] = author
    rest = {
        str(key): value
        for key, value in event.items()
        if key != text_key and not (key == "role" and message["role"] == value)
    }
    if rest:
        message["event"] = rest
    return message


def _role(event: Mapping[str, Any]) -> str:
    stated = event.get("role")
    if isinstance(stated, str):
        return "assistant" if stated.lower() in _ASSISTANTS else stated.lower() if stated.lower() in _ROLES else "user"
    if event.get("is_bot") is True or event.get("bot") is True:
        return "assistant"
    authors = (event.get(key) for key in _AUTHOR_KEYS)
    return "assistant" if any(isinstance(name, str) and name.lower() in _ASSISTANTS for name in authors) else "user"


def _fields_of(event: Any) -> dict[str, Any]:
    """The plain attributes of an object, without running any property of it."""
    fields = getattr(event, "__dict__", None)
    if isinstance(fields, dict) and fields:
        return {key: value for key, value in fields.items() if not key.startswith("_")}
    return {"event": event}
