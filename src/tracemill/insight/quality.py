"""The table of quality: one row a record with every measure, its reason, the defects of the text, and its cluster.

Interactions are read once. Rows wait in a file that has no name, and goes with the process, until the clusters are known:
what is held in memory is the index of duplicates (about 2.3 KB a text) and nothing else that grows.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import Struct

from tracemill.core.errors import ExportError
from tracemill.core.messages import trajectory
from tracemill.core.records import Interaction
from tracemill.core.steps import Progress
from tracemill.dataset.rules import judge_quality, text_of
from tracemill.drawing.measures import Distribution, Measure
from tracemill.export.containers import CONTAINERS, SplitFiles
from tracemill.feedback.attach import Attachments, attach
from tracemill.feedback.executions import find_executions
from tracemill.quality.coverage import Coverage, coverage
from tracemill.quality.documents import document
from tracemill.quality.metrics import MeasureName, Quality
from tracemill.store.base import Filter, Store

MEASURES: tuple[MeasureName, ...] = get_args(MeasureName)
FORMATS = ("jsonl", "parquet", "csv")
_PAGE = 200
_TEXT, _NUMBER, _WHOLE, _LIST = "dtype: string", "dtype: float64", "dtype: int64", "list: string"
COLUMNS: dict[str, str] = {
    "id": _TEXT,
    "platform": _TEXT,
    "time": _TEXT,
    "score": _NUMBER,
    "defects": _LIST,
    "findings": _LIST,
    "assistant_turns": _WHOLE,
    "user_turns": _WHOLE,
    "words": _WHOLE,
    "script": _TEXT,
    "cluster": _TEXT,
    "cluster_size": _WHOLE,
    "similarity": _NUMBER,
    **{column: kind for name in MEASURES for column, kind in ((name, _NUMBER), (f"{name}_reason", _TEXT))},
}
"""The columns of the table, with their types as the header of a card names them."""


class Row(Struct, frozen=True, kw_only=True):
    """One record of the table.

    ``findings`` is every finding of the text rules as ``rule@message: measured / limit``. ``cluster`` is the id of the record
    that stands for its near duplicates (its own id where it is the best, or alone), ``cluster_size`` how many there are,
    ``similarity`` the exact Jaccard similarity to that one; all three are None where NumPy is not installed.
    """

    id: str
    platform: str
    time: str
    score: float | None
    defects: list[str]
    findings: list[str]
    assistant_turns: int
    user_turns: int
    words: int
    script: str
    values: dict[MeasureName, float | None]
    reasons: dict[MeasureName, str]
    cluster: str | None = None
    cluster_size: int | None = None
    similarity: float | None = None

    def flat(self) -> dict[str, Any]:
        """The row by :data:`COLUMNS`."""
        plain = {name: getattr(self, name) for name in self.__struct_fields__ if name not in ("values", "reasons")}
        for name in MEASURES:
            plain[name], plain[f"{name}_reason"] = self.values.get(name), self.reasons.get(name, "")
        return {name: plain[name] for name in COLUMNS}


class QualitySummary(Struct, frozen=True, kw_only=True):
    """What a table amounts to: how many rows, how each measure is spread, how many have which defect, what is covered.

    ``unknown`` counts by measure the rows it is not known of; they are in no distribution.
    """

    records: int
    score: Distribution
    measures: dict[MeasureName, Distribution]
    unknown: dict[str, int]
    defects: dict[str, int]
    defective: int
    coverage: Coverage | None


@dataclass
class Summing:
    """Takes rows one by one in a fixed amount of memory."""

    records: int = 0
    defective: int = 0
    score: Measure = field(default_factory=Measure)
    measures: dict[MeasureName, Measure] = field(default_factory=lambda: defaultdict(Measure))
    unknown: Counter[str] = field(default_factory=Counter)
    defects: Counter[str] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)

    def add(self, row: Row) -> None:
        """Take one row."""
        self.records += 1
        self.defective += bool(row.defects)
        self.defects.update(row.defects)
        if row.cluster == row.id and row.cluster_size is not None:
            self.sizes[row.cluster_size] += 1
        if row.score is None:
            self.unknown["score"] += 1
        else:
            self.score.add(row.score)
        for name in MEASURES:
            if (known := row.values.get(name)) is None:
                self.unknown[name] += 1
            else:
                self.measures[name].add(known)

    def summary(self) -> QualitySummary:
        """The figures of what was taken."""
        return QualitySummary(
            records=self.records,
            score=self.score.distribution(),
            measures={name: self.measures[name].distribution() for name in MEASURES},
            unknown=dict(sorted(self.unknown.items())),
            defects=dict(sorted(self.defects.items())),
            defective=self.defective,
            coverage=coverage(self.sizes.elements()) if self.sizes else None,
        )


def quality_rows(
    store: Store, *, platform: str | None = None, threshold: float = 0.8, progress: Progress | None = None
) -> Iterator[Row]:
    """Every interaction of a store (or of one platform) as a row, in the order of storing.

    The first row comes when all are measured, for a cluster is known only then. Raises StoreError.
    """
    attachments = attach(store)
    attachments.executions = find_executions(store)
    index: Any = None
    if find_spec("numpy") is not None:
        from tracemill.quality.duplicates import Document, DuplicateIndex  # noqa: PLC0415 - needs NumPy

        index = DuplicateIndex(threshold)
    total = store.count(Filter(types=("interaction",), platforms=() if platform is None else (platform,)))
    encoder, done = msgspec.msgpack.Encoder(), 0
    with tempfile.TemporaryFile() as waiting:
        for page in _pages(store, platform):
            measured = list(_measured(store, page, attachments))
            for row, _ in measured:
                packed = encoder.encode(row)
                waiting.write(len(packed).to_bytes(8, "little") + packed)
            if index is not None:
                index.add(Document(row.id, text, 0.5 if row.score is None else row.score) for row, text in measured)
            done += len(page)
            if progress is not None:
                progress("measure records", done, total)
        waiting.seek(0)
        clusters = {} if index is None else _clusters(index)
        decode = msgspec.msgpack.Decoder(Row).decode
        while header := waiting.read(8):
            row = decode(waiting.read(int.from_bytes(header, "little")))
            if index is not None:
                kept, size, alike = clusters.get(row.id, (row.id, 1, 1.0))
                row = msgspec.structs.replace(row, cluster=kept, cluster_size=size, similarity=alike)
            yield row


def _pages(store: Store, platform: str | None) -> Iterator[list[Interaction]]:
    where = Filter(types=("interaction",), platforms=() if platform is None else (platform,))
    found = (record for record in store.scan(where) if isinstance(record, Interaction))
    while page := list(islice(found, _PAGE)):
        yield page


def _measured(store: Store, page: Sequence[Interaction], attachments: Attachments) -> Iterator[tuple[Row, str]]:
    attached = attachments.of_batch(store, [interaction.id for interaction in page])
    for interaction, said in zip(page, attached, strict=True):
        yield _row(interaction, judge_quality(interaction, said)), document(trajectory(interaction))


def _row(interaction: Interaction, quality: Quality) -> Row:
    text = text_of(interaction)
    findings = [
        f"{found.rule}@{found.index}"
        + ("" if found.value is None or found.limit is None else f": {found.value:.4g} / {found.limit:.4g}")
        for found in text.findings
    ]
    return Row(
        id=interaction.id,
        platform=interaction.platform,
        time=interaction.time.isoformat(),
        score=quality.score,
        defects=list(quality.defects),
        findings=findings,
        assistant_turns=text.assistant_turns,
        user_turns=text.user_turns,
        words=text.words,
        script=text.script,
        values={name: quality.value(name) for name in MEASURES},
        reasons={name: one.reason for name, one in quality.measures.items()},
    )


def _clusters(index: Any) -> dict[str, tuple[str, int, float]]:
    found: dict[str, tuple[str, int, float]] = {}
    for cluster in index.clusters():
        size = 1 + len(cluster.duplicates)
        found[cluster.kept] = cluster.kept, size, 1.0
        found.update({each.id: (cluster.kept, size, each.similarity) for each in cluster.duplicates})
    return found


def write_table(rows: Iterator[Row], path: Path, format: str | None = None) -> QualitySummary:  # noqa: A002
    """Write rows to a file, whole or not at all, and give what they amount to.

    The format is one of :data:`FORMATS`, by the file's ending where none is named; CSV cells are never formulas. Raises
    ExportError for another one, for Parquet without pyarrow, and where the file cannot be written.
    """
    chosen = format or path.suffix.removeprefix(".")
    if chosen not in FORMATS:
        raise ExportError(f"{chosen!r} is no format of the table", hint=f"Choose one of {', '.join(FORMATS)}.")
    encode = msgspec.json.Encoder().encode
    summing = Summing()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with SplitFiles(path.parent, f".{path.name}", chosen, COLUMNS, None) as files:
            for row in rows:
                files.write_row(encode(row.flat()))
                summing.add(row)
        (path.parent / f".{path.name}{CONTAINERS[chosen]}").replace(path)
    except OSError as error:
        raise ExportError(f"the table cannot be written to {path}: {error}") from error
    return summing.summary()


def summarise(rows: Iterator[Row]) -> QualitySummary:
    """What rows amount to, without keeping them."""
    summing = Summing()
    for row in rows:
        summing.add(row)
    return summing.summary()
