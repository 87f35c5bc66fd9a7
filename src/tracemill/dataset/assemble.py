"""From sorted runs to the files of a version: ranges of ids are merged by workers and put together in order.

Example ids are cut into ranges of about the same size, and so are record ids. A range's drafts are sorted in memory by the
worker that merges them. What the ranges give is appended range by range, so that the files do not depend on how many
ranges there were or who worked on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tracemill.core.examples import DatasetFile
from tracemill.core.steps import Progress
from tracemill.dataset.drafts import WORDS
from tracemill.dataset.files import WholeFile, write_whole
from tracemill.dataset.ledger import Ledger
from tracemill.dataset.lookup import StandingFile, write_standing
from tracemill.dataset.merge import (
    Merge,
    Merged,
    count_contradictions,
    held_out_elsewhere,
    note_others,
    note_records,
    rows_file,
    version_file,
    write_fates,
)
from tracemill.dataset.pairs import uncompared
from tracemill.dataset.parted import pack_parted, parted_words, read_parted
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.seen import Seen
from tracemill.dataset.shards import Shard, shards
from tracemill.dataset.site import Crew, Site
from tracemill.dataset.sort import KEY_BYTES, RunWriter, merge_runs, ranges, sorted_range
from tracemill.dataset.weights import Weights

FATES = "fates.jsonl"
RANGE_BYTES = 24 * 1024 * 1024
"""Size of the drafts that a worker sorts in memory."""
_FATE_BYTES = RANGE_BYTES // 4  # many small entries
_COPY = 4 * 1024 * 1024
_DRAFTS = ("shard-??????.*.run", "pairs-*.run", "conversations.*.run")
_ELSEWHERE = "elsewhere"
_PARTED = "parted"
_WORDS = f"{WORDS}-*.run"
_NOTES = ("noted-*.run", "rows-*.fates.*.run")


@dataclass
class Assembled:
    """What the files of a version hold, counted."""

    files: list[DatasetFile] = field(default_factory=list)
    examples: dict[str, Counter[str]] = field(default_factory=dict)
    drops: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    contradictions: Counter[str] = field(default_factory=Counter)
    records: int = 0
    notes: list[str] = field(default_factory=list)
    augmented: int = 0


@dataclass(frozen=True)
class _Range:
    """What a worker merges: the keys from ``low`` up to ``high``, of which none is the end."""

    number: int
    low: bytes
    high: bytes | None

    @property
    def stem(self) -> str:
        return f"rows-{self.number:06d}"


@dataclass(frozen=True)
class _Noted:
    """A shard whose records get their notes, and by number why trials of it are in no pair."""

    number: int
    uncompared: Mapping[int, str]


def _runs(work: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted(path for pattern in patterns for path in work.glob(pattern))


# -- parts


def merge_range(site: Site, wanted: _Range) -> Merged:
    """Merge the drafts of one range of example ids."""
    runs = site.keep("drafts", lambda: _runs(site.work, _DRAFTS))
    standing = _standing(site)
    seen = site.keep("seen", lambda: Seen(site.recipe.features, standing, shards(site.work, site.watermark)))
    elsewhere = site.keep("elsewhere", lambda: _read_elsewhere(site))
    entries = sorted_range(runs, wanted.low, wanted.high)
    return Merge(site.work, wanted.stem, standing, site.recipe, seen, elsewhere, _parted(site)).run(entries)


def find_parted(site: Site, wanted: _Range) -> bytes:
    """The words of one range that drafts of several splits say, with the split that keeps them, one after another."""
    runs = site.keep("words", lambda: _runs(site.work, (_WORDS,)))
    return pack_parted(parted_words(sorted_range(runs, wanted.low, wanted.high), _standing(site), site.recipe))


def _parted(site: Site) -> Mapping[bytes, str]:
    found: Mapping[bytes, str] = site.keep("parted", lambda: read_parted((site.work / _PARTED).read_bytes()))
    return found


def find_elsewhere(site: Site, wanted: _Range) -> bytes:
    """The keys of the examples of one range of which no variation may be trained on, one after another."""
    runs = site.keep("drafts", lambda: _runs(site.work, _DRAFTS))
    entries = sorted_range(runs, wanted.low, wanted.high)
    return b"".join(held_out_elsewhere(entries, _standing(site), site.recipe, _parted(site)))


def _read_elsewhere(site: Site) -> frozenset[bytes]:
    if site.recipe.augment is None:
        return frozenset()
    keys = (site.work / _ELSEWHERE).read_bytes()
    return frozenset(keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES))


def _standing(site: Site) -> StandingFile:
    found: StandingFile = site.keep("standing", lambda: StandingFile(site.work))
    return found


def note_shard(site: Site, noted: _Noted) -> Counter[str]:
    """Note what became of the records of one shard so far."""
    runs = RunWriter(site.work, f"noted-{noted.number:06d}")
    standing, shard = _standing(site), Shard(site.work, noted.number, site.watermark)
    first = standing.number((noted.number, 0))
    changes = note_records(shard.columns(), first, standing, site.recipe, noted.uncompared, runs)
    runs.close()
    return changes


def fates_of_range(site: Site, wanted: _Range) -> tuple[int, Counter[str]]:
    """Write the fates of one range of record ids; gives how many, and what was dropped."""
    runs = site.keep("notes", lambda: _runs(site.work, _NOTES))
    with WholeFile(site.work / f"{wanted.stem}.{FATES}", sync=False) as file:
        drops = write_fates(sorted_range(runs, wanted.low, wanted.high), file)
    return file.rows, drops


# -- together


@dataclass
class Assembly:
    """One run of the stage. ``output`` is the folder of the version to be.

    ``consents`` are the ids of the consent records that were looked at: they have a fate too.
    """

    crew: Crew
    work: Path
    output: Path
    ledger: Ledger
    shards: Sequence[Shard]
    recipe: Recipe
    unmatched: Mapping[str, str]
    progress: Progress | None
    consents: Sequence[bytes] = ()
    assembled: Assembled = field(default_factory=Assembled)

    def run(self) -> Assembled:
        """Write all rows and all fates."""
        for path in _runs(self.work, ("noted-*", "rows-*", "unmatched-*")):
            path.unlink()  # of a run that was interrupted
        write_standing(self.work, self.ledger)
        merged = self._rows()
        self._contradictions([path for one in merged for path in one.opposed])
        self._note()
        self._fates()
        return self.assembled

    def _rows(self) -> list[Merged]:
        words = _cut(_runs(self.work, (_WORDS,)), _FATE_BYTES)
        write_whole(self.work / _PARTED, b"".join(_in_order(self.crew.run(find_parted, words))))
        wanted = _cut(_runs(self.work, _DRAFTS), RANGE_BYTES)
        if self.recipe.augment is not None:
            keys = b"".join(_in_order(self.crew.run(find_elsewhere, wanted)))
            write_whole(self.work / _ELSEWHERE, keys)
        files: dict[tuple[str, str], WholeFile] = {}
        merged: list[Merged] = []
        weights = Weights(self.recipe, self.ledger)
        done = 0
        try:
            for one, made in zip(wanted, _in_order(self.crew.run(merge_range, wanted)), strict=True):
                merged.append(made)
                self.assembled.drops.update(made.drops)
                self.assembled.augmented += made.augmented
                weights.add(made.weights)
                for (split, tag), rows in sorted(made.rows.items()):
                    file = files.get((split, tag))
                    if file is None:
                        file = files[split, tag] = WholeFile(self.output / version_file(split, tag))
                    _append(file, self.work / rows_file(one.stem, split, tag), rows)
                    self.assembled.examples.setdefault(split, Counter())[tag] += rows
                    done += rows
                if self.progress is not None:
                    self.progress("write examples", done, None)
        except BaseException:  # whatever it was, no half file stays behind
            for file in files.values():
                file.abandon()
            raise
        for file in files.values():
            file.commit()
        self.assembled.files.extend(weights.balance(self.output, [file.describe() for file in files.values()]))
        self.assembled.notes.extend(weights.notes())
        if self.progress is not None:
            self.progress("write examples", done, done)
        return merged

    def _contradictions(self, runs: Sequence[Path]) -> None:
        self.assembled.contradictions = count_contradictions(merge_runs(runs, self.work, "rows-opposed"))

    def _note(self) -> None:
        """Have every record that was read noted, whether or not anything was made of it."""
        reasons = uncompared(self.ledger)
        noted = []
        numbers = pairwise([*self.ledger.bases, len(self.ledger.ids)])
        for shard, (base, end) in zip(self.shards, numbers, strict=True):
            own = {number: reasons[number] for number in range(base, end) if number in reasons}
            noted.append(_Noted(shard.number, own))
        for _, changes in self.crew.run(note_shard, noted):
            self.assembled.changes.update(changes)
        runs = RunWriter(self.work, "noted-unmatched")
        note_others(self.unmatched, self.consents, runs)
        runs.close()

    def _fates(self) -> None:
        wanted = _cut(_runs(self.work, _NOTES), _FATE_BYTES)
        with WholeFile(self.output / FATES) as file:
            for one, (rows, drops) in zip(wanted, _in_order(self.crew.run(fates_of_range, wanted)), strict=True):
                _append(file, self.work / f"{one.stem}.{FATES}", rows)
                self.assembled.drops.update(drops)
                if self.progress is not None:
                    self.progress("write fates", file.rows, None)
        self.assembled.records = file.rows
        self.assembled.files.append(file.describe())


def _cut(runs: Sequence[Path], size: int) -> list[_Range]:
    return [_Range(number, low, high) for number, (low, high) in enumerate(ranges(runs, size))]


def _in_order(results: Iterator[tuple[int, Any]]) -> Iterator[Any]:
    """Results by the place of their argument, each as soon as all before it are there."""
    early: dict[int, Any] = {}
    following = 0
    for place, result in results:
        early[place] = result
        while following in early:
            yield early.pop(following)
            following += 1


def _append(file: WholeFile, path: Path, rows: int) -> None:
    """Move the rows of a range's file to the end of another."""
    with path.open("rb") as source:
        while piece := source.read(_COPY):
            file.write(piece)
    file.rows += rows
    path.unlink()
