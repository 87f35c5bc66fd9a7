"""What changed between two versions: rows added, dropped and moved, and why; the recipe; the numbers.

Rows have ids made of their content and lie sorted by them, so two versions are compared like two sorted lists, in bounded
memory. Why a row is only in one of them is told by the fates of its sources in the other.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct, field

from tracemill.core.difference import structural_difference
from tracemill.core.errors import DatasetError
from tracemill.core.examples import Fate
from tracemill.core.ids import id_bytes, id_text
from tracemill.core.records import Difference
from tracemill.core.steps import Progress
from tracemill.dataset.drift import Drift, drifts
from tracemill.dataset.sort import RunWriter, grouped, merge_runs
from tracemill.dataset.version import Version

Known: TypeAlias = Callable[[Sequence[str]], set[str]]
"""Which of some record ids the store still has."""
OnRow: TypeAlias = "Callable[[RowChange], None]"
_SIGNALS = {
    "supervised": ("supervised", "augment"),
    "labelled": ("labelled", "rephrases", "checks"),
    "preference": ("edits", "trials", "regenerations", "overrides"),
    "trajectory_preference": ("trials",),
    "action": ("actions", "recoveries", "decisions", "overrides"),
    "reward": ("rewards",),
    "retrieval": ("retrieval",),
}
"""Which signals may make rows of a type; of any other type, all."""
_FIRST = ("erased", "steps.", "not_read", "new_record", "feedback.")
"""Which of several sources' reasons is a row's, the first first; what signals say comes after these, ``changed`` last."""
_KNOWN_AT_ONCE = 500
_REPORT_EVERY = 5000
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode


class _Row(Struct, frozen=True):
    """What is looked at of a row."""

    id: str
    sources: list[str]


_row = msgspec.json.Decoder(_Row).decode


class RowChange(Struct, frozen=True, kw_only=True):
    """One row that is not the same in both versions.

    ``reason`` of a dropped row is why the later version lacks it, of an added one why the earlier did; empty for a moved one.
    """

    id: str
    type: str
    change: Literal["added", "dropped", "moved"]
    before: str | None = None
    after: str | None = None
    reason: str = ""


class Counts(Struct, kw_only=True):
    """Rows of one type: in both versions, how many are in both, and what changed."""

    before: int = 0
    after: int = 0
    kept: int = 0
    added: int = 0
    dropped: int = 0
    moved: int = 0


class Changes(Struct, kw_only=True):
    """What changed from ``before`` to ``after``.

    ``examples`` counts rows by type; ``moved`` rows by splits (``train → test``; they are kept too). ``dropped`` and ``added``
    count rows by reason:
    a fate of the other version (``steps.low_quality``, ``supervised.superseded``), ``erased`` (no longer stored), ``not_read``
    (stored, but the recipe's source names it no more), ``new_record`` (the earlier version did not read it) and ``changed``
    (its source gives other rows there). ``recipe`` is by JSON Pointer. ``compared`` is False where the rows of a version were
    erased: then only counts of the manifests are told.
    """

    before: str
    after: str
    compared: bool
    records_before: int
    records_after: int
    examples: dict[str, Counts]
    dropped: dict[str, int]
    added: dict[str, int]
    moved: dict[str, int]
    recipe: Difference
    numbers: list[Drift] = field(default_factory=list)

    @property
    def lost_share(self) -> float:
        """Rows of the earlier version that the later one lacks, as a share of the earlier's."""
        total = sum(counts.before for counts in self.examples.values())
        return sum(counts.dropped for counts in self.examples.values()) / total if total else 0.0


def compare(
    before: Version,
    after: Version,
    *,
    known: Known | None = None,
    on_row: OnRow | None = None,
    progress: Progress | None = None,
) -> Changes:
    """Compare two versions. ``on_row`` is given each row that changed; ``known`` tells erased records from others.

    Raises DatasetError when a version is damaged.
    """
    whole = before.tombstone is None and after.tombstone is None
    changes = Changes(
        before=before.reference,
        after=after.reference,
        compared=whole,
        records_before=before.manifest.records_read,
        records_after=after.manifest.records_read,
        examples={
            tag: Counts(before=before.count(type=tag), after=after.count(type=tag))
            for tag in sorted(
                {tag for side in (before, after) for types in side.manifest.examples.values() for tag in types}
            )
        },
        dropped={},
        added={},
        moved={},
        recipe=structural_difference(before.manifest.recipe, after.manifest.recipe),
        numbers=drifts(before, after) if whole else [],
    )
    if whole:
        with TemporaryDirectory(prefix="tracemill-diff-") as folder:
            _Comparison(before, after, changes, Path(folder), known, on_row, progress).run()
    return changes


class _Comparison:
    """One comparison. ``work`` takes the ids that changed."""

    def __init__(
        self,
        before: Version,
        after: Version,
        changes: Changes,
        work: Path,
        known: Known | None,
        on_row: OnRow | None,
        progress: Progress | None,
    ) -> None:
        self.before, self.after, self.changes, self.work = before, after, changes, work
        self.known, self.on_row, self.progress = known, on_row, progress

    def run(self) -> None:
        dropped, added = RunWriter(self.work, "dropped"), RunWriter(self.work, "added")
        moved: Counter[str] = Counter()
        done = 0
        for one, other in _side_by_side(_rows(self.before), _rows(self.after)):
            done += 1
            if self.progress is not None and done % _REPORT_EVERY == 0:
                self.progress("compare rows", done, None)
            if one is None or other is None:
                row = one or other
                assert row is not None
                _, tag, split, sources = row
                counts = self.changes.examples[tag]
                if other is None:
                    counts.dropped += 1
                else:
                    counts.added += 1
                for source in sources or [row[0]]:
                    into = dropped if other is None else added
                    into.add(id_bytes(source), _encode([row[0], tag, split]))
                continue
            counts = self.changes.examples[one[1]]
            counts.kept += 1
            if one[2] != other[2]:
                counts.moved += 1
                moved[f"{one[2]} → {other[2]}"] += 1
                self._say(RowChange(id=one[0], type=one[1], change="moved", before=one[2], after=other[2]))
        self.changes.moved = dict(sorted(moved.items()))
        self.changes.dropped = self._reasons(dropped.close(), "dropped")
        self.changes.added = self._reasons(added.close(), "added")

    def _say(self, change: RowChange) -> None:
        if self.on_row is not None:
            self.on_row(change)

    def _reasons(self, runs: Sequence[Path], change: Literal["dropped", "added"]) -> dict[str, int]:
        """Why rows changed, by the fates of their sources in the version that lacks them."""
        lacking = self.after if change == "dropped" else self.before
        by_row = RunWriter(self.work, f"{change}-reasons")
        missing: list[tuple[str, list[Any]]] = []
        for source, fate, entries in _with_fates(grouped(merge_runs(runs, self.work, change)), lacking.fates()):
            if fate is None:
                missing.extend((source, entry) for entry in map(_decode, entries))
                if len(missing) >= _KNOWN_AT_ONCE:
                    self._absent(missing, by_row, change)
                continue
            for row, tag, split in map(_decode, entries):
                by_row.add(id_bytes(row), _encode([_reason(fate, tag), tag, split]))
        self._absent(missing, by_row, change)
        counted: Counter[str] = Counter()
        for key, payloads in grouped(merge_runs(by_row.close(), self.work, f"{change}-reasons")):
            entries_of_row = [_decode(payload) for payload in payloads]
            reason = min((entry[0] for entry in entries_of_row), key=_precedence)
            counted[reason] += 1
            _, tag, split = entries_of_row[0]
            sides = {"before": split} if change == "dropped" else {"after": split}
            self._say(RowChange(id=id_text(key), type=tag, change=change, reason=reason, **sides))
        return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))

    def _absent(self, missing: list[tuple[str, list[Any]]], into: RunWriter, change: str) -> None:
        """Sources that the other version did not read: new ones, erased ones, or ones its source does not name."""
        stored: set[str] | None = None
        if change == "dropped" and self.known is not None:
            stored = self.known(sorted({source for source, _ in missing}))
        for source, (row, tag, split) in missing:
            reason = "new_record" if change == "added" else "not_read"
            if stored is not None and source not in stored:
                reason = "erased"
            into.add(id_bytes(row), _encode([reason, tag, split]))
        missing.clear()


