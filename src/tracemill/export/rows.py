"""What a row of any format is made with: the dialect of its messages, and the list of what it cannot hold.

An example becomes a row in two steps. First its messages are put into the format's :class:`Dialect`: which fields they
have, what form arguments and call ids take. Formats that are messages end here. For others, ``fold`` puts the result into
their own shape and ``unfold`` reads it out of that shape again; the check of a written row is built on ``unfold``.

A row that would say something else than its example is not made: :class:`RefusedError` says why. Fields that are null or empty
are left out and not counted as lost; a JSON Lines row says nothing by them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec

from tracemill.core.examples import (
    Example,
    LabelledExample,
    PreferenceExample,
    RewardExample,
    SupervisedExample,
)
from tracemill.core.records import Message
from tracemill.dataset.history import call_ids
from tracemill.export.call_ids import in_order, of_nine
from tracemill.export.loader import as_loaded
from tracemill.export.losses import Lost, RefusedError, is_empty, pointer

INTEGER_RANGE = range(-(2**63), 2**64)
"""Integers that readers of JSON Lines hold; beyond it, one number makes ``datasets`` refuse the whole file."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a format does to messages. ``fields`` are those a message may have (None: all of them).

    ``arguments`` of tool calls: ``text`` as captured, ``object`` parsed, ``object text`` as captured but refused where the
    text means no object. ``plain``: content is text only, a developer message is a system message, and content that is
    null is left out. ``ids`` of tool calls: ``kept``, ``nine`` (nine letters and digits, as Mistral's) or ``order`` (the
    format has none: results follow in the order of their calls).
    """

    fields: frozenset[str] | None
    arguments: Literal["text", "object", "object text"] = "text"
    plain: bool = False
    ids: Literal["kept", "nine", "order"] = "kept"


Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Format:
    """A format: the examples it is made of, how messages are put, and where a row holds which field of the example.

    ``sides`` are the fields with messages; ``ends_with_answer`` says that each of them but the prompt must.
    ``conversations`` are the combinations of sides that a trainer sees as one conversation. ``columns`` are the top-level
    fields of a row with their types as the header of a Hugging Face card names them; ``optional`` those that a row may
    lack, ``marked`` those that only rows made of others have. ``fold`` and ``unfold`` are each other's inverse (see the
    module); ``texts`` are formats that pick texts out of a conversation, which nothing can unfold. ``summary`` is for people.
    """

    name: str
    summary: str
    example: type[Any]
    dialect: Dialect
    sides: tuple[str, ...]
    conversations: tuple[tuple[str, ...], ...]
    columns: Mapping[str, str]
    optional: Mapping[str, str]
    marked: Mapping[str, str] = field(default_factory=dict)
    values: tuple[str, ...] = ()
    ends_with_answer: bool = True
    marks_parallel_calls: bool = False
    fold: Callable[[Row, list[Lost]], Row] | None = None
    unfold: Callable[[Row], Row] | None = None
    texts: bool = False

    def row(self, example: Example) -> tuple[Row, list[Lost]]:
        """The row of an example and what it lacks. Raises RefusedError."""
        lost: list[Lost] = []
        row: Row = {}
        for side in self.sides:
            messages = getattr(example, side)
            row[side] = [_message(message, f"/{side}/{at}", self.dialect, lost) for at, message in enumerate(messages)]
        if self.fold is not None:
            _check_foldable(row, self.sides, self.dialect)
        if self.dialect.ids != "kept":
            rename = in_order if self.dialect.ids == "order" else of_nine
            row = rename(row, self.sides, lost)
        for name in self.values:
            if (value := value_of(example, name)) is not None:
                row[name] = value
        if example.tools:
            row["tools"] = example.tools
            if self.dialect.plain:
                _check_numbers(example.tools, "/tools", lost)
        lost.extend(entry for entry in _beyond(example) if entry.path.removeprefix("/") not in self.sides)
        if self.marks_parallel_calls and any(_parallel(message) for side in self.sides for message in row[side]):
            row["parallel_tool_calls"] = True
        return (row if self.fold is None else self.fold(row, lost)), lost


def value_of(example: Example, name: str) -> Any:
    """A field of an example as JSON has it."""
    value = getattr(example, name)
    return msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else value


def parse_arguments(arguments: str) -> dict[str, Any]:
    """Tool-call arguments as the object their text means, exactly. Raises RefusedError where there is no such object."""
    try:
        parsed = json.loads(arguments, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise RefusedError("arguments_not_json", f"arguments {arguments[:80]!r}: {error}") from None
    if not isinstance(parsed, dict):
        raise RefusedError("arguments_not_an_object", f"arguments {arguments[:80]!r}")
    return parsed


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RefusedError("repeated_argument_key", f"a key stands twice among {[key for key, _ in pairs]}")
    return found


def _message(message: Message, path: str, dialect: Dialect, lost: list[Lost]) -> Message:
    if "function_call" in message and not is_empty(message["function_call"]):
        raise RefusedError("legacy_function_call", f"{path} calls by function_call, which has no id to answer")
    if dialect.fields is None:
        return message
    row: Message = {"role": message.get("role")}
    if dialect.plain and row["role"] == "developer":
        row["role"] = "system"
        lost.append(Lost(f"{path}/role", "developer_as_system"))
    content = message.get("content")
    if dialect.plain and isinstance(content, list):
        content = _joined(content, f"{path}/content", lost)
    if content is not None or not dialect.plain:
        row["content"] = content
    for key, value in message.items():
        if key in ("role", "content") or is_empty(value):
            continue
        if key not in dialect.fields:
            lost.append(Lost(path + pointer(key), "field_not_in_format"))
        elif key == "tool_calls":
            row[key] = _tool_calls(value, f"{path}/tool_calls", dialect, lost)
        else:
            row[key] = value
    return row


def _joined(parts: list[Any], path: str, lost: list[Lost]) -> str:
    """The text of a content that is a list of text parts."""
    texts = []
    for at, part in enumerate(parts):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise RefusedError("part_not_text", f"{path}/{at} is of type {kind!r}")
        texts.append(part["text"])
    lost.append(Lost(path, "text_parts_joined", f"{len(parts)} parts"))
    return "\n".join(texts)


def _tool_calls(calls: Any, path: str, dialect: Dialect, lost: list[Lost]) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise RefusedError("malformed_tool_calls", f"{path} is no list")
    rows = []
    for at, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or call.get("type", "function") != "function":
            raise RefusedError("malformed_tool_calls", f"{path}/{at} is no call of a function")
        for key, value in call.items():
            known = key in ("id", "type", "function") or (key == "index" and value == at)
            if not known and not is_empty(value):
                lost.append(Lost(f"{path}/{at}{pointer(key)}", "field_not_in_format"))
        for key, value in function.items():
            if key not in ("name", "arguments") and not is_empty(value):
                lost.append(Lost(f"{path}/{at}/function{pointer(key)}", "field_not_in_format"))
        arguments = _arguments(function.get("arguments"), f"{path}/{at}/function/arguments", dialect, lost)
        row = {"type": "function", "function": {"name": function.get("name"), "arguments": arguments}}
        rows.append(row if call.get("id") is None else {"id": call["id"], **row})
    return rows


def _arguments(arguments: Any, path: str, dialect: Dialect, lost: list[Lost]) -> Any:
    if dialect.arguments == "text":
        if isinstance(arguments, str):
            return arguments
        return "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
    as_text = dialect.arguments == "object text"
    if is_empty(arguments):
        if arguments != {}:
            lost.append(Lost(path, "empty_arguments_as_object"))
        return "{}" if as_text else {}
    parsed = parse_arguments(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(parsed, dict):
        raise RefusedError("arguments_not_an_object", f"{path} is {type(parsed).__name__}")
    if as_text:
        return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    _check_numbers(parsed, path, lost)
    return parsed


def _check_numbers(value: Any, path: str, lost: list[Lost]) -> None:
    """Refuse numbers that no reader holds; note those that ``datasets`` does not read as they stand."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RefusedError("number_not_finite", f"{path} is {value}")
        if (loaded := as_loaded(value)) != value:
            lost.append(Lost(path, "changed_when_loaded", f"{value!r} is read as {loaded!r}"))
    elif isinstance(value, int) and not isinstance(value, bool):
        if value not in INTEGER_RANGE:
            raise RefusedError("integer_too_large", f"{path} has {value.bit_length()} bits")
    elif isinstance(value, dict):
        for key, child in value.items():
            _check_numbers(child, path + pointer(str(key)), lost)
    elif isinstance(value, list):
        for at, child in enumerate(value):
            _check_numbers(child, f"{path}/{at}", lost)


