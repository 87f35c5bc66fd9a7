"""Chat events of any shape as messages in the OpenAI shape; nothing an event holds is lost.

What an event says goes into the message. What it says about itself (who wrote it, when, where) goes to a list of its own,
since a trainer's chat format has no place for it. Ids of people are made pseudonyms on the way; names stay, as they are
part of what the model was given to read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from tracemill.core.records import Message

Identify: TypeAlias = Callable[[str | int], str]
"""Gives what is written instead of a person's raw id."""

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_ROLE_WORDS = {
    **{role: role for role in _ROLES},
    **dict.fromkeys(("human", "customer", "client", "visitor"), "user"),
    **dict.fromkeys(("ai", "bot", "agent", "model", "gpt", "chatgpt", "function_call"), "assistant"),
    "observation": "tool",
}
_TEXTS = ("content", "text", "message", "body", "value")
_PEOPLE = ("author", "user", "sender", "from")
_ID_KEYS = frozenset({"user_id", "author_id", "sender_id", "from_id", "email", "user_email"})
_NAMES = ("display_name", "global_name", "name", "username", "user_name", "author_name", "sender_name", "first_name")
_ABOUT = frozenset(
    {
        *(*_PEOPLE, *_ID_KEYS, "username", "user_name", "author_name", "sender_name"),
        *(
            "timestamp",
            "time",
            "ts",
            "created_at",
            "sent_at",
            "date",
            "message_id",
            "event_id",
            "chat_id",
            "channel_id",
        ),
    }
)
"""Keys of a message that say something about it rather than in it."""


@dataclass(slots=True)
class Conversation:
    """Messages, and what their events said about themselves: ``about`` has an entry ``{"index": …, …}`` for each that did."""

    messages: list[Message] = field(default_factory=list)
    about: list[dict[str, Any]] = field(default_factory=list)


def to_messages(events: Any) -> list[Message]:
    """The messages of :func:`read_events` alone."""
    return read_events(events, str).messages


