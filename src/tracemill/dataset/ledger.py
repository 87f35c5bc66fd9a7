"""What a build knows of all records at once: ids, groups, which calls are repeated by later ones, which trials compare.

Built from the columns of the shards. Interactions are numbered in the order they were read; messages never come here.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tracemill.core.ids import id_bytes, id_text
from tracemill.dataset.history import DIGEST_BYTES
from tracemill.dataset.shards import Shard
from tracemill.dataset.split import Groups, draw_split

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

    ids: list[bytes] = field(default_factory=list)
    bases: list[int] = field(default_factory=list)
    groups: Groups = field(default_factory=Groups)
    selected: bytearray = field(default_factory=bytearray)
    superseded: bytearray = field(default_factory=bytearray)
    duplicate: bytearray = field(default_factory=bytearray)
    tasks: dict[bytes, list[TrialPlace]] = field(default_factory=dict)
    attached: list[bytes] = field(default_factory=list)
    people: set[bytes] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    _splits: dict[int, str] = field(default_factory=dict)

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

    def draw_splits(self, seed: int, shares: Mapping[str, float]) -> int:
        """Give every group its split; gives how many groups there are. Groups are joined no more after this."""
        smallest: dict[int, bytes] = {}
        for number, raw in enumerate(self.ids):
            if self.selected[number]:
                root = self.groups.root(number)
                smallest[root] = min(smallest.get(root, raw), raw)
        self._splits = {root: draw_split(seed, id_text(raw), shares) for root, raw in smallest.items()}
        return len(smallest)

    def split(self, number: int) -> str:
        """The split of an interaction's group."""
        return self._splits[self.groups.root(number)]

    def sizes(self) -> tuple[Counter[int], Counter[str]]:
        """How many selected interactions each group has, and each split."""
        groups: Counter[int] = Counter()
        splits: Counter[str] = Counter()
        for number in range(len(self.ids)):
            if self.selected[number]:
                root = self.groups.root(number)
                groups[root] += 1
                splits[self._splits[root]] += 1
        return groups, splits


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
            if row.person:
                ledger.people.add(row.person)
            if row.spine:
                end = row.spine[-DIGEST_BYTES:]
                if ends.setdefault(end, number) != number:
                    more_ends.setdefault(end, []).append(number)
            if row.task is not None:
                place = TrialPlace(number, row.score, shard.number, row.offset, row.length)
                ledger.tasks.setdefault(row.task, []).append(place)
    ledger.superseded = bytearray(len(ledger.ids))
    ledger.duplicate = bytearray(len(ledger.ids))
    for shard in all_shards:
        for row in shard.columns():
            for at in range(0, len(row.spine) - DIGEST_BYTES, DIGEST_BYTES):
                prefix = row.spine[at : at + DIGEST_BYTES]
                if prefix in ends:
                    for number in (ends[prefix], *more_ends.get(prefix, ())):
                        ledger.superseded[number] = 1
    return ledger
