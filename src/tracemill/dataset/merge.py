"""Drafts sorted by id become rows, and what was noted of a record becomes its fate: the last stage of a build.

Drafts with one id are one example. Those of one split are merged into one row that names all their sources; where a
content appears in several splits, the smallest split keeps it, so that nothing held out is also trained on. Here one range
of ids is worked on; :mod:`tracemill.dataset.assemble` makes the ranges and puts together what comes of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tracemill.core.examples import (
    Example,
    Fate,
    PreferenceExample,
    TrajectoryPreference,
)
from tracemill.core.ids import id_bytes, id_text
from tracemill.dataset.files import WholeFile
from tracemill.dataset.ledger import REPEATS
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.rows import decode_line, encode_line
from tracemill.dataset.select import Columns
from tracemill.dataset.shards import Draft, decode_draft
from tracemill.dataset.sort import Entry, RunWriter, grouped
from tracemill.dataset.split import precedence

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode
_encode_json = msgspec.json.Encoder().encode


class Standing(Protocol):
    """What the merge asks about interactions: of the ledger, or of the files it was written to."""

    @property
    def ids(self) -> Sequence[bytes]:
        """The id of each interaction, by number."""

    @property
    def superseded(self) -> Sequence[int]:
        """Whether a later call repeats it."""

    @property
    def duplicate(self) -> Sequence[int]:
        """Whether a better one stands for it."""

    def number(self, owner: tuple[int, int]) -> int:
        """The number of an interaction that a draft names by shard and place."""

    def split(self, number: int) -> str:
        """The split of an interaction's group."""


@dataclass
class Merged:
    """What the merge of one range counted and wrote. ``rows`` is keyed by split and type, ``opposed`` are runs."""

    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    drops: Counter[str] = field(default_factory=Counter)
    fates: list[Path] = field(default_factory=list)
    opposed: list[Path] = field(default_factory=list)


@dataclass
class Merge:
    """The merge of one range of example ids. Rows are written to ``<stem>.<split>-<type>.jsonl`` in ``work``."""

    work: Path
    stem: str
    ledger: Standing
    recipe: Recipe
    merged: Merged = field(default_factory=Merged)

    def run(self, entries: Iterable[Entry]) -> Merged:
        """Write the rows of sorted drafts, and notes of what became of the records they were made of."""
        fates = RunWriter(self.work, f"{self.stem}.fates")
        opposed = RunWriter(self.work, f"{self.stem}.opposed")
        with ExitStack() as files:
            written = self._rows(entries, fates, opposed, files)
        self.merged.rows = {name: file.rows for name, file in written.items()}
        self.merged.fates, self.merged.opposed = fates.close(), opposed.close()
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
            sources, line = _combine(drafts)
            self._count_duplicates(drafts, by_split, fates)
            tag = drafts[0].type
            file = files.get((split, tag))
            if file is None:
                path = self.work / rows_file(self.stem, split, tag)
                file = files[split, tag] = open_files.enter_context(WholeFile(path, sync=False))
            file.write_line(line)
            for source in sources:
                fates.add(id_bytes(source), _encode(["example", id_text(key), split]))
            if drafts[0].opposed is not None:
                opposed.add(drafts[0].opposed, _encode([tag, drafts[0].side]))
        return files

    def _by_split(self, drafts: list[Draft], fates: RunWriter) -> dict[str, list[Draft]]:
        """The drafts that stand, by split. Those that a later call repeats fall, and those of duplicate patterns."""
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
            standing.setdefault(self.ledger.split(numbers[0]), []).append(draft)
        return standing

    def _count_duplicates(self, kept: list[Draft], others: dict[str, list[Draft]], fates: RunWriter) -> None:
        if len(kept) > 1:
            self.merged.drops["examples.duplicate"] += len(kept) - 1
        for drafts in others.values():
            self.merged.drops["examples.duplicate_across_splits"] += len(drafts)
            for draft in drafts:
                for owner in draft.owners:
                    record = self.ledger.ids[self.ledger.number(owner)]
                    fates.add(record, _encode(["left_out", draft.signal, "duplicate_across_splits"]))


def rows_file(stem: str, split: str, tag: str) -> str:
    """The name of the file that a range's rows of a split and type are written to."""
    return f"{stem}.{split}-{tag}.jsonl"


def note_records(rows: Iterable[Columns], uncompared: Mapping[int, str], fates: RunWriter) -> Counter[str]:
    """Give every record of a shard an entry, whether or not anything was made of it; gives how many steps changed.

    ``uncompared`` says by place why a trial is in no pair.
    """
    changes: Counter[str] = Counter()
    for place, row in enumerate(rows):
        left_out = dict(row.left_out)
        if place in uncompared:
            left_out["trials"] = uncompared[place]
        fates.add(id_bytes(row.id), _encode(["interaction", row.dropped, left_out]))
        for record_id in row.attached:
            fates.add(id_bytes(record_id), _encode(["attached", "feedback"]))
        for record_id in row.executed:
            fates.add(id_bytes(record_id), _encode(["attached", "execution"]))
        changes.update(f"steps.{reason}" for reason in row.changes)
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
    examples = sorted((decode_line(draft.line) for draft in drafts), key=lambda example: example.sources)
    combined = msgspec.structs.replace(
        examples[0],
        sources=sorted({source for example in examples for source in example.sources}),
        human_validated=any(example.human_validated for example in examples),
    )
    if isinstance(combined, (PreferenceExample, TrajectoryPreference)):
        combined = msgspec.structs.replace(combined, pairs=sorted(set(_pairs(examples))))
    return combined.sources, encode_line(combined)


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
    return Fate(
        id=record_id,
        split=split,
        examples=examples,
        dropped=dropped,
        left_out=dict(sorted(left_out.items())),
    )
