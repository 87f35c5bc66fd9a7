"""Features that need all records read: how old a conversation is, how much of everything is one user's.

Two numbers an interaction and two a conversation or user are held; the values are put into the rows when they are merged.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tracemill.core.examples import FeatureValue, PreferenceExample, TrajectoryPreference
from tracemill.core.ids import id_bytes
from tracemill.dataset.drafts import Draft
from tracemill.dataset.features import of_all
from tracemill.dataset.lookup import Standing
from tracemill.dataset.rows import decode_line, encode_line
from tracemill.dataset.shards import Shard

_DAY = 24 * 60 * 60 * 1_000_000
"""Microseconds of a day."""


class Seen:
    """What is known of the conversation and the user of every interaction once all of them are read."""

    def __init__(self, names: Sequence[str], ledger: Standing, all_shards: Sequence[Shard]) -> None:
        self._names = [name for name in names if of_all(name)]
        self._ledger = ledger
        self._total = 0
        self._owners = (array("q"), array("q"))
        self._counts: tuple[list[int], list[int]] = ([], [])
        self._first: list[int] = []
        known: tuple[dict[bytes, int], dict[bytes, int]] = ({}, {})
        for shard in all_shards if self._names else ():
            for row in shard.columns():
                self._add(row.dropped is None, row.time, row.belonging or [b"", b""], known)

    def __bool__(self) -> bool:
        return bool(self._names)

    def _add(
        self, selected: bool, time: int, digests: Sequence[bytes], known: tuple[dict[bytes, int], dict[bytes, int]]
    ) -> None:
        self._total += selected
        for place, digest in enumerate(digests):
            if not selected or not digest:
                self._owners[place].append(-1)
                continue
            number = known[place].setdefault(digest, len(known[place]))
            self._owners[place].append(number)
            if number == len(self._counts[place]):
                self._counts[place].append(0)
                if place == 0:
                    self._first.append(time)
            self._counts[place][number] += 1
            if place == 0:
                self._first[number] = min(self._first[number], time)

    def values(self, number: int) -> dict[str, FeatureValue]:
        """The features asked for of one interaction; without what it lacks a conversation or a user for."""
        conversation, user = self._owners[0][number], self._owners[1][number]
        known: dict[str, Callable[[], FeatureValue]] = {}
        if conversation >= 0:
            known["conversation_age_days"] = lambda: (self._ledger.times[number] - self._first[conversation]) / _DAY
            known["conversation_interactions"] = lambda: self._counts[0][conversation]
        if user >= 0:
            known["user_interactions"] = lambda: self._counts[1][user]
            known["user_share"] = lambda: self._counts[1][user] / self._total
        return {name: known[name]() for name in self._names if name in known}

    def completed(self, draft: Draft) -> Draft:
        """A draft whose example has the features asked for beside those it has; of two trials, the better one's."""
        example = decode_line(draft.line)
        numbers = [self._ledger.number(owner) for owner in draft.owners]
        number = numbers[0]
        if isinstance(example, (PreferenceExample, TrajectoryPreference)) and example.pairs:
            better = id_bytes(example.pairs[0][0])
            number = next((each for each in numbers if self._ledger.ids[each] == better), number)
        features: dict[str, Any] = {**example.features, **self.values(number)}
        return msgspec.structs.replace(draft, line=encode_line(msgspec.structs.replace(example, features=features)))