def read_events(events: Any, identify: Identify, *, start: int = 0) -> Conversation:
    """The messages of a list of chat events; one event alone is taken for a list of one.

    A mapping with a ``role`` is kept as it is, apart from the keys that say who, when and where. From any other, text is
    taken from ``content``, ``text``, ``message``, ``body`` or ``value``, and the role from its author or its ``type`` (as
    LangChain and ShareGPT have it). Objects are read by their fields; no property of them is run. ``start`` is the index
    of the first message among those that ``about`` counts.
    """
    read = Conversation()
    if events is None:
        return read
    if type(events) is not list and (isinstance(events, (str, bytes, Mapping)) or not isinstance(events, Collection)):
        events = [events]  # a generator too: reading it would take its items from the application
    for index, event in enumerate(events, start):
        if type(event) is dict and _ABOUT.isdisjoint(event) and _is_message(event):
            read.messages.append(event.copy())  # as nearly all are
            continue
        message, about = _message(event, identify)
        read.messages.append(message)
        if about:
            read.about.append({"index": index, **about})
    return read


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a mapping or an object, without running any property of it; empty where it has none.

    pydantic models dump themselves; a DSPy Prediction keeps its fields in ``_store``.
    """
    if isinstance(value, Mapping):
        return {key if type(key) is str else str(key): child for key, child in value.items()}
    if isinstance(value, (type, str, bytes, int, float, list, tuple, set, frozenset)):
        return {}
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if dataclasses.is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if callable(getattr(type(value), "model_dump", None)):
        dumped = value.model_dump()
        return dumped if isinstance(dumped, dict) else {}
    inner = getattr(value, "__dict__", None)
    if isinstance(inner, dict):
        store = inner.get("_store")
        if isinstance(store, Mapping):
            return {str(key): child for key, child in store.items()}
        return {key: child for key, child in inner.items() if not key.startswith("_")}
    return {}


def _message(event: Any, identify: Identify) -> tuple[Message, dict[str, Any]]:
    if isinstance(event, str):
        return {"role": "user", "content": event}, {}
    fields = event.copy() if type(event) is dict else fields_of(event)
    if not fields:
        return {"role": "user", "content": None}, {"event": event}
    if _is_message(fields):
        about = {key: fields.pop(key) for key in list(fields) if key in _ABOUT}
        return fields, _author(about, identify, keep_names=True)[2]
    return _foreign(fields, identify)


def _is_message(fields: Mapping[str, Any]) -> bool:
    role = fields.get("role")
    if type(role) is not str or role not in _ROLES:
        return False
    return "content" in fields or "tool_calls" in fields or "function_call" in fields


def _foreign(fields: dict[str, Any], identify: Identify) -> tuple[Message, dict[str, Any]]:
    """A message of an event that is none in the OpenAI shape."""
    inner = fields.get("message")
    if isinstance(inner, Mapping) and not any(isinstance(fields.get(key), (str, list)) for key in _TEXTS):
        wrapped, about = _message(dict(inner), identify)  # an update that wraps its message, as Telegram's
        del fields["message"]
        return wrapped, {**_author(fields, identify, keep_names=True)[2], **about}
    key = next((key for key in _TEXTS if isinstance(fields.get(key), (str, list))), None)
    content = fields.pop(key) if key is not None else None
    stated = _word(fields.get("role")) or _word(fields.get("type"))
    if stated is not None:
        fields.pop("role" if _word(fields.get("role")) else "type")
    elif fields.get("role") is None:
        fields.pop("role", None)
    calls = _tool_calls(fields.get("tool_calls"))
    if calls:
        del fields["tool_calls"]
    answered = fields.pop("tool_call_id", None)
    name, role, about = _author(fields, identify)
    message: Message = {"role": stated or role or "user", "content": content}
    if name is not None:
        message["name"] = name
    if calls:
        message["tool_calls"] = calls
    if answered is not None:
        message["tool_call_id"] = answered
    return message, about


def _word(value: Any) -> str | None:
    """The role a word stands for, or None."""
    return _ROLE_WORDS.get(value.lower()) if isinstance(value, str) else None


def _author(
    about: dict[str, Any], identify: Identify, *, keep_names: bool = False
) -> tuple[str | None, str | None, dict[str, Any]]:
    """Name and role of whoever wrote an event, and what it says about itself with people's ids made pseudonyms.

    With ``keep_names`` the name stays among the latter, since nothing else will hold it.
    """
    name, role, identity = None, None, None
    rest: dict[str, Any] = {}
    for key, value in about.items():
        if key in _PEOPLE and value is not None:
            person = _person(key, value, identify)
            name, role, identity = name or person.name, role or person.role, identity or person.identity
            if keep_names and person.name is not None:
                person.rest["name"] = person.name
            if person.rest:
                rest[key] = person.rest
        elif key in _ID_KEYS and isinstance(value, (str, int)):
            rest[key] = identity = identify(value)
        elif key in ("bot", "is_bot") and value is True:
            role, rest[key] = "assistant", value
        elif key in _NAMES and isinstance(value, str) and name is None and not keep_names:
            name = value
        elif value is not None:
            rest[key] = value
    if identity is not None and not {*_ID_KEYS} & rest.keys():
        rest["author_id"] = identity
    if name is None and identity is not None and role != "assistant":
        name = f"user-{identity[:8]}"
    return name, role, rest


@dataclass(slots=True)
class _Person:
    name: str | None = None
    role: str | None = None
    identity: str | None = None
    rest: dict[str, Any] = field(default_factory=dict)


def _person(key: str, value: Any, identify: Identify) -> _Person:
    """Who stands under a key such as ``author``: a name, an id, a role, or an object with all of these."""
    if isinstance(value, str) and _word(value) is not None:
        return _Person(role=_word(value))
    if isinstance(value, str) and key == "author":
        return _Person(name=value)
    if isinstance(value, (str, int)):
        return _Person(identity=identify(value))  # what stands under `user` is an id in Slack and elsewhere
    left = fields_of(value)
    if not left:
        return _Person(rest={"value": value})
    person = _Person()
    for name in ("id", *sorted(_ID_KEYS)):
        if isinstance(left.get(name), (str, int)):
            person.identity = identify(left.pop(name))
            break
    person.name = next((left.pop(name) for name in _NAMES if isinstance(left.get(name), str)), None)
    if left.get("bot") is True or left.get("is_bot") is True:
        person.role = "assistant"
    person.rest = {name: child for name, child in left.items() if child is not None}
    return person


def _tool_calls(calls: Any) -> list[dict[str, Any]] | None:
    """Tool calls in the OpenAI shape, of that shape or of LangChain's ``{name, args, id}``; None when there are none."""
    if not isinstance(calls, list) or not calls or not all(isinstance(call, Mapping) for call in calls):
        return None
    return [
        dict(call)
        if "function" in call
        else {
            "id": call.get("id"),
            "type": "function",
            "function": {"name": call.get("name"), "arguments": _arguments(call.get("args", call.get("arguments")))},
        }
        for call in calls
    ]


def _arguments(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
