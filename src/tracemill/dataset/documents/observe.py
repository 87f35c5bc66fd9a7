"""One pass over the rows of a version: how often each field is there, between which values, and how large rows are.

Rows are looked at as JSON, field by field: a field is decoded only as far as is counted, so that a row costs little and a type
of example that comes later is described too. Memory is bounded whatever the number of rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Raw, Struct

from tracemill.drawing.measures import Measure, Tally

_MESSAGES = frozenset({"messages", "prompt", "completion", "chosen", "rejected", "tail"})
"""Fields that are lists of messages, in every type of example."""
_COUNTED_VALUES = {"signal": 200, "label_source": 50, "training_type": 50}
"""Fields whose values are words of ours and are counted by value."""
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_TOOLS = 100


class _Said(Struct, frozen=True):
    """A message, as far as it is counted."""

    role: Any = None
    content: Any = None
    tool_calls: Any = None


_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_list = msgspec.json.Decoder(list[Raw]).decode
_messages = msgspec.json.Decoder(list[_Said]).decode
_any = msgspec.json.decode


@dataclass
class FieldSeen:
    """What was seen of one field. ``least`` and ``most`` are of numbers, or of the lengths of lists."""

    present: int = 0
    true: int = 0
    numbers: int = 0
    total: float = 0.0
    lists: int = 0
    least: float = math.inf
    most: float = -math.inf

    def see(self, value: float) -> None:
        """Widen the range."""
        self.least, self.most = min(self.least, value), max(self.most, value)


@dataclass
class Observed:
    """What was seen of the rows of one type. ``written`` are the fields that some row of a split has."""

    rows: dict[str, int] = field(default_factory=dict)
    written: dict[str, set[str]] = field(default_factory=dict)
    fields: dict[str, FieldSeen] = field(default_factory=dict)
    values: dict[str, Tally] = field(default_factory=dict)
    roles: Counter[str] = field(default_factory=Counter)
    tools: Tally = field(default_factory=lambda: Tally(_TOOLS))
    messages: Measure = field(default_factory=Measure)
    characters: Measure = field(default_factory=Measure)
    calls: Measure = field(default_factory=Measure)
    confidence: Measure = field(default_factory=Measure)
    labels: dict[str, Counter[bool]] = field(default_factory=dict)
    empty_answers: int = 0
    human: int = 0
    weight: float = 0.0
    squared_weight: float = 0.0

    @property
    def total(self) -> int:
        """Rows of all splits."""
        return sum(self.rows.values())

    def add(self, split: str, line: bytes) -> None:
        """Look at one row. Raises msgspec.MsgspecError when it is no JSON object."""
        self.rows[split] = self.rows.get(split, 0) + 1
        weight = confidence = 1.0
        said = _Counts()
        row = _fields(line)
        self.written.setdefault(split, set()).update(row)
        for name, raw in row.items():
            seen = self.fields.get(name)
            if seen is None:
                seen = self.fields[name] = FieldSeen()
            seen.present += 1
            first = memoryview(raw)[0]
            if first == _BRACKET:
                length = self._list(name, raw, said)
                seen.lists += 1
                seen.see(length)
            elif first in _NUMERIC:
                value = float(_any(raw))
                seen.numbers += 1
                seen.total += value
                seen.see(value)
                if name == "weight":
                    weight = value
                elif name == "confidence":
                    confidence = value
            elif first == _TRUE:
                seen.true += 1
                self._flag(split, name, True)
            elif first == _FALSE:
                self._flag(split, name, False)
            elif first == _QUOTE and name in _COUNTED_VALUES:
                self._tally(name).add(_any(raw))
        self.weight += weight
        self.squared_weight += weight * weight
        self.confidence.add(confidence)
        self.messages.add(said.messages)
        self.characters.add(said.characters)
        self.calls.add(said.calls)

    def _flag(self, split: str, name: str, value: bool) -> None:
        if name == "label":
            self.labels.setdefault(split, Counter())[value] += 1
        elif name == "human_validated" and value:
            self.human += 1

    def _tally(self, name: str) -> Tally:
        tally = self.values.get(name)
        if tally is None:
            tally = self.values[name] = Tally(_COUNTED_VALUES[name])
        return tally

    def _list(self, name: str, raw: Raw, said: _Counts) -> int:
        """Look at a list; gives its length."""
        if name not in _MESSAGES:
            return len(_list(raw))
        messages = _messages(raw)
        for message in messages:
            role = message.role if isinstance(message.role, str) and message.role in _ROLES else "(other)"
            self.roles[role] += 1
            if role == "assistant":
                self._answer(message, said)
        said.messages += len(messages)
        return len(messages)

    def _answer(self, message: _Said, said: _Counts) -> None:
        content, calls = message.content, message.tool_calls
        if isinstance(content, list):
            content = "".join(
                part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
            )
        length = len(content) if isinstance(content, str) else 0
        said.characters += length
        if isinstance(calls, list) and calls:
            said.calls += len(calls)
            for call in calls:
                function = call.get("function") if isinstance(call, dict) else None
                name = function.get("name") if isinstance(function, dict) else None
                self.tools.add(name if isinstance(name, str) else None)
        elif not length:
            self.empty_answers += 1


@dataclass
class _Counts:
    """The size of one row: its messages, the characters the assistant wrote, the tools it called."""

    messages: int = 0
    characters: int = 0
    calls: int = 0


_BRACKET, _QUOTE, _TRUE, _FALSE = b'["tf'
_NUMERIC = frozenset(b"-0123456789")


def observe(lines: Iterable[bytes], split: str, into: Observed) -> None:
    """Look at every row of one file."""
    for line in lines:
        into.add(split, line)
