"""What a processing step may answer: keep the item, drop it with a reason, or put another in its place.

A step is any callable that takes one item and returns one of these; there is nothing to subclass or register::

    def long_enough(interaction: Interaction) -> Verdict[Interaction]:
        return KEEP if len(interaction.messages) > 1 else Drop("too_short")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Keep:
    """Pass the item on as it is."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Leave the item out. ``reason`` is a stable snake_case word; drops are counted by it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """Pass ``value`` on instead of the item. ``reason`` says what was changed and is counted like a drop's."""

    value: T
    reason: str = "changed"


KEEP = Keep()
Verdict: TypeAlias = Keep | Drop | Change[T]
Step: TypeAlias = Callable[[T], Verdict[T]]
Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called now and then on long work with the stage's name, how much is done, and the total where it is known."""
