"""Drafts sorted by id become rows, and what was noted of a record becomes its fate: the last stage of a build.

Drafts with one id are one example. Those of one split are merged into one row that names all their sources; where a
content appears in several splits, the smallest split keeps it, so that nothing held out is also trained on; so it is with
rows of other types that say the same (:mod:`tracemill.dataset.parted`). Here one range
of ids is worked on; :mod:`tracemill.dataset.assemble` makes the ranges and puts together what comes of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tracemill.core.examples import (
    Example,
    Fate,
    PreferenceExample,
    TrajectoryPreference,
)
from tracemill.core.ids import id_bytes, id_text
from tracemill.dataset.augmented import TRAIN
from tracemill.dataset.drafts import Draft, decode_draft
from tracemill.dataset.files import WholeFile
from tracemill.dataset.ledger import REPEATS
from tracemill.dataset.lookup import Standing
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.rows import decode_line, encode_line
from tracemill.dataset.seen import Seen
from tracemill.dataset.select import Columns
from tracemill.dataset.sort import Entry, RunWriter, grouped
from tracemill.dataset.split import precedence
from tracemill.dataset.weights import Sums, Weights

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode
_encode_json = msgspec.json.Encoder().encode


@dataclass
class Merged:
    """What the merge of one range counted and wrote. ``rows`` is keyed by split and type, ``opposed`` are runs.

    ``weights`` are the sums of the weights of its rows, by the file they go to.
    """

    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    drops: Counter[str] = field(default_factory=Counter)
    fates: list[Path] = field(default_factory=list)
    opposed: list[Path] = field(default_factory=list)
    augmented: int = 0
    weights: dict[str, Sums] = field(default_factory=dict)


@dataclass
class Merge:
    """The merge of one range of example ids. Rows are written to ``<stem>.<split>-<type>.jsonl`` in ``work``.

    ``elsewhere`` are the examples that :func:`held_out_elsewhere` names, ``parted`` the words that one split keeps of several.
    """

    work: Path
    stem: str
    ledger: Standing
    recipe: Recipe
    seen: Seen
    elsewhere: Collection[bytes] = frozenset()
    parted: Mapping[bytes, str] = field(default_factory=dict)
    merged: Merged = field(default_factory=Merged)

    def run(self, entries: Iterable[Entry]) -> Merged:
        """Write the rows of sorted drafts, and notes of what became of the records they were made of."""
        self._weights = Weights(self.recipe, self.ledger)
        fates = RunWriter(self.work, f"{self.stem}.fates")
        opposed = RunWriter(self.work, f"{self.stem}.opposed")
        with ExitStack() as files:
            written = self._rows(entries, fates, opposed, files)
        self.merged.rows = {name: file.rows for name, file in written.items()}
        self.merged.fates, self.merged.opposed = fates.close(), opposed.close()
        self.merged.weights = self._weights.sums
        return self.merged

    # -- rows

    def _rows(
        self, entries: Iterable[Entry], fates: RunWriter, opposed: RunWriter, open_files: ExitStack
    ) -> dict[tuple[str, str], WholeFile]:
        files: dict[tuple[str, str], WholeFile] = {}
        rank = precedence(self.recipe.split)
        for key, payloads in grouped(entries):
            by_split = self._by_split([decode_draft(payload) for payload in payloads], fates)
            if not by_split:
                continue
            split = min(by_split, key=rank.__getitem__)
            drafts = by_split.pop(split)
            if self.seen:
                drafts = [self.seen.completed(draft) for draft in drafts]
            sources, line = _combine(drafts)
            self._count_duplicates(drafts, by_split, fates)
            tag = drafts[0].type
            file = files.get((split, tag))
            if file is None:
                path = self.work / rows_file(self.stem, split, tag)
                file = files[split, tag] = open_files.enter_context(WholeFile(path, sync=False))
            if self._weights.active:
                numbers = {self.ledger.number(owner) for draft in drafts for owner in draft.owners}
                line = self._weights.weigh(version_file(split, tag), line, numbers)
            file.write_line(line)
            self.merged.augmented += all(draft.augmented for draft in drafts)
            for source in sources:
                fates.add(id_bytes(source), _encode(["example", id_text(key), split]))
            if drafts[0].opposed is not None:
                opposed.add(drafts[0].opposed, _encode([tag, drafts[0].side]))
        return files

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
            if draft.augmented and self.elsewhere and _source(draft) in self.elsewhere:
                self.merged.drops["augmented.example_elsewhere"] += 1
                continue
            if self.parted.get(draft.words, split) != split:
                self._keep_out(draft, fates)
                continue
            standing.setdefault(split, []).append(draft)
        recorded = {split: drafts for split, drafts in standing.items() if not all(one.augmented for one in drafts)}
        if recorded and len(recorded) < len(standing):  # what was made does not displace what was recorded
            self.merged.drops["augmented.recorded_elsewhere"] += 1
        return recorded or standing

    def _keep_out(self, draft: Draft, fates: RunWriter) -> None:
        """Note that another split keeps what a draft says."""
        if draft.augmented:
            self.merged.drops["augmented.recorded_elsewhere"] += 1
            return
        self.merged.drops["examples.duplicate_across_splits"] += 1
        for owner in draft.owners:
            fates.add(
                self.ledger.ids[self.ledger.number(owner)],
                _encode(["left_out", draft.signal, "duplicate_across_splits"]),
            )

    def _count_duplicates(self, kept: list[Draft], others: dict[str, list[Draft]], fates: RunWriter) -> None:
        if len(kept) > 1:
            self.merged.drops["examples.duplicate"] += len(kept) - 1
        for drafts in others.values():
            self.merged.drops["examples.duplicate_across_splits"] += len(drafts)
            for draft in drafts:
                for owner in draft.owners:
                    record = self.ledger.ids[self.ledger.number(owner)]
                    fates.add(record, _encode(["left_out", draft.signal, "duplicate_across_splits"]))


def held_out_elsewhere(
    entries: Iterable[Entry], ledger: Standing, recipe: Recipe, parted: Mapping[bytes, str]
) -> Iterator[bytes]:
    """The keys of examples that ``train`` has too and another split keeps: no variation of them may be trained on.

    ``parted`` are words that only one split keeps.
    """
    rank = precedence(recipe.split)
    for key, payloads in grouped(entries):
        splits: set[str] = set()
        for draft in map(decode_draft, payloads) if len(payloads) > 1 or parted else ():
            numbers = [ledger.number(owner) for owner in draft.owners]
            repeated = draft.whole and any(ledger.superseded[number] for number in numbers)
            split = ledger.split(numbers[0])
            if split is not None and not (draft.augmented or repeated or ledger.duplicate[numbers[0]]):
                splits.update((split, parted.get(draft.words, split)))
        if TRAIN in splits and min(splits, key=rank.__getitem__) != TRAIN:
            yield key


def _source(draft: Draft) -> bytes:
    """The key of the example that an augmented one was made of."""
    mark = decode_line(draft.line).augmented
    return b"" if mark is None else id_bytes(mark.source)


def rows_file(stem: str, split: str, tag: str) -> str:
    """The name of the file that a range's rows of a split and type are written to."""
    return f"{stem}.{version_file(split, tag)}"


