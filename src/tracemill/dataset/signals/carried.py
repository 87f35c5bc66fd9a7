"""An artifact inside an answer: where it stands there, and the same answer with another artifact in its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tracemill.core.records import Message
from tracemill.dataset.history import content_digest

_ATTEMPTS = 200
"""Places in a text at which an artifact is looked for at most."""
_STYLES: tuple[dict[str, Any], ...] = tuple(
    {"ensure_ascii": escaped, **layout}
    for escaped in (False, True)
    for layout in (
        {},
        {"separators": (",", ":")},
        {"indent": 2},
        {"indent": 4},
        {"indent": 1},
        {"indent": 3},
        {"indent": "\t"},
    )
)
_decoder = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Carried:
    """An answer with its artifact exchanged, and how the answer carried it: ``in_text`` or ``in_tool_call``."""

    message: Message
    how: str


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal whatever the order of keys; 1, 1.0 and true are three values."""
    return content_digest(one) == content_digest(other)


def exchange(answer: Message, original: Any, edited: Any) -> Carried | None:
    """The answer with ``edited`` where it carries ``original``, written in the same style; None where it does not."""
    content = answer.get("content")
    if isinstance(content, str) and (text := _in_text(content, original, edited)) is not None:
        return Carried({**answer, "content": text}, "in_text")
    if isinstance(content, list):
        for at, part in enumerate(content):
            if not isinstance(part, dict) or not isinstance(part.get("text"), str):
                continue
            if (text := _in_text(part["text"], original, edited)) is not None:
                parts = [*content[:at], {**part, "text": text}, *content[at + 1 :]]
                return Carried({**answer, "content": parts}, "in_text")
    calls = answer.get("tool_calls")
    calls = calls if isinstance(calls, list) else []
    for at, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            continue
        arguments = _in_arguments(function.get("arguments"), original, edited)
        if arguments is not None:
            changed = {**call, "function": {**function, "arguments": arguments}}
            return Carried({**answer, "tool_calls": [*calls[:at], changed, *calls[at + 1 :]]}, "in_tool_call")
    return None


def written(artifact: Any) -> str:
    """An artifact as the text of an answer: JSON, or the text itself when it is one."""
    return artifact if isinstance(artifact, str) else json.dumps(artifact, ensure_ascii=False)


def _in_text(content: str, original: Any, edited: Any) -> str | None:
    if isinstance(original, str):
        if not original or not isinstance(edited, str) or content.count(original) != 1:
            return None
        return content.replace(original, edited)
    for start, end, value in _values(content, original):
        if same(value, original):
            return content[:start] + _styled(content[start:end], value, edited) + content[end:]
    return None


def _values(content: str, original: Any) -> Iterator[tuple[int, int, Any]]:
    """Every JSON value in a text that may be the artifact, with its place."""
    for attempt, match in enumerate(re.finditer(_opening(original), content)):
        if attempt >= _ATTEMPTS:
            return
        try:
            value, end = _decoder.raw_decode(content, match.start())
        except (ValueError, RecursionError):
            continue
        yield match.start(), end, value


def _opening(original: Any) -> str:
    """A pattern for where the artifact may begin: at a brace that one of its keys follows, or at a bracket."""
    if isinstance(original, dict) and original:
        keys = {re.escape(json.dumps(key, ensure_ascii=escaped)) for key in original for escaped in (False, True)}
        return r"\{\s*(?:" + "|".join(sorted(keys)) + r")\s*:"
    return r"\[" if isinstance(original, list) else r"\{\s*\}"


def _styled(span: str, value: Any, edited: Any) -> str:
    """The edited value in the style in which the original one was written."""
    for style in _STYLES:
        if json.dumps(value, **style) == span:
            return json.dumps(edited, **style)
    return json.dumps(edited, ensure_ascii=False, indent=2 if "\n" in span else None)


def _in_arguments(arguments: Any, original: Any, edited: Any) -> Any:
    if not isinstance(arguments, str):
        return _in_object(arguments, original, edited)
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):
        return None
    changed = _in_object(parsed, original, edited)
    return None if changed is None else _styled(arguments, parsed, changed)


def _in_object(value: Any, original: Any, edited: Any) -> Any:
    """The object with the edited artifact: the object itself, or one of its fields."""
    if not isinstance(value, dict):
        return None
    if same(value, original):
        return edited
    for key, child in value.items():
        if same(child, original):
            return {**value, key: edited}
    return None
