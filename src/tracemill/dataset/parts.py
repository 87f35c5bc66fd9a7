"""The texts of an example, whatever its type: what is compared with other rows and with evaluation sets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from tracemill.core.codec import encode_plain
from tracemill.core.examples import Example
from tracemill.core.messages import role, text, tool_calls
from tracemill.core.records import Message
from tracemill.quality.documents import document

_SCORES = frozenset(("label", "score", "score_name", "chosen_score", "rejected_score", "stated_confidence"))
_NAMES = frozenset(("platform", "task_id", "signal", "label_source", "action", "tool", "agent", "available_tools"))
_COUNTS = frozenset(("pairs", "chosen_rest", "rejected_rest", "aligned_ids", "shared"))
_PACKAGED = frozenset(("features", "scenario", "quality_score", "execution_successful", "training_type"))
_ROW = frozenset(("id", "sources", "confidence", "weight", "human_validated", "tools", "rejected_tools"))
_ABOUT = _ROW | _PACKAGED | _SCORES | _NAMES | _COUNTS
"""Fields that say something about a row and are no part of its content."""
_THOUGHT = ("reasoning_content", "reasoning", "thinking", "refusal")
"""Fields of messages that are text too: chat templates write the first three out, and a trainer learns them."""


class Part(NamedTuple):
    """One text, and whether it was given to the model or said by it."""

    side: Literal["prompt", "answer"]
    text: str


def parts(example: Example) -> Iterator[Part]:
    """Every text of an example: messages, arguments of tool calls, and fields that are text."""
    for name in example.__struct_fields__:
        value = getattr(example, name)
        if name in _ABOUT or not value:
            continue
        if isinstance(value, str):
            yield Part("prompt", value)
        elif isinstance(value, list):
            yield from message_parts([one for one in value if isinstance(one, dict)])
            yield from (Part("prompt", one) for one in value if isinstance(one, str))
        elif isinstance(value, dict):
            yield Part("answer", _shown(value))


def message_parts(messages: Sequence[Message]) -> Iterator[Part]:
    """The texts of messages."""
    for message in messages:
        side: Literal["prompt", "answer"] = "answer" if role(message) == "assistant" else "prompt"
        if content := text(message):
            yield Part(side, content)
        yield from (Part(side, value) for name in _THOUGHT if isinstance(value := message.get(name), str) and value)
        for call in tool_calls(message):
            yield Part("answer", call.arguments if isinstance(call.arguments, str) else _shown(call.arguments))


def content(example: Example) -> str:
    """The text by which an example is compared with others: see :func:`tracemill.quality.documents.document`."""
    pieces = []
    for name in example.__struct_fields__:
        value = getattr(example, name)
        if name in _ABOUT or name == "tail" or not value:
            continue
        if isinstance(value, str):
            pieces.append(value)
        elif isinstance(value, list) and all(isinstance(one, dict) for one in value):
            pieces.append(document(value))
        elif isinstance(value, list | dict):
            pieces.append(_shown(value))
    return "\n".join(piece for piece in pieces if piece)


def content_key(example: Example) -> bytes:
    """16 bytes that stand for :func:`content`: rows that say the same have the same, whatever their type."""
    return content_digest_of(content(example))


def content_digest_of(said: str) -> bytes:
    """16 bytes that stand for a text (BLAKE2b)."""
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _shown(value: Any) -> str:
    return encode_plain(value).decode("utf-8", "replace")
