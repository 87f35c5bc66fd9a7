"""The second stage of a build: every pair of trials of one task whose scores differ.

Tasks are worked through in chunks, each of which leaves runs of drafts and, as the sign that it is complete, the list of
what it made. Trials are read from the shards' files as they are needed; only a bounded part of them is in memory.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import msgspec

from tracemill.core.steps import Progress
from tracemill.dataset.drafts import WORDS, Drafts
from tracemill.dataset.files import WholeFile, sync_folder
from tracemill.dataset.ledger import Ledger, TrialPlace
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.shards import Shard
from tracemill.dataset.signals.trials import Trial, compare

CHUNK_PAIRS = 500
"""Pairs that one chunk of tasks makes, about."""
CACHE_BYTES = 16 * 1024 * 1024
"""Size of the trials that are kept in memory, encoded."""
_MADE = struct.Struct("<16sQ")


class _Trials:
    """Trials by their places; those used lately are kept."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._recent: OrderedDict[int, tuple[Trial, int]] = OrderedDict()
        self._bytes = 0

    def read(self, place: TrialPlace) -> Trial:
        if place.number in self._recent:
            self._recent.move_to_end(place.number)
            return self._recent[place.number][0]
        trial = self._shards[place.shard].trial(place.offset, place.length)
        self._recent[place.number] = trial, place.length
        self._bytes += place.length
        while self._bytes > CACHE_BYTES and len(self._recent) > 2:
            _, (_, freed) = self._recent.popitem(last=False)
            self._bytes -= freed
        return trial


def comparable(ledger: Ledger) -> list[list[TrialPlace]]:
    """The trials of each task that no later call repeats, tasks by their digests, trials by their record ids."""
    tasks = []
    for _, places in sorted(ledger.tasks.items()):
        left = [place for place in places if not ledger.superseded[place.number]]
        tasks.append(sorted(left, key=lambda place: ledger.ids[place.number]))
    return tasks


def uncompared(ledger: Ledger) -> dict[int, str]:
    """Why a trial that has a score is in no pair, by its number: ``superseded``, ``only_trial`` or ``equal_scores``."""
    reasons: dict[int, str] = {}
    for places in ledger.tasks.values():
        reasons.update({place.number: "superseded" for place in places if ledger.superseded[place.number]})
    for places in comparable(ledger):
        if len(places) == 1:
            reasons[places[0].number] = "only_trial"
        elif len({place.score for place in places}) == 1:
            reasons.update({place.number: "equal_scores" for place in places})
    return reasons


def _chunks(tasks: Sequence[list[TrialPlace]]) -> Iterator[list[list[TrialPlace]]]:
    chunk: list[list[TrialPlace]] = []
    pairs = 0
    for places in tasks:
        if len({place.score for place in places}) < 2:
            continue
        chunk.append(places)
        pairs += len(places) * (len(places) - 1) // 2
        if pairs >= CHUNK_PAIRS:
            yield chunk
            chunk, pairs = [], 0
    if chunk:
        yield chunk


def make_pairs(work: Path, ledger: Ledger, shards: Sequence[Shard], recipe: Recipe, progress: Progress | None) -> None:
    """Write the drafts of all pairs, then join the groups of tasks that gave the very same example.

    Two tasks with one and the same preference are the same task under two names: in two splits, the one would give the
    other away.
    """
    chunks = list(_chunks(comparable(ledger)))
    trials = _Trials(shards)
    made: dict[bytes, int] = {}
    for number, chunk in enumerate(chunks):
        marker = work / f"pairs-{number:06d}.made"
        if not marker.exists():
            _make_chunk(work, number, chunk, trials, ledger, recipe, marker)
        content = marker.read_bytes()
        for at in range(0, len(content), _MADE.size):
            key, owner = _MADE.unpack_from(content, at)
            ledger.groups.join(owner, made.setdefault(key, owner))
        for places in chunk:  # where tasks hold nothing together, what was compared still does
            for place in places:
                ledger.groups.join(places[0].number, place.number)
        if progress is not None:
            progress("compare trials", number + 1, len(chunks))


def _make_chunk(
    work: Path,
    number: int,
    chunk: list[list[TrialPlace]],
    trials: _Trials,
    ledger: Ledger,
    recipe: Recipe,
    marker: Path,
) -> None:
    drafts = Drafts(work, f"pairs-{number:06d}", sync=True)
    lines: list[bytes] = []
    for places in chunk:
        for one, other in combinations(places, 2):
            if one.score == other.score:
                continue
            example = compare(trials.read(one), trials.read(other), recipe)
            if example is None:
                continue
            example = msgspec.structs.replace(example, training_type=recipe.package)
            owners = [(place.shard, place.number - ledger.bases[place.shard]) for place in (one, other)]
            key = drafts.add(example, owners, "trials", whole=False)
            lines.append(_MADE.pack(key, one.number))
    drafts.close()
    sync_folder(work)
    with WholeFile(marker) as file:
        file.write(b"".join(lines))
    sync_folder(work)


def pair_runs(work: Path) -> list[Path]:
    """The runs of drafts that the pairs left."""
    return sorted(work.glob("pairs-*.run"))


def discard_pairs(work: Path) -> None:
    """Remove what an earlier run made of trials that have been read anew since."""
    for pattern in ("pairs-*", f"{WORDS}-pairs-*"):
        for path in work.glob(pattern):
            path.unlink()
