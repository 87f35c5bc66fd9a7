"""The last stage of a build: drafts sorted by id become the files of a version, and every record gets its fate.

Drafts with one id are one example. Those of one split are merged into one row that names all their sources; where a
content appears in several splits, the smallest split keeps it, so that nothing held out is also trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tracemill.core.examples import (
    DatasetFile,
    Example,
    Fate,
    PreferenceExample,
    TrajectoryPreference,
)
from tracemill.core.ids import id_bytes, id_text
from tracemill.core.steps import Progress
from tracemill.dataset.augmented import TRAIN
from tracemill.dataset.files import WholeFile
from tracemill.dataset.ledger import REPEATS, Ledger
from tracemill.dataset.pairs import uncompared
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.rows import decode_line, encode_line
from tracemill.dataset.seen import Seen
from tracemill.dataset.shards import Draft, Shard, decode_draft
from tracemill.dataset.sort import RunWriter, grouped, merge_runs
from tracemill.dataset.split import precedence
from tracemill.dataset.weights import Weights

BOTH_SIDES = 3
FATES = "fates.jsonl"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode
_encode_json = msgspec.json.Encoder().encode
_REPORT_EVERY = 1000


@dataclass
class Merged:
    """What the merge counted and wrote."""

    files: list[DatasetFile] = field(default_factory=list)
    examples: dict[str, Counter[str]] = field(default_factory=dict)
    drops: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    contradictions: Counter[str] = field(default_factory=Counter)
    records: int = 0
    notes: list[str] = field(default_factory=list)
    augmented: int = 0


@dataclass
class Merge:
    """One run of the stage. ``output`` is the folder of the version to be, ``work`` takes what does not fit in memory.

    ``consents`` are the ids of the consent records that were looked at: they have a fate too.
    """

    work: Path
    output: Path
    ledger: Ledger
    shards: Sequence[Shard]
    recipe: Recipe
    unmatched: dict[str, str]
    progress: Progress | None
    consents: Sequence[bytes] = ()
    merged: Merged = field(default_factory=Merged)

    def run(self, runs: Sequence[Path]) -> Merged:
        """Write all rows and all fates."""
        self._weights = Weights(self.recipe, self.ledger)
        fates = RunWriter(self.work, "fates")
        with ExitStack() as files:
            written = self._rows(runs, fates, files)
        self.merged.files.extend(self._weights.balance(self.output, [file.describe() for file in written]))
        self.merged.notes.extend(self._weights.notes())
        self._note_records(fates)
        self._fates(fates.close())
        return self.merged

    # -- rows

    def _rows(self, runs: Sequence[Path], fates: RunWriter, open_files: ExitStack) -> list[WholeFile]:
        files: dict[tuple[str, str], WholeFile] = {}
        rank = precedence(self.recipe.split)
        seen = Seen(self.recipe.features, self.ledger, self.shards)
        sides: dict[bytes, int] = {}
        done = 0
        for key, payloads in grouped(merge_runs(runs, self.work, "drafts")):
            by_split = self._by_split([decode_draft(payload) for payload in payloads], fates)
            if not by_split:
                continue
            split = min(by_split, key=rank.__getitem__)
            drafts = by_split.pop(split)
            if seen:
                drafts = [seen.completed(draft) for draft in drafts]
            sources, line = _combine(drafts)
            self._count_duplicates(drafts, by_split, fates)
            tag = drafts[0].type
            file = files.get((split, tag))
            if file is None:
                file = open_files.enter_context(WholeFile(self.output / f"{split}-{tag}.jsonl"))
                files[split, tag] = file
            if self._weights.active:
                numbers = {self.ledger.number(owner) for draft in drafts for owner in draft.owners}
                line = self._weights.weigh(file.path.name, line, numbers)
            file.write_line(line)
            self.merged.examples.setdefault(split, Counter())[tag] += 1
            self.merged.augmented += all(draft.augmented for draft in drafts)
            for source in sources:
                fates.add(id_bytes(source), _encode(["example", id_text(key), split]))
            if (opposed := drafts[0].opposed) is not None:
                before = sides.get(opposed, 0)
                sides[opposed] = before | drafts[0].side
                if sides[opposed] == BOTH_SIDES != before:
                    self.merged.contradictions[tag] += 1
            done += 1
            if self.progress is not None and done % _REPORT_EVERY == 0:
                self.progress("write examples", done, None)
        if self.progress is not None:
            self.progress("write examples", done, done)
        return list(files.values())

    def _by_split(self, drafts: list[Draft], fates: RunWriter) -> dict[str, list[Draft]]:
        """The drafts that stand, by split. Those fall that a later call repeats, of duplicate patterns, and of no split."""
        standing: dict[str, list[Draft]] = {}
        for draft in drafts:
            numbers = [self.ledger.number(owner) for owner in draft.owners]
            if draft.whole and any(self.ledger.superseded[number] for number in numbers):
                for number in numbers:
                    fates.add(self.ledger.ids[number], _encode(["left_out", draft.signal, "superseded"]))
                continue
            if len(numbers) == 1 and (
                repeats := self.ledger.duplicate[numbers[0]]
            ):  # a comparison of trials has two owners and stands
                fates.add(self.ledger.ids[numbers[0]], _encode(["left_out", draft.signal, REPEATS[repeats]]))
                continue
            split = self.ledger.split(numbers[0])
            if split is None:
                continue
            if draft.augmented and split != TRAIN:
                self.merged.drops["augmented.not_train"] += 1
                continue
            standing.setdefault(split, []).append(draft)
        recorded = {split: drafts for split, drafts in standing.items() if not all(one.augmented for one in drafts)}
        if recorded and len(recorded) < len(standing):  # what was made does not displace what was recorded
            self.merged.drops["augmented.recorded_elsewhere"] += 1
        return recorded or standing

    def _count_duplicates(self, kept: list[Draft], others: dict[str, list[Draft]], fates: RunWriter) -> None:
        if len(kept) > 1:
            self.merged.drops["examples.duplicate"] += len(kept) - 1
        for drafts in others.values():
            self.merged.drops["examples.duplicate_across_splits"] += len(drafts)
            for draft in drafts:
                for owner in draft.owners:
                    record = self.ledger.ids[self.ledger.number(owner)]
                    fates.add(record, _encode(["left_out", draft.signal, "duplicate_across_splits"]))

    # -- fates

    def _note_records(self, fates: RunWriter) -> None:
        """Give every record that was read an entry, whether or not anything was made of it."""
        trials = uncompared(self.ledger)
        number = 0
        for shard in self.shards:
            for row in shard.columns():
                left_out = dict(row.left_out)
                if number in trials:
                    left_out["trials"] = trials[number]
                if row.turn and "regenerations" in self.recipe.signals and not self.ledger.compared[number]:
                    left_out["regenerations"] = "not_answered_again"
                fates.add(id_bytes(row.id), _encode(["interaction", row.dropped, left_out]))
                if row.dropped is None and self.ledger.split(number) is None:
                    fates.add(id_bytes(row.id), _encode(["undrawn"]))
                for record_id in row.attached:
                    fates.add(id_bytes(record_id), _encode(["attached", "feedback"]))
                for record_id in row.executed:
                    fates.add(id_bytes(record_id), _encode(["attached", "execution"]))
                self.merged.changes.update(
                    reason if reason.startswith("privacy.") else f"steps.{reason}" for reason in row.changes
                )
                number += 1
        for record_id, reason in self.unmatched.items():
            fates.add(id_bytes(record_id), _encode(["unmatched", reason]))
        for raw in self.consents:
            fates.add(raw, _encode(["consent"]))

    def _fates(self, runs: Sequence[Path]) -> None:
        with WholeFile(self.output / FATES) as file:
            for key, payloads in grouped(merge_runs(runs, self.work, "fates")):
                fate = _fate(id_text(key), [_decode(payload) for payload in payloads])
                file.write_line(_encode_json(fate))
                if fate.dropped is not None:
                    self.merged.drops[fate.dropped] += 1
                self.merged.drops.update(f"{signal}.{reason}" for signal, reason in fate.left_out.items())
                if self.progress is not None and file.rows % _REPORT_EVERY == 0:
                    self.progress("write fates", file.rows, None)
        self.merged.records = file.rows
        self.merged.files.append(file.describe())


def _combine(drafts: list[Draft]) -> tuple[list[str], bytes]:
    """One row of all drafts of one content in one split: its sources and line."""
    if len(drafts) == 1:
        return drafts[0].sources, drafts[0].line
    examples = sorted((decode_line(draft.line) for draft in drafts), key=_recorded_first)
    combined = msgspec.structs.replace(
        examples[0],
        sources=sorted({source for example in examples for source in example.sources}),
        human_validated=any(example.human_validated for example in examples),
    )
    if isinstance(combined, (PreferenceExample, TrajectoryPreference)):
        combined = msgspec.structs.replace(combined, pairs=sorted(set(_pairs(examples))))
    return combined.sources, encode_line(combined)


def _recorded_first(example: Example) -> tuple[bool, list[str], str]:
    """What was recorded before what was made of something else; the same content is one row, and that is its kind."""
    mark = example.augmented
    return mark is not None, example.sources, "" if mark is None else mark.source + mark.operation


def _pairs(examples: Iterable[Example]) -> Iterator[tuple[str, str]]:
    for example in examples:
        if isinstance(example, (PreferenceExample, TrajectoryPreference)):
            yield from example.pairs


def _fate(record_id: str, entries: list[list[Any]]) -> Fate:
    """One fate of all that was noted of a record."""
    examples = sorted({entry[1] for entry in entries if entry[0] == "example"})
    split = next((entry[2] for entry in entries if entry[0] == "example"), None)
    left_out = {entry[1]: entry[2] for entry in entries if entry[0] == "left_out"}
    dropped = None
    for entry in entries:
        if entry[0] == "interaction":
            dropped = entry[1] if entry[1] is None or entry[1].startswith("consent.") else f"steps.{entry[1]}"
            left_out = {**entry[2], **left_out}
        elif entry[0] == "unmatched":
            dropped = entry[1] if entry[1].startswith("consent.") else f"feedback.{entry[1]}"
        elif entry[0] == "attached" and not examples:
            dropped = f"{entry[1]}.not_used"
    if any(entry[0] == "undrawn" for entry in entries):
        dropped, left_out = "split.straddles", {}
    return Fate(
        id=record_id,
        split=split,
        examples=examples,
        dropped=dropped,
        left_out=dict(sorted(left_out.items())),
    )