def _check_foldable(row: Row, sides: Sequence[str], dialect: Dialect) -> None:
    """Refuse messages that only a format of messages could carry along without knowing what they are."""
    for side in sides:
        for at, message in enumerate(row[side]):
            place = f"/{side}/{at}"
            if message["role"] not in ("system", "developer", "user", "assistant", "tool"):
                raise RefusedError("unknown_role", f"{place} is of {message['role']!r}")
            if dialect.plain and not isinstance(message.get("content", ""), str):
                raise RefusedError("part_not_text", f"{place}/content is {type(message['content']).__name__}")
            for call in message.get("tool_calls", ()):
                if message["role"] != "assistant" or not isinstance(call["function"]["name"], str):
                    raise RefusedError("malformed_tool_calls", f"{place} calls no function by name")


def _parallel(message: Message) -> bool:
    return len(message.get("tool_calls") or ()) > 1


def _beyond(example: Example) -> list[Lost]:
    """What stands in an example beside the messages a trainer sees."""
    if isinstance(example, (SupervisedExample, LabelledExample, RewardExample)):
        if not example.tail:
            return []
        detail = f"{len(example.tail)} messages after the last answer"
        return [Lost("/tail", "after_last_answer", detail, call_ids(example.tail))]
    if isinstance(example, PreferenceExample):
        lost = [
            Lost(f"/{side}_rest", "rest_of_trajectory", f"{rest} messages after the {side} answer")
            for side, rest in (("chosen", example.chosen_rest), ("rejected", example.rejected_rest))
            if rest
        ]
        if example.aligned_ids:
            detail = "the shared history has the chosen side's ids"
            lost.append(Lost("/aligned_ids", "call_ids_aligned", detail, sorted(example.aligned_ids)))
        return lost
    return []
