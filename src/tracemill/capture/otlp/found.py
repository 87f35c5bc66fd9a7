"""What the conventions found in a span's attributes, before it becomes a record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from tracemill.core.codec import parse_json
from tracemill.core.errors import RecordError
from tracemill.core.records import Message

Operation = Literal["llm", "embedding", "agent", "workflow", "tool", "retriever", "evaluator", "other"]
MAX_INDEX = 2000
"""Entries of a flattened list that are read; an index is data, and never a size to allocate."""


class Attributes:
    """A span's attributes, each taken once. What nobody took stays in ``left``, so that nothing is lost."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.left = dict(attributes)
        self._families = {name.partition(".")[0] for name in attributes}

    def take(self, *names: str) -> Any:
        """The first of some attributes that is there; all of them count as taken."""
        found = None
        for name in names:
            value = self.left.pop(name, None)
            if found is None:
                found = value
        return found

    def text(self, *names: str) -> str | None:
        """The same as text; None when it is empty or something else."""
        value = self.take(*names)
        return value if isinstance(value, str) and value else None

    def count(self, *names: str) -> int | None:
        """The same as a number of at least zero."""
        value = self.take(*names)
        try:
            number = int(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else -1
        except (ValueError, OverflowError):
            return None
        return number if number >= 0 else None

    def structured(self, *names: str) -> Any:
        """The same, JSON text parsed: instrumentations write lists and objects as text. Text that is none stays text."""
        return from_json(self.take(*names))

    def has(self, prefix: str) -> bool:
        """Whether an attribute begins so."""
        return prefix.partition(".")[0] in self._families and any(name.startswith(prefix) for name in self.left)

    def nested(self, prefix: str) -> dict[str, Any]:
        """Attributes under a prefix with the rest of their names, taken."""
        if prefix.partition(".")[0] not in self._families:
            return {}
        names = [name for name in self.left if name.startswith(prefix)]
        return {name[len(prefix) :]: self.left.pop(name) for name in names}

    def entries(self, prefix: str) -> list[dict[str, Any]]:
        """A list that was flattened to ``prefix.0.rest``, in the order of its indexes."""
        return entries_of(self.nested(prefix))


def entries_of(flat: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries of ``0.rest``, ``1.rest``… in the order of the numbers; names without a usable number are left out."""
    groups: dict[int, dict[str, Any]] = {}
    for name, value in flat.items():
        number, _, rest = name.partition(".")
        if number.isascii() and number.isdecimal() and len(number) <= 5 and len(groups) <= MAX_INDEX:
            groups.setdefault(int(number), {})[rest] = value
    return [groups[number] for number in sorted(groups)]


def under(flat: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The part of flattened names that begins with a prefix, without it."""
    return {name[len(prefix) :]: value for name, value in flat.items() if name.startswith(prefix)}


def from_json(value: Any) -> Any:
    """JSON text as what it says; anything else, and text that is no object or array, as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return parse_json(value.encode("utf-8", "surrogatepass"))
        except RecordError:
            return value
    return value


@dataclass
class Found:
    """Everything that may be said of a call, from whichever convention said it first."""

    operation: Operation | None = None
    provider: str | None = None
    requested: str | None = None
    answered: str | None = None
    configuration: dict[str, Any] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    response: Message | None = None
    choices: list[Message] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    response_id: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    conversation_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    agent: str | None = None
    tool: str | None = None
    call_id: str | None = None
    arguments: Any = None
    result: Any = None
    inputs: Any = None
    outputs: Any = None
    chunks: list[Any] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    platform: str | None = None
    error_type: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def set(self, name: str, value: Any) -> None:
        """Fill a field that is still empty."""
        if value is not None and getattr(self, name) in (None, [], {}):
            setattr(self, name, value)

    def add_usage(self, values: dict[str, Any]) -> None:
        """Token counts under their own names, those that are there."""
        self.usage.update({name: value for name, value in values.items() if value is not None})

    @property
    def has_content(self) -> bool:
        """Whether what was said is there, and not only that something was."""
        return bool(self.messages) or self.response is not None


def texts(value: Any) -> Iterator[str]:
    """The texts of a list, or the one that stands alone."""
    for item in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(item, str) and item:
            yield item
