"""Formats as pure functions: an example in, a row and a list of what the row cannot hold out.

``openai-chat``
    ``{"messages", "tools"?, "parallel_tool_calls"?}``: OpenAI's chat fine-tuning file. Tool-call arguments are JSON text,
    as captured. ``parallel_tool_calls`` is true where a message calls several tools at once, and absent otherwise.
``trl-sft``, ``trl-dpo``, ``trl-kto``
    The conversational datasets of TRL: ``{"messages", "tools"?}``, ``{"prompt", "chosen", "rejected", "tools"?}``,
    ``{"prompt", "completion", "label", "tools"?}``. Tool-call arguments are objects, since chat templates write them out as
    JSON themselves. ``reasoning_content`` and ``thinking``, which templates know, stay.
``trajectory-preference``
    ``{"chosen", "rejected", "shared", "chosen_score", "rejected_score", "tools"?, "rejected_tools"?}``: two whole attempts,
    everything as captured. No trainer of preferences between answers reads it as it is, and none should.

A row that would say something else than its example is not made: :class:`RefusedError` says why. Fields that are null or empty
are left out and not counted as lost; a JSON Lines row says nothing by them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tracemill.core.errors import ExportError
from tracemill.core.examples import (
    Example,
    LabelledExample,
    PreferenceExample,
    SupervisedExample,
    TrajectoryPreference,
)
from tracemill.core.records import Message
from tracemill.dataset.history import call_ids
from tracemill.export.loader import as_loaded

INTEGER_RANGE = range(-(2**63), 2**64)
"""Integers that readers of JSON Lines hold; beyond it, one number makes ``datasets`` refuse the whole file."""


class RefusedError(ExportError):
    """An example that a format cannot hold. ``reason`` is a stable word."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Lost:
    """One thing of an example that its row lacks, or holds in another form; ``path`` is a JSON Pointer into the example."""

    path: str
    reason: str
    detail: str = ""
    call_ids: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a format does to messages. ``fields`` are those a message may have (None: all of them).

    ``object_arguments``: tool-call arguments are objects, not JSON text. ``plain``: content is text only, a developer
    message is a system message, and content that is null is left out.
    """

    fields: frozenset[str] | None
    object_arguments: bool = False
    plain: bool = False


OPENAI = Dialect(frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "refusal"}))
TRL = Dialect(
    frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "thinking"}),
    object_arguments=True,
    plain=True,
)
VERBATIM = Dialect(None)


@dataclass(frozen=True, slots=True)
class Format:
    """A format: the examples it is made of, its row function, and where a row holds which field of the example.

    ``sides`` are the fields with messages; ``ends_with_answer`` says that each of them but the prompt must.
    ``conversations`` are the combinations of sides that a trainer sees as one conversation.
    """

    name: str
    example: type[Any]
    dialect: Dialect
    sides: tuple[str, ...]
    conversations: tuple[tuple[str, ...], ...]
    values: tuple[str, ...] = ()
    ends_with_answer: bool = True
    marks_parallel_calls: bool = False

    def row(self, example: Example) -> tuple[dict[str, Any], list[Lost]]:
        """The row of an example and what it lacks. Raises RefusedError."""
        lost: list[Lost] = []
        row: dict[str, Any] = {}
        for side in self.sides:
            messages = getattr(example, side)
            row[side] = [_message(message, f"/{side}/{at}", self.dialect, lost) for at, message in enumerate(messages)]
        for name in self.values:
            if (value := getattr(example, name)) is not None:
                row[name] = value
        if example.tools:
            row["tools"] = example.tools
            if self.dialect.plain:
                _check_numbers(example.tools, "/tools", lost)
        lost.extend(_beyond(example))
        if self.marks_parallel_calls and any(_parallel(message) for message in row["messages"]):
            row["parallel_tool_calls"] = True
        return row, lost


FORMATS: Mapping[str, Format] = {
    made.name: made
    for made in (
        Format("openai-chat", SupervisedExample, OPENAI, ("messages",), (("messages",),), marks_parallel_calls=True),
        Format("trl-sft", SupervisedExample, TRL, ("messages",), (("messages",),)),
        Format(
            "trl-dpo",
            PreferenceExample,
            TRL,
            ("prompt", "chosen", "rejected"),
            (("prompt", "chosen"), ("prompt", "rejected")),
        ),
        Format("trl-kto", LabelledExample, TRL, ("prompt", "completion"), (("prompt", "completion"),), ("label",)),
        Format(
            "trajectory-preference",
            TrajectoryPreference,
            VERBATIM,
            ("chosen", "rejected"),
            (("chosen",), ("rejected",)),
            ("shared", "chosen_score", "rejected_score", "rejected_tools"),
            ends_with_answer=False,
        ),
    )
}
"""Formats by name."""


def pointer(key: str) -> str:
    """One step of a JSON Pointer (RFC 6901)."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def is_empty(value: Any) -> bool:
    """Whether a field says nothing: null, or an empty text, list or object."""
    return value is None or (isinstance(value, (str, list, dict)) and not value)


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
    if not dialect.object_arguments:
        if isinstance(arguments, str):
            return arguments
        return "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
    if is_empty(arguments):
        if arguments != {}:
            lost.append(Lost(path, "empty_arguments_as_object"))
        return {}
    parsed = parse_arguments(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(parsed, dict):
        raise RefusedError("arguments_not_an_object", f"{path} is {type(parsed).__name__}")
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


def _parallel(message: Message) -> bool:
    return len(message.get("tool_calls") or ()) > 1


def _beyond(example: Example) -> list[Lost]:
    """What stands in an example beside the messages a trainer sees."""
    if isinstance(example, (SupervisedExample, LabelledExample)):
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
