"""Every text and number inside a record, with what its place says of it, and the record anew when one is replaced.

Nothing is changed in place: what has nothing to replace is the same object afterwards. Ids, times and words of fixed lists
stay as they are, and so does what links messages (call ids, roles, names of tools).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Set
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from tracemill.core.codec import MAX_DEPTH
from tracemill.core.errors import RecordError
from tracemill.core.policy import MARK
from tracemill.core.records import Channel, Feedback, Option, Step
from tracemill.privacy import jsontext
from tracemill.privacy.kinds_fields import kind_of, normal
from tracemill.privacy.wording import words

S = TypeVar("S", bound=Struct)
LINKS = frozenset(("conversation_id", "session_id", "trace_id", "response_id", "task_id"))
"""Fields by which records are joined: what they say of a person must be replaced in the same way everywhere."""
_FIXED = frozenset(
    words(
        "time schema_version producer sequence interaction_id step_id parent_id kind platform model "
        "model_requested experiment completion_status execution_mode annotator_kind "
        "purpose pseudonym key_id tool call_id type tools_used policy_version start_time end_time "
    )
)
_SAYING: dict[str, tuple[type[Struct], ...]] = {"id": (Channel,), "name": (Channel, Feedback, Option, Step)}
"""Whose ``id`` and ``name`` are what people wrote or are reached by; those of all else are words of the application."""
_FIXED_IN_MESSAGE = frozenset(("role", "tool_call_id", "type", "id"))
_TEXT_ONLY = frozenset(("tools",))
"""Fields in which a key describes a value that is not there, as in a schema."""


class Place(NamedTuple):
    """Where a leaf is. ``kind`` is what the keys around it say it is; ``link`` that records are joined by it."""

    pointer: str
    kind: str | None = None
    link: bool = False
    is_key: bool = False


Leaf = Callable[[Any, Place], Any]
"""Takes a text or number and its place, and gives what stands there from now on (the same object: nothing changes)."""


class _Around(NamedTuple):
    """The keys around a value, the nearest first, and those beside it. ``telling``: keys say what values are."""

    keys: tuple[str, ...] = ()
    siblings: frozenset[str] = frozenset()
    telling: bool = True

    def kind(self) -> str | None:
        if not self.telling or not self.keys:
            return None
        return kind_of(self.keys[0], self.keys[1:3], self.siblings)


def walk(record: S, leaf: Leaf) -> S:
    """The record with every leaf replaced. Raises RecordError (``too_deep``) for one nested deeper than any reader takes."""
    return _struct(record, "", leaf)


def walk_text(text: str, leaf: Leaf) -> str:
    """A text with every leaf replaced: the values inside where it is JSON, else the text itself."""
    return _text(text, "", leaf, _Around())


def _struct(value: S, pointer: str, leaf: Leaf) -> S:
    changes: dict[str, Any] = {}
    for name in value.__struct_fields__:
        old = getattr(value, name)
        if old is None or (name in ("id", "name") and not isinstance(value, _SAYING.get(name, ()))) or name in _FIXED:
            continue
        place = f"{pointer}/{name}"
        if name in LINKS or name == "id":
            new = leaf(old, Place(place, link=True)) if isinstance(old, str) else old
        elif name == "raw_id":
            new = leaf(old, Place(place, "username"))
        elif name in ("messages", "response"):
            new = _messages(old, place, leaf)
        elif name == "usage":
            new = _dictionary(old, place, _but_counts(leaf), _Around(), 0)
        elif name == "extra":
            new = _dictionary(old, place, leaf, _Around(), 0, kept=frozenset((MARK,)))
        else:
            new = _value(old, place, leaf, _Around(telling=name not in _TEXT_ONLY), 0)
        if new is not old:
            changes[name] = new
    return msgspec.structs.replace(value, **changes) if changes else value


def _but_counts(leaf: Leaf) -> Leaf:
    """A leaf that leaves numbers alone of which no key says that they are a person's: a count may equal one by chance."""
    return lambda value, place: value if place.kind is None and not isinstance(value, str) else leaf(value, place)


def _messages(value: Any, pointer: str, leaf: Leaf) -> Any:
    if isinstance(value, dict):
        return _message(value, pointer, leaf)
    new = [
        _message(one, f"{pointer}/{index}", leaf) if isinstance(one, dict) else one for index, one in enumerate(value)
    ]
    return new if _differs(new, value) else value


def _message(message: dict[str, Any], pointer: str, leaf: Leaf) -> dict[str, Any]:
    """A message. The name beside a user's text is the user's; beside a tool's result it is the tool's."""
    kept = _FIXED_IN_MESSAGE | (frozenset() if message.get("role") == "user" else frozenset(("name",)))
    named = message.get("name")
    new = _dictionary(message, pointer, leaf, _Around(), 0, kept=kept | {"name", "tool_calls", "function_call"})
    changes: dict[str, Any] = {}
    if "name" not in kept and isinstance(named, str):
        changes["name"] = leaf(named, Place(f"{pointer}/name", "person_name"))
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        changes["tool_calls"] = [_call(one, f"{pointer}/tool_calls/{index}", leaf) for index, one in enumerate(calls)]
    if isinstance(message.get("function_call"), dict):
        changes["function_call"] = _function(message["function_call"], f"{pointer}/function_call", leaf)
    changes = {key: child for key, child in changes.items() if _differs(child, message[key])}
    return {**new, **changes} if changes else new


