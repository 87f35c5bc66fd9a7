"""Personal data and secrets that are left in rows, by kind: what the detector finds in them. Counts only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from tracemill.core.certificate import Check
from tracemill.core.examples import Example
from tracemill.core.policy import Policy
from tracemill.dataset.checks import share, unknown
from tracemill.drawing.measures import rate

if TYPE_CHECKING:
    from tracemill.privacy.detect import Detector

CANARIES_THROUGH = 0.05
"""Share of planted values that may get through."""
_FIELDS = ("sources", "id", "signal")
_LONGEST = 1 << 20
"""Texts are looked at in pieces of this many characters,"""
_OVERLAP = 1000
"""and so many of the next: what is looked for, with the words that belong to it, is shorter."""


@dataclass
class Residual:
    """Looks at rows one after another. ``policy`` is what they were redacted by at the build, if they were.

    A kind counts against the rows unless the policy keeps it or puts an invented value in its place, for an invented value
    looks like a real one: such kinds are counted apart.
    """

    policy: Policy | None = None
    rows: int = 0
    found: Counter[str] = field(default_factory=Counter)
    with_any: int = 0
    _missing: str = ""
    _detector: Detector | None = None
    _seen: dict[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            from tracemill.privacy.detect import Detector  # noqa: PLC0415 - heavy, and an optional part
        except ImportError as error:
            self._missing = str(error.name)
        else:
            self._detector = Detector(threshold=0.5 if self.policy is None else self.policy.threshold)

    def add(self, example: Example) -> None:
        """Look at a row: every text in it but its ids."""
        if self._detector is None:
            return
        plain = msgspec.to_builtins(example)
        kinds = set[str]()
        for name, value in plain.items():
            if name not in _FIELDS:
                for text in _texts(value):
                    kinds |= self._kinds(text)
        self.rows += 1
        self.found.update(kinds)
        self.with_any += any(self._counts(kind) for kind in kinds)

    def _kinds(self, text: str) -> frozenset[str]:
        """The kinds in a text; those of texts that rows repeat are remembered."""
        assert self._detector is not None
        known = self._seen.get(text)
        if known is None:
            pieces = (text[at : at + _LONGEST + _OVERLAP] for at in range(0, len(text), _LONGEST))
            known = frozenset(one.kind for piece in pieces for one in self._detector.find(piece))
            if len(self._seen) >= 20_000:
                self._seen.clear()
            self._seen[text] = known
        return known

    def _counts(self, kind: str) -> bool:
        from tracemill.privacy.detect import GROUPS  # noqa: PLC0415 - heavy, and an optional part

        return self.policy is None or self.policy.action(kind, GROUPS[kind]) not in ("keep", "pseudonym")

    def check(self) -> Check:
        """One check: the share of rows with anything in them that should not be there; kinds in the detail."""
        name = "residual.detected"
        if self._detector is None:
            return unknown(name, f"{self._missing} is not installed")
        counted = {kind: number for kind, number in sorted(self.found.items()) if self._counts(kind)}
        apart = {kind: number for kind, number in sorted(self.found.items()) if not self._counts(kind)}
        detail: dict[str, Any] = {
            "rows_by_kind": {kind: _interval(number, self.rows) for kind, number in counted.items()}
        }
        if apart:
            detail["invented_or_kept"] = apart
        return share(name, self.with_any, self.rows, **detail)


def canary_check(measured: Mapping[str, tuple[int, int]]) -> Check:
    """What got through of the canaries that the build sent, by kind."""
    name = "residual.canaries"
    if not measured:
        return unknown(name, "the recipe sends no canaries")
    if not any(planted for _, planted in measured.values()):
        return unknown(name, "the recipe makes no row of a canary, whatever it holds")
    passed, planted = (sum(number[at] for number in measured.values()) for at in (0, 1))
    kinds = {kind: _interval(*numbers) for kind, numbers in sorted(measured.items())}
    return share(name, passed, planted, CANARIES_THROUGH, by_kind=kinds)


def _interval(hits: int, total: int) -> list[Any]:
    """Hits, total, and Wilson's 95 % interval of the share."""
    found = rate(hits, total)
    return [hits, total, found.low, found.high]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        inner: Iterable[Any] = (*value, *value.values())
        for one in inner:
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
