"""Interactions counted by what they have in common: platform, model, language, month; and how much a few users weigh.

Small groups are not shown: a count below :data:`SMALLEST` may say something of one person. Their sum stands in one line, and
where that line would be of a single group, or small itself, the next smallest group goes into it too: else the total less
all that is shown would give it away (complementary suppression).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from tracemill.core.examples import Fate
from tracemill.dataset.facts import NOT_STATED, Facts
from tracemill.dataset.weights import kish
from tracemill.drawing.measures import Rate, Tally, rate

SMALLEST = 5
"""Interactions a group must have to be shown by itself."""
_ROOM = 200
"""Groups that are told apart in one dimension; the rest is ``(other)``."""
UNNAMED = "(not stated)"
DIMENSIONS = ("platform", "model", "language", "month")
_SECONDS_A_DAY = 86400
_AT_ONCE = 4096
"""Kinds of interactions that are remembered before they are put into their groups."""


class _Alike(NamedTuple):
    """What interactions that are counted in the same places have in common: values by dimension, and what came of them."""

    names: tuple[str, ...]
    used: bool
    success: bool | None
    liked: bool | None


@dataclass(slots=True)
class Group:
    """Counts of one group. ``read`` were read, ``used`` are the source of at least one example; the rest is of those read."""

    read: int = 0
    used: int = 0
    succeeded: int = 0
    outcomes: int = 0
    liked: int = 0
    labels: int = 0

    def add(self, alike: _Alike, number: int) -> None:
        """Count so many interactions that are alike."""
        self.read += number
        self.used += number * alike.used
        if alike.success is not None:
            self.outcomes += number
            self.succeeded += number * alike.success
        if alike.liked is not None:
            self.labels += number
            self.liked += number * alike.liked

    def join(self, other: Group) -> None:
        """Count all of another group too."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class Groups:
    """Everything counted of the interactions a version read."""

    dimensions: dict[str, dict[str, Group]] = field(default_factory=lambda: {name: {} for name in DIMENSIONS})
    whole: Group = field(default_factory=Group)
    users: Counter[bytes] = field(default_factory=Counter)
    without_user: int = 0
    steps: Counter[tuple[int, str]] = field(default_factory=Counter)
    unstated: int = 0
    first_day: int | None = None
    last_day: int | None = None
    _alike: Counter[_Alike] = field(default_factory=Counter)
    _names: dict[str, Tally] = field(default_factory=lambda: {name: Tally(_ROOM) for name in DIMENSIONS})

    def add(self, facts: Facts | None, fate: Fate) -> None:
        """Count one interaction with what became of it; one without facts is read and no more."""
        used = bool(fate.examples)
        if facts is None:
            self.unstated += 1
            return
        names = (facts.platform, facts.model, facts.language, _month(facts.day))
        self._alike[_Alike(names, used, facts.success, facts.liked)] += 1
        if len(self._alike) >= _AT_ONCE:
            self._count()
        if facts.step >= 0:
            self.steps[facts.step, fate.dropped or ""] += 1
        if not used:
            return
        self.first_day = facts.day if self.first_day is None else min(self.first_day, facts.day)
        self.last_day = facts.day if self.last_day is None else max(self.last_day, facts.day)
        if facts.user is None:
            self.without_user += 1
        else:
            self.users[facts.user] += 1

    def counted(self) -> Groups:
        """Itself, with everything that was added."""
        self._count()
        return self

    def _count(self) -> None:
        """Most interactions are like many others: each kind is put into its groups once."""
        for alike, number in self._alike.items():
            self.whole.add(alike, number)
            for dimension, value in zip(DIMENSIONS, alike.names, strict=True):
                key = self._names[dimension].add(value or UNNAMED)
                self.dimensions[dimension].setdefault(key, Group()).add(alike, number)
        self._alike.clear()


_months: dict[int, str] = {}


def _month(day: int) -> str:
    """The month of a day, as ``2026-03``. A version's interactions are of few days, so they are remembered."""
    found = _months.get(day)
    if found is None:
        if len(_months) > 100_000:
            _months.clear()
        try:
            found = datetime.fromtimestamp(day * _SECONDS_A_DAY, UTC).strftime("%Y-%m")
        except (OverflowError, ValueError, OSError):
            found = NOT_STATED
        _months[day] = found
    return found


def iso_day(day: int | None) -> str | None:
    """A day as ``2026-03-01``."""
    return None if day is None else datetime.fromtimestamp(day * _SECONDS_A_DAY, UTC).date().isoformat()


@dataclass(frozen=True, slots=True)
class Shown:
    """The groups of a dimension that may be shown, largest first, and the sum of those that may not."""

    groups: list[tuple[str, Group]]
    suppressed: int
    rest: Group


def shown(groups: Mapping[str, Group]) -> Shown:
    """Which groups may be shown, the largest first."""
    ordered = sorted(groups.items(), key=lambda item: (-item[1].read, item[0]))
    hidden = [item for item in ordered if _small(item[1])]
    kept = [item for item in ordered if not _small(item[1])]
    rest = Group()
    for _, group in hidden:
        rest.join(group)
    number = len(hidden)
    while number and kept and (number == 1 or _small(rest)):
        rest.join(kept.pop()[1])
        number += 1
    return Shown(kept, number, rest)


def _small(group: Group) -> bool:
    return group.read < SMALLEST or 0 < group.used < SMALLEST


def plain_rate(successes: int, total: int) -> dict[str, Any] | None:
    """A rate with its 95 % Wilson interval, or None of fewer than :data:`SMALLEST`."""
    if total < SMALLEST:
        return None
    found: Rate = rate(successes, total)
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain


def concentration(users: Counter[bytes]) -> dict[str, Any]:
    """How much a few users weigh among the interactions that became examples.

    With p the shares of the users: ``effective_entropy`` = exp(−Σ p ln p), the number of equally active users with the same
    entropy (Hill 1973, order 1); ``effective_kish`` = (Σ m)² / Σ m² = 1 / Σ p², with m the users' interactions (Kish 1965;
    Hill's order 2). ``top_share`` is the most active user's share. Of fewer users than :data:`SMALLEST` all are None, since
    each of these numbers would tell how many there are.
    """
    total = users.total()
    if not total:
        return {"users": 0, "top_share": None, "effective_entropy": None, "effective_kish": None}
    if len(users) < SMALLEST:
        return dict.fromkeys(("users", "top_share", "effective_entropy", "effective_kish"))
    counts = sorted(users.values())
    entropy = -math.fsum(count / total * math.log(count / total) for count in counts)
    return {
        "users": len(counts),
        "top_share": counts[-1] / total,
        "effective_entropy": math.exp(entropy),
        "effective_kish": kish(total, sum(count * count for count in counts)),
    }
