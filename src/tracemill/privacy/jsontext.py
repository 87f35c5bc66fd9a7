"""The values inside text that is JSON, by place, so that one can be replaced and every other letter stays as it was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|-?(?:\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|Infinity)|NaN|true|false|null|[{}\[\],:]|[ \t\r\n]+',
    re.DOTALL,
)


_REMEMBERED_LENGTH = 16 * 1024


@dataclass(slots=True)
class _Frame:
    """An object or array that is open. ``keys`` fills while the object is read."""

    is_object: bool
    keys: list[str] = field(default_factory=list)
    index: int = 0
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Leaf:
    """One string or number of a JSON text, or a key. ``start`` and ``end`` are of the token, quotes included."""

    start: int
    end: int
    value: str
    path: tuple[str, ...]
    quoted: bool
    is_key: bool
    siblings: list[str]


def looks_like_json(text: str) -> bool:
    """Whether a text is a whole JSON object or array."""
    bare = text.strip()
    if not (bare.startswith(("{", "[")) and bare.endswith(("}", "]"))):
        return False
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True


def read(text: str) -> Sequence[Leaf] | None:
    """The leaves of a text that is a whole JSON object or array; None of any other. Texts read lately are remembered."""
    return _remembered(text) if len(text) <= _REMEMBERED_LENGTH else _read(text)


def _read(text: str) -> Sequence[Leaf] | None:
    return leaves(text) if looks_like_json(text) else None


_remembered = lru_cache(maxsize=512)(_read)


def leaves(text: str) -> list[Leaf]:
    """The strings, numbers and keys of a text that :func:`looks_like_json`, in their order."""
    found: list[Leaf] = []
    frames: list[_Frame] = []
    expects_key = False
    for match in _TOKEN.finditer(text):
        token = match[0]
        first = token[0]
        if first in "{[":
            frames.append(_Frame(first == "{"))
            expects_key = first == "{"
        elif first in "}]":
            frames.pop()
        elif first == ",":
            top = frames[-1]
            top.index += 1
            expects_key = top.is_object
        elif first == ":":
            expects_key = False
        elif first == '"' or first in "-0123456789":
            quoted = first == '"'
            value = token[1:-1] if quoted else token
            if quoted and "\\" in token:
                value = str(json.loads(token))
            top = frames[-1]
            if expects_key:
                top.key = value
                top.keys.append(value)
            path = tuple(_step(frame) for frame in frames)
            found.append(Leaf(match.start(), match.end(), value, path, quoted, expects_key, top.keys))
    return found


def _step(frame: _Frame) -> str:
    return (frame.key or "") if frame.is_object else str(frame.index)


def replaced(text: str, change: Callable[[Leaf], str | None], found: Sequence[Leaf] | None = None) -> str:
    """The text with every leaf for which ``change`` gives a JSON token replaced by it; the text itself when none.

    ``found`` are its leaves where they are at hand.
    """
    pieces: list[str] = []
    at = 0
    for leaf in leaves(text) if found is None else found:
        token = change(leaf)
        if token is not None:
            pieces += (text[at : leaf.start], token)
            at = leaf.end
    return "".join([*pieces, text[at:]]) if pieces else text
