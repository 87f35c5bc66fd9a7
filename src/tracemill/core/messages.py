"""Reading chat messages in the OpenAI shape: what role, what text, which tools, what is wrong with a list of them.

Messages are plain dictionaries from strangers, so every function here takes any value where a field should be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tracemill.core.codec import encode_plain
from tracemill.core.records import Interaction, Message


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call of an assistant message. ``arguments`` is as it stands there: JSON text (OpenAI) or an object."""

    id: str | None
    name: str | None
    arguments: Any


@dataclass(frozen=True, slots=True)
class MessageProblem:
    """What is wrong at one place of a message list: ``index`` of the message, a stable ``reason``, a sentence."""

    index: int
    reason: str
    detail: str


def role(message: Message) -> str:
    """The role, or the empty string when it is missing or not text."""
    value = message.get("role")
    return value if isinstance(value, str) else ""


def text(message: Message) -> str:
    """The text of a message: its content, or its text parts one after another. Empty when there is none."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, dict))
    return "\n".join(part for part in parts if isinstance(part, str))


def tool_calls(message: Message) -> Iterator[ToolCall]:
    """The tool calls an assistant message asks for (``tool_calls``, or the older single ``function_call``)."""
    return _tool_calls(message) if "tool_calls" in message or "function_call" in message else iter(())


def _tool_calls(message: Message) -> Iterator[ToolCall]:
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            name, call_id = function.get("name"), call.get("id")
            yield ToolCall(
                call_id if isinstance(call_id, str) else None,
                name if isinstance(name, str) else None,
                function.get("arguments"),
            )
    legacy = message.get("function_call")
    if isinstance(legacy, dict):
        name = legacy.get("name")
        yield ToolCall(None, name if isinstance(name, str) else None, legacy.get("arguments"))


def written(arguments: Any) -> str:
    """The arguments of a call as a text to compare: by their type alone where Python does not write them out.

    That are integers of thousands of digits, and what is nested about a thousand deep.
    """
    try:
        return str(arguments)
    except (ValueError, RecursionError):
        return type(arguments).__name__


def trajectory(interaction: Interaction) -> list[Message]:
    """Everything that was said: the messages and, where there is one, the response after them."""
    if interaction.response is None:
        return list(interaction.messages)
    return [*interaction.messages, interaction.response]


def digest(message: Message) -> bytes:
    """16 bytes that stand for one message's whole content; equal messages have equal digests whatever their key order.

    BLAKE2b (RFC 7693) of the MessagePack encoding with sorted keys. Raises RecordError for what cannot be encoded.
    """
    return hashlib.blake2b(encode_plain(message), digest_size=16).digest()


def problems(messages: Sequence[Message]) -> list[MessageProblem]:
    """Everything that keeps a message list from being a conversation a chat template or the OpenAI API accepts.

    Reasons: ``unknown_role``, ``late_system`` (a system message after the first non-system one), ``empty_message``
    (an assistant or user message with neither content nor tool calls), ``repeated_call_id``, ``orphan_result`` (a tool
    message that answers no call before it), ``unanswered_call`` (anything but its results follows a tool call),
    ``starts_with_assistant``.
    """
    found: list[MessageProblem] = []
    open_calls: dict[str, int] = {}
    conversation_began = False
    for index, message in enumerate(messages):
        kind = role(message)
        if kind == "tool":
            call_id = message.get("tool_call_id")
            if not isinstance(call_id, str) or open_calls.pop(call_id, None) is None:
                found.append(
                    MessageProblem(index, "orphan_result", f"tool message answers no open call: {_named(call_id)}")
                )
            continue
        if open_calls:
            found.extend(_unanswered(open_calls))
            open_calls = {}
        if kind in ("system", "developer"):
            if conversation_began:
                found.append(MessageProblem(index, "late_system", f"{kind} message inside the conversation"))
            continue
        if kind not in ("user", "assistant"):
            found.append(MessageProblem(index, "unknown_role", f"role {_named(message.get('role'))}"))
            continue
        if not conversation_began and kind == "assistant":
            found.append(MessageProblem(index, "starts_with_assistant", "the first turn is the assistant's"))
        conversation_began = True
        found.extend(_check_turn(index, kind, message, open_calls))
    found.extend(_unanswered(open_calls))
    return sorted(found, key=lambda problem: problem.index)


def _named(value: Any) -> str:
    """A value in a sentence: what has others in it is named by its type alone, since it may be nested without end."""
    return repr(value) if value is None or isinstance(value, (str, bool, float)) else type(value).__name__


def _unanswered(open_calls: dict[str, int]) -> Iterator[MessageProblem]:
    for call, at in open_calls.items():
        yield MessageProblem(at, "unanswered_call", f"call {call!r} has no result")


def _check_turn(index: int, kind: str, message: Message, open_calls: dict[str, int]) -> Iterator[MessageProblem]:
    calls = list(tool_calls(message)) if kind == "assistant" else []
    if not calls and not message.get("content") and not message.get("refusal"):
        yield MessageProblem(index, "empty_message", f"{kind} message says nothing and calls nothing")
    for call in calls:
        key = call.id if call.id is not None else f"#{index}"
        if key in open_calls:
            yield MessageProblem(index, "repeated_call_id", f"call id {key!r} stands twice")
        open_calls[key] = index
