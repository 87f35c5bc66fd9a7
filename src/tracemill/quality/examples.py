"""Training examples of any of the usual shapes, read as one: the text that is learnt, and what is wrong with its form.

Shapes, by the keys that tell them: ``messages`` or ``conversations`` (a chat, the latter with ``from`` and ``value``),
``chosen`` and ``rejected`` (a preference), ``prompt`` and ``completion`` or ``response``, ``instruction`` and ``output``,
``input`` and ``output``, ``question`` and ``answer``, ``text``. An example in tracemill's own form is read as what it holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from tracemill.core.ids import EPOCH, derived_id
from tracemill.core.messages import problems, role, text, tool_calls, written
from tracemill.core.records import SCHEMA_VERSION, Interaction, Message
from tracemill.quality.reading import TooDeep
from tracemill.quality.text import measure_text, text_depth

_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("input", "output"),
    ("question", "answer"),
)
_SHARE_GPT = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
}
_NUMBERS = ("weight", "score", "confidence", "chosen_score", "rejected_score")
_NOTED = frozenset({"starts_with_assistant"})


class ReadExample(Struct, frozen=True, kw_only=True):
    """What an example amounts to. ``text`` is None where there is none to be had; ``shape`` is ``unknown`` then.

    ``problems`` are a stable word and a sentence each; ``defects`` the rules of :mod:`tracemill.quality.text` that found one.
    """

    shape: str
    text: str | None = None
    problems: tuple[tuple[str, str], ...] = ()
    defects: tuple[str, ...] = ()


DEEPEST = 200
"""Levels of objects and lists in each other that an example may have; JSON readers give up at about a thousand."""


def read_example(value: Any) -> ReadExample:
    """Read one example. Never raises, whatever it is given."""
    if isinstance(value, TooDeep):
        return ReadExample(shape="unknown", problems=(("nested_too_deep", "deeper than a JSON reader goes"),))
    if not isinstance(value, Mapping):
        found = (("wrong_type", f"an example is a mapping, not {type(value).__name__}"),)
        return ReadExample(shape="unknown", problems=found)
    plain = dict(value)
    if too_deep := _too_deep(plain):
        return ReadExample(shape="unknown", problems=(("nested_too_deep", too_deep),))
    numbers = tuple(
        ("not_finite", f"{name} is {plain[name]}")
        for name in _NUMBERS
        if isinstance(plain.get(name), float) and not math.isfinite(plain[name])
    )
    read = _by_shape(plain)
    return ReadExample(shape=read.shape, text=read.text, problems=(*numbers, *read.problems), defects=read.defects)


def _too_deep(plain: dict[str, Any]) -> str:
    """Where an example is nested deeper than can be read, as a sentence; empty where it is not. JSON in arguments counts."""
    waiting: list[tuple[Any, int]] = [(plain, 0)]
    seen: dict[int, int] = {}
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str):
            if value.lstrip()[:1] in ("{", "[") and text_depth(value) > DEEPEST:
                return f"arguments in JSON text have more than {DEEPEST} levels"
            continue
        if depth > DEEPEST:
            return f"it has more than {DEEPEST} levels of objects and lists"
        if seen.get(id(value), -1) >= depth:  # the same object at another place, or one that holds itself
            continue
        seen[id(value)] = depth
        if isinstance(value, Mapping):
            arguments = value.get("arguments")
            waiting.extend((inner, depth + 1) for inner in value.values() if _holds(inner) or inner is arguments)
        elif isinstance(value, (list, tuple, set, frozenset)):
            waiting.extend((inner, depth + 1) for inner in value if _holds(inner))
    return ""


def _holds(value: Any) -> bool:
    return isinstance(value, (Mapping, list, tuple, set, frozenset))


def _by_shape(plain: dict[str, Any]) -> ReadExample:
    if "chosen" in plain or "rejected" in plain:
        return _preference(plain)
    for name in ("messages", "conversations"):
        if name in plain:
            return _chat(plain[name], name)
    for asked, answered in _PAIRS:
        if asked in plain and answered in plain:
            return _pair(plain, asked, answered)
    if "text" in plain:
        return _of_text(plain["text"])
    known = sorted({name for pair in _PAIRS for name in pair} & plain.keys())
    detail = f"only {known[0]} is there" if known else "none of the known fields is there"
    return ReadExample(shape="unknown", problems=(("missing_field", detail),))


def _of_text(value: Any) -> ReadExample:
    if not isinstance(value, str):
        return ReadExample(shape="text", problems=(("wrong_type", f"text is {type(value).__name__}"),))
    return ReadExample(shape="text", text=value)


def _preference(plain: dict[str, Any]) -> ReadExample:
    found: list[tuple[str, str]] = []
    said: dict[str, str] = {}
    for name in ("chosen", "rejected"):
        if name not in plain:
            found.append(("missing_field", f"{name} is missing"))
            continue
        content = _content(plain[name])
        if content is None:
            found.append(("wrong_type", f"{name} is {type(plain[name]).__name__}"))
        elif not content.strip():
            found.append(("empty_answer", f"{name} says nothing"))
        else:
            said[name] = content
    if len(said) == 2 and said["chosen"] == said["rejected"]:
        found.append(("equal_sides", "chosen and rejected say the same"))
    prompt = _content(plain.get("prompt", "")) or ""
    content = "\n".join([prompt, *said.values()]).strip("\n") if said else None
    return ReadExample(shape="preference", text=content, problems=tuple(found))


def _pair(plain: dict[str, Any], asked: str, answered: str) -> ReadExample:
    found: list[tuple[str, str]] = []
    parts = []
    for name in (asked, answered):
        content = _content(plain[name])
        if content is None:
            found.append(("wrong_type", f"{name} is {type(plain[name]).__name__}"))
        elif not content.strip() and name == answered:
            found.append(("empty_answer", f"{name} says nothing"))
        parts.append(content or "")
    if asked == "instruction" and isinstance(plain.get("input"), str):
        parts.insert(1, plain["input"])
    defects: tuple[str, ...] = ()
    if not found:
        defects = _defects([{"role": "user", "content": parts[0] or "–"}, {"role": "assistant", "content": parts[-1]}])
    text_of_it = "\n".join(part for part in parts if part)
    return ReadExample(shape=f"{asked}/{answered}", text=text_of_it, problems=tuple(found), defects=defects)


def _chat(value: Any, shape: str) -> ReadExample:
    messages = _messages(value)
    if messages is None:
        return ReadExample(shape=shape, problems=(("wrong_type", f"{shape} is no list of messages"),))
    found = [
        (one.reason, f"message {one.index}: {one.detail}") for one in problems(messages) if one.reason not in _NOTED
    ]
    if not any(role(message) == "assistant" for message in messages):
        found.append(("no_assistant", "nothing in it can be learnt"))
    spoken = [part for message in messages for part in (text(message), *_called(message)) if part]
    structural = {reason for reason, _ in found}
    defects = tuple(name for name in _defects(messages) if name not in structural)
    return ReadExample(shape=shape, text="\n".join(spoken), problems=tuple(found), defects=defects)


def _called(message: Message) -> list[str]:
    return [f"{call.name} {written(call.arguments)}" for call in tool_calls(message)]


def _messages(value: Any) -> list[Message] | None:
    """Messages in the OpenAI shape, those of ShareGPT turned into it; None where the value is no list of mappings."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(message, dict) for message in value):
        return None
    turned = []
    for message in value:
        if "from" in message and "role" not in message:
            said_by = message["from"]
            turned.append({"role": _SHARE_GPT.get(said_by, said_by) if isinstance(said_by, str) else said_by,
                           "content": message.get("value")})  # fmt: skip
        else:
            turned.append({key: each for key, each in message.items() if isinstance(key, str)})
    return turned


def _content(value: Any) -> str | None:
    """The text of one side: text as it is, messages one after another; None for anything else."""
    if isinstance(value, str):
        return value
    messages = _messages([value] if isinstance(value, dict) else value)
    if messages is None:
        return None
    return "\n".join(part for message in messages for part in (text(message), *_called(message)) if part)


def _defects(messages: list[Message]) -> tuple[str, ...]:
    record = Interaction(
        id=derived_id("example"),
        time=EPOCH,
        schema_version=SCHEMA_VERSION,
        producer="validator",
        sequence=0,
        messages=messages,
    )
    return tuple(measure_text(record).defects())
