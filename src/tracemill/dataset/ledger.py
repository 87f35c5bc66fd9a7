"""What a build knows of all records at once: ids, groups, which calls are repeated by later ones, which trials compare.

Built from the columns of the shards. Interactions are numbered in the order they were read; messages never come here.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tracemill.core.ids import id_bytes, id_text
from tracemill.dataset.assign import Values, strata
from tracemill.dataset.history import DIGEST_BYTES
from tracemill.dataset.id_list import IdList
from tracemill.dataset.shards import Shard
from tracemill.dataset.split import Groups

DUPLICATE, NOT_NOVEL = 1, 2
REPEATS = {DUPLICATE: "duplicate_pattern", NOT_NOVEL: "not_novel"}
"""What ``Ledger.duplicate`` says of an interaction that others stand for, and the reason it is left out by."""


@dataclass(frozen=True, slots=True)
class TrialPlace:
    """A trial that can be compared: its number, its score, and where its messages lie."""

    number: int
    score: float
    shard: int
    offset: int
    length: int


@dataclass
class Ledger:
    """The columns of all interactions. ``bases`` is the number of the first interaction of each shard.

    ``people`` are the digests of their users, where anybody said anything of consent.
    """

    ids: IdList = field(default_factory=IdList)
    bases: list[int] = field(default_factory=list)
    groups: Groups = field(default_factory=Groups)
    selected: bytearray = field(default_factory=bytearray)
    superseded: bytearray = field(default_factory=bytearray)
    duplicate: bytearray = field(default_factory=bytearray)
    compared: bytearray = field(default_factory=bytearray)
    tasks: dict[bytes, list[TrialPlace]] = field(default_factory=dict)
    attached: IdList = field(default_factory=IdList)
    times: array[int] = field(default_factory=lambda: array("q"))
    drawn_by: array[int] = field(default_factory=lambda: array("q"))
    people: set[bytes] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    _combinations: dict[Values, int] = field(default_factory=dict)
    _splits: Mapping[int, str | None] = field(default_factory=dict)

    def number(self, owner: tuple[int, int]) -> int:
        """The number of an interaction that a draft names by shard and place."""
        shard, place = owner
        return self.bases[shard] + place

    def records_digest(self, others: Sequence[str], consents: Sequence[bytes] = ()) -> str:
        """SHA-256 over the sorted ids of all records read: interactions, what is attached to them, ``others``, ``consents``."""
        whole = hashlib.sha256()
        for raw in sorted([*self.ids, *self.attached, *map(id_bytes, others), *consents]):
            whole.update(id_text(raw).encode() + b"\n")
        return whole.hexdigest()

    @property
    def newest(self) -> int:
        """The time of the newest interaction, in microseconds since the epoch; 0 where there is none."""
        return max(self.times, default=0)

    def add_drawn_by(self, time: int, values: Values) -> None:
        """Note of the interaction added last what splits may be drawn by: its time, and what it is stratified by."""
        self.times.append(time)
        self.drawn_by.append(self._combinations.setdefault(values, len(self._combinations)))

    def smallest(self) -> dict[int, bytes]:
        """The smallest record id of every group that has a selected interaction."""
        found: dict[int, bytes] = {}
        for number, raw in enumerate(self.ids):
            if self.selected[number]:
                root = self.groups.root(number)
                found[root] = min(found.get(root, raw), raw)
        return found

    def spans(self) -> dict[int, tuple[int, int]]:
        """The first and last time of every group's selected interactions."""
        found: dict[int, tuple[int, int]] = {}
        for number, time in enumerate(self.times):
            if self.selected[number]:
                root = self.groups.root(number)
                first, last = found.get(root, (time, time))
                found[root] = min(first, time), max(last, time)
        return found

    def strata(self) -> tuple[list[int], list[tuple[str, ...]]]:
        """The stratum of every combination of values that selected interactions have, and the words that name each stratum."""
        times = Counter(combination for combination, kept in zip(self.drawn_by, self.selected, strict=True) if kept)
        words = strata({number: values for values, number in self._combinations.items() if times[number]}, times)
        names = sorted(set(words.values()))
        places = {name: place for place, name in enumerate(names)}
        return [places.get(words.get(number, ()), -1) for number in self._combinations.values()], names

    def strata_of_groups(self, stratum: Sequence[int]) -> Iterator[tuple[int, int]]:
        """The group and the stratum of every selected interaction; ``stratum`` as :meth:`strata` gives it."""
        for number, combination in enumerate(self.drawn_by):
            if self.selected[number]:
                yield self.groups.root(number), stratum[combination]

    def settle(self, splits: Mapping[int, str | None]) -> None:
        """Keep the split of every group, by its root; None for groups that are in none."""
        self._splits = splits

    def split(self, number: int) -> str | None:
        """The split of an interaction's group; None where it is in none."""
        return self._splits[self.groups.root(number)]


def read_ledger(all_shards: Sequence[Shard]) -> Ledger:
    """The ledger of a build whose shards are complete. Reads the columns twice."""
    ledger = Ledger()
    ends: dict[bytes, int] = {}
    more_ends: dict[bytes, list[int]] = {}  # trajectories that several calls ended with: few, and lists are large
    for shard in all_shards:
        ledger.bases.append(len(ledger.ids))
        for row in shard.columns():
            number = ledger.groups.add(row.groups)
            ledger.ids.append(id_bytes(row.id))
            ledger.attached.extend(id_bytes(record_id) for record_id in (*row.attached, *row.executed))
            ledger.selected.append(row.dropped is None)
            ledger.add_drawn_by(row.time, tuple(row.strata))
            if row.person:
                ledger.people.add(row.person)
            if row.spine:
                end = row.spine[-DIGEST_BYTES:]
                if ends.setdefault(end, number) != number:
                    more_ends.setdefault(end, []).append(number)
            if row.task is not None:
                place = TrialPlace(number, row.score, shard.number, row.offset, row.length)
                ledger.tasks.setdefault(row.task, []).append(place)
    ledger.groups.close()
    ledger.superseded = bytearray(len(ledger.ids))
    ledger.duplicate = bytearray(len(ledger.ids))
    ledger.compared = bytearray(len(ledger.ids))
    for shard in all_shards:
        for row in shard.columns():
            for at in range(0, len(row.spine) - DIGEST_BYTES, DIGEST_BYTES):
                prefix = row.spine[at : at + DIGEST_BYTES]
                if prefix in ends:
                    for number in (ends[prefix], *more_ends.get(prefix, ())):
                        ledger.superseded[number] = 1
    return ledger
