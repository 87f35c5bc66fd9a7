"""Parts of an interaction that several signals look at: its answer, rounds of tool calls, states as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tracemill.core.messages import ToolCall, role, text, tool_calls
from tracemill.core.records import Interaction, Message
from tracemill.quality.metrics import is_failure


def prompt_and_answer(interaction: Interaction) -> tuple[list[Message], Message | None]:
    """The prompt and the answer it got; the whole of the messages and None when they do not end with an answer."""
    messages, response = interaction.messages, interaction.response
    if response is not None:
        return messages, response
    if messages and role(messages[-1]) == "assistant":
        return messages[:-1], messages[-1]
    return messages, None


@dataclass(frozen=True, slots=True)
class Round:
    """One assistant message that calls tools, its place, its calls and the results that follow it directly."""

    at: int
    calls: tuple[ToolCall, ...]
    results: tuple[Message, ...]

    @property
    def end(self) -> int:
        """The place behind its last result."""
        return self.at + 1 + len(self.results)

    def result(self, call: ToolCall) -> Message | None:
        """The result of one of its calls; None where there is none. The older call without an id has the first."""
        if call.id is None:
            return next(iter(self.results), None)
        return next((found for found in self.results if found.get("tool_call_id") == call.id), None)

    def failed(self) -> list[ToolCall]:
        """Its calls whose result says that they failed."""
        return [call for call in self.calls if (found := self.result(call)) is not None and is_failure(text(found))]

    def answered(self) -> bool:
        """Whether every call has a result."""
        return all(self.result(call) is not None for call in self.calls)


def rounds(messages: Sequence[Message]) -> Iterator[Round]:
    """Every round of tool calls, in order."""
    for at, message in enumerate(messages):
        calls = tuple(tool_calls(message)) if role(message) == "assistant" else ()
        if not calls:
            continue
        end = at + 1
        while end < len(messages) and role(messages[end]) in ("tool", "function"):
            end += 1
        yield Round(at, calls, tuple(messages[at + 1 : end]))


def parameters_of(call: ToolCall) -> Any:
    """The arguments of a call as the value their text means; the text itself where it means none."""
    if not isinstance(call.arguments, str):
        return call.arguments
    try:
        return json.loads(call.arguments)
    except (ValueError, RecursionError):
        return call.arguments


def reasoning_of(message: Message) -> str | None:
    """What an assistant message says of why: its reasoning, or the text beside its calls."""
    for name in ("reasoning_content", "reasoning"):
        if isinstance(found := message.get(name), str) and found.strip():
            return found
    return text(message) or None


def tool_names(interaction: Interaction) -> list[str]:
    """The names of the tools an interaction could call, in order."""
    found = []
    for tool in interaction.tools:
        inner = tool.get("function")
        name = inner.get("name") if isinstance(inner, dict) else tool.get("name")
        if isinstance(name, str):
            found.append(name)
    return found


def goal_of(interaction: Interaction) -> str | None:
    """What was asked for first."""
    return next((text(message) for message in interaction.messages if role(message) == "user"), None) or None


def as_json(value: Any) -> str:
    """A recorded value as JSON text; what JSON has no word for as its Python text."""
    return json.dumps(value, ensure_ascii=False, default=str)