def version_file(split: str, tag: str) -> str:
    """The name of the file of a version that holds the rows of a split and type."""
    return f"{split}-{tag}.jsonl"


def note_records(
    rows: Iterable[Columns],
    first: int,
    ledger: Standing,
    recipe: Recipe,
    uncompared: Mapping[int, str],
    fates: RunWriter,
) -> Counter[str]:
    """Give every record of a shard an entry, whether or not anything was made of it; gives how many steps changed.

    ``first`` is the number of the shard's first interaction. ``uncompared`` says by number why a trial is in no pair.
    """
    changes: Counter[str] = Counter()
    for number, row in enumerate(rows, first):
        left_out = dict(row.left_out)
        if number in uncompared:
            left_out["trials"] = uncompared[number]
        if row.turn and "regenerations" in recipe.signals and not ledger.compared[number]:
            left_out["regenerations"] = "not_answered_again"
        fates.add(id_bytes(row.id), _encode(["interaction", row.dropped, left_out]))
        if row.dropped is None and ledger.split(number) is None:
            fates.add(id_bytes(row.id), _encode(["undrawn"]))
        for record_id in row.attached:
            fates.add(id_bytes(record_id), _encode(["attached", "feedback"]))
        for record_id in row.executed:
            fates.add(id_bytes(record_id), _encode(["attached", "execution"]))
        changes.update(reason if reason.startswith("privacy.") else f"steps.{reason}" for reason in row.changes)
    return changes


def note_others(unmatched: Mapping[str, str], consents: Iterable[bytes], fates: RunWriter) -> None:
    """Give every record that matched nothing an entry with the reason, and every consent that was looked at one."""
    for record_id, reason in unmatched.items():
        fates.add(id_bytes(record_id), _encode(["unmatched", reason]))
    for raw in consents:
        fates.add(raw, _encode(["consent"]))


def write_fates(entries: Iterable[Entry], file: WholeFile) -> Counter[str]:
    """Write the fates of sorted notes, one line a record; gives what was dropped, by stage and reason."""
    drops: Counter[str] = Counter()
    for key, payloads in grouped(entries):
        fate = _fate(id_text(key), [_decode(payload) for payload in payloads])
        file.write_line(_encode_json(fate))
        if fate.dropped is not None:
            drops[fate.dropped] += 1
        drops.update(f"{signal}.{reason}" for signal, reason in fate.left_out.items())
    return drops


def count_contradictions(entries: Iterable[Entry]) -> Counter[str]:
    """How many contents of each type have examples on both sides."""
    found: Counter[str] = Counter()
    for _, payloads in grouped(entries):
        noted = [_decode(payload) for payload in payloads]
        if len({side for _, side in noted}) > 1:
            found[noted[0][0]] += 1
    return found


def _combine(drafts: list[Draft]) -> tuple[list[str], bytes]:
    """One row of all drafts of one content in one split: its sources and line."""
    if len(drafts) == 1:
        return drafts[0].sources, drafts[0].line
    by_line = sorted(draft.line for draft in drafts)  # of two that are alike in what follows, not the one stored first
    examples = sorted(map(decode_line, by_line), key=_recorded_first)
    combined = msgspec.structs.replace(
        examples[0],
        sources=sorted({source for example in examples for source in example.sources}),
        human_validated=any(example.human_validated for example in examples),
    )
    if isinstance(combined, (PreferenceExample, TrajectoryPreference)):
        combined = msgspec.structs.replace(combined, pairs=sorted(set(_pairs(examples))))
    return combined.sources, encode_line(combined)


def _recorded_first(example: Example) -> tuple[bool, bool, list[tuple[str, str]], list[str], str]:
    """What was recorded before what was made of something else; the same content is one row, and that is its kind.

    Of preferences the one with the first pair, as their scores and what is left of them are that pair's.
    """
    mark, pairs = example.augmented, sorted(_pairs([example]))
    source = "" if mark is None else mark.source + mark.operation
    return mark is not None, not pairs, pairs, example.sources, source


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