def _call(call: Any, pointer: str, leaf: Leaf) -> Any:
    if not isinstance(call, dict):
        return _value(call, pointer, leaf, _Around(), 0)
    new = _dictionary(call, pointer, leaf, _Around(), 0, kept=frozenset(("id", "type", "function")))
    function = call.get("function")
    if isinstance(function, dict):
        changed = _function(function, f"{pointer}/function", leaf)
        return {**new, "function": changed} if changed is not function else new
    return new


def _function(function: dict[str, Any], pointer: str, leaf: Leaf) -> dict[str, Any]:
    return _dictionary(function, pointer, leaf, _Around(), 0, kept=frozenset(("name",)))


def _value(value: Any, pointer: str, leaf: Leaf, around: _Around, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise RecordError("too_deep", f"nested deeper than {MAX_DEPTH} levels at {pointer[:200]}")
    if isinstance(value, str):
        return _text(value, pointer, leaf, around)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return leaf(value, Place(pointer, around.kind()))
    if isinstance(value, dict):
        return _dictionary(value, pointer, leaf, around, depth)
    if isinstance(value, (list, tuple)):
        new = [_value(one, f"{pointer}/{index}", leaf, around, depth + 1) for index, one in enumerate(value)]
        return new if _differs(new, value) else value
    return _struct(value, pointer, leaf) if isinstance(value, Struct) else value


def _dictionary(
    value: dict[str, Any], pointer: str, leaf: Leaf, around: _Around, depth: int, *, kept: frozenset[str] = frozenset()
) -> dict[str, Any]:
    siblings = frozenset(map(normal, value))
    new: dict[str, Any] = {}
    changed = False
    for key, child in value.items():
        name = key if key in kept else leaf(key, Place(pointer, is_key=True))
        name = _free(name, new.keys() | value.keys()) if name != key else key
        inner = _Around((key, *around.keys), siblings, around.telling)
        place = f"{pointer}/{_part(name)}"
        new[name] = child if key in kept else _value(child, place, leaf, inner, depth + 1)
        changed = changed or name != key or new[name] is not child
    return new if changed else value


def _free(name: str, taken: Set[str]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _text(text: str, pointer: str, leaf: Leaf, around: _Around) -> str:
    """A text: as JSON where it is JSON, so that it stays that, else as it is."""
    if text[:1] in "{[ \n\t" and (found := jsontext.read(text)) is not None:
        inside = _Inside(pointer + "#", leaf, around)
        return jsontext.replaced(text, lambda one: inside.token(text, one), found)
    return str(leaf(text, Place(pointer, around.kind()))) if text else text


class _Inside:
    """One text that is JSON while it is read; remembers which keys have other names now."""

    def __init__(self, pointer: str, leaf: Leaf, around: _Around) -> None:
        self._pointer = pointer
        self._leaf = leaf
        self._around = around
        self._names: dict[tuple[str, ...], str] = {}

    def token(self, text: str, one: jsontext.Leaf) -> str | None:
        """The token that stands for a leaf from now on; None where it stays."""
        old = one.value if one.quoted else _number(one.value)
        new = self._key(one) if one.is_key else self._value(old, one)
        return None if new == old else json.dumps(new, ensure_ascii=text[one.start : one.end].isascii())

    def _key(self, one: jsontext.Leaf) -> str:
        new = str(self._leaf(one.value, Place(self._place(one.path[:-1]), is_key=True)))
        if new != one.value:
            siblings = {name for path, name in self._names.items() if path[:-1] == one.path[:-1]}
            new = _free(new, siblings.union(one.siblings))
            self._names[one.path] = new
        return new

    def _value(self, old: Any, one: jsontext.Leaf) -> Any:
        place = self._place(one.path)
        keys = tuple(part for part in reversed(one.path) if not part.isdigit())
        inner = _Around((*keys, *self._around.keys), frozenset(map(normal, one.siblings)), self._around.telling)
        if isinstance(old, str) and jsontext.looks_like_json(old):
            return _text(old, place, self._leaf, inner)
        return self._leaf(old, Place(place, inner.kind()))

    def _place(self, path: tuple[str, ...]) -> str:
        parts = (self._names.get(path[: index + 1], part) for index, part in enumerate(path))
        return self._pointer + "".join(f"/{_part(part)}" for part in parts)


def _number(token: str) -> int | float:
    return float(token) if any(sign in token for sign in ".eENI") else int(token)


def _part(text: str) -> str:
    return text.replace("~", "~0").replace("/", "~1")


def _differs(new: Any, old: Any) -> bool:
    if isinstance(new, list):
        return len(new) != len(old) or any(one is not other for one, other in zip(new, old, strict=True))
    return new is not old