def _precedence(reason: str) -> tuple[int, str]:
    place = next((place for place, start in enumerate(_FIRST) if reason.startswith(start)), len(_FIRST))
    return place + (reason == "changed"), reason


def _reason(fate: Fate, tag: str) -> str:
    if fate.dropped is not None:
        return fate.dropped
    said = [
        f"{signal}.{fate.left_out[signal]}"
        for signal in _SIGNALS.get(tag, sorted(fate.left_out))
        if signal in fate.left_out
    ]
    return said[0] if said else "changed"


_Place: TypeAlias = tuple[str, str, str, list[str]]
"""Id, type, split and sources of a row."""


def _rows(version: Version) -> Iterator[_Place]:
    """Every row of a version, by id."""
    files = [_file(version, split, tag) for split, types in version.manifest.examples.items() for tag in types]
    return heapq.merge(*files, key=itemgetter(0))


def _file(version: Version, split: str, tag: str) -> Iterator[_Place]:
    path = version.path / f"{split}-{tag}.jsonl"
    try:
        with path.open("rb") as lines:
            for line in lines:
                row = _row(line)
                yield row.id, tag, split, row.sources
    except (OSError, msgspec.MsgspecError) as error:
        raise DatasetError(
            f"{version.reference}: {path.name} cannot be read: {error}",
            hint="`tracemill dataset verify` says what is wrong.",
        ) from error


def _side_by_side(one: Iterator[_Place], other: Iterator[_Place]) -> Iterator[tuple[_Place | None, _Place | None]]:
    """Two sorted lists of rows as pairs with one id; None where a side has no such row."""
    left, right = next(one, None), next(other, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] < right[0]):
            yield left, None
            left = next(one, None)
        elif left is None or right[0] < left[0]:
            yield None, right
            right = next(other, None)
        else:
            yield left, right
            left, right = next(one, None), next(other, None)


def _with_fates(
    sources: Iterator[tuple[bytes, list[bytes]]], fates: Iterator[Fate]
) -> Iterator[tuple[str, Fate | None, list[bytes]]]:
    """Sources with their fates: both sorted by id and met once. None for one that has no fate."""
    fate = next(fates, None)
    for key, payloads in sources:
        source = id_text(key)
        while fate is not None and fate.id < source:
            fate = next(fates, None)
        yield source, fate if fate is not None and fate.id == source else None, payloads
