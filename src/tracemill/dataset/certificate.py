"""Certificates of dataset versions: made in one pass over the rows, signed, read back and held against what lies there.

Nothing in a certificate is content: counts, shares with their intervals, names of kinds, columns and evaluation files. It is
no part of the version, whose bytes depend on recipe and records alone; it lies beside the manifest and names its SHA-256.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from tracemill.core.certificate import CERTIFICATE_VERSION, Certificate, Check
from tracemill.core.errors import DatasetError
from tracemill.core.examples import Example
from tracemill.core.ids import now
from tracemill.core.policy import Policy
from tracemill.core.records import AnyRecord
from tracemill.core.steps import Progress
from tracemill.dataset.checks import share, unknown
from tracemill.dataset.contamination import EvaluationSet, look_at
from tracemill.dataset.features import FEATURES
from tracemill.dataset.files import locked, write_whole
from tracemill.dataset.leaks import Leaks, people_of
from tracemill.dataset.parts import parts
from tracemill.dataset.residual import Residual, canary_check
from tracemill.dataset.version import CERTIFICATE, Version
from tracemill.privacy.anonymity import Anonymity, Classes
from tracemill.privacy.consent import Consents
from tracemill.privacy.signing import Signer
from tracemill.store.base import Store

COLUMNS = ("platform", "task_id", "signal", "tools")
"""The quasi-identifiers every row carries."""
RECORD_COLUMNS = ("model", "day", "month", "channel", "tags", "kind", "language")
"""Further ones, read from the row's interactions: what feature columns and lineage may give away."""
_AT_ONCE = 500
_WORK = ".building-certificate"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What to look for. ``held`` is what people allow now, ``policy`` what the build redacted by."""

    held: Consents
    evaluations: Sequence[EvaluationSet] = ()
    policy: Policy | None = None
    k: int = 5
    columns: tuple[str, ...] = COLUMNS


@dataclass
class _Pass:
    """One pass over a version's rows."""

    asked: Asked
    leaks: Leaks
    residual: Residual
    classes: Classes
    rows: int = 0
    trained: int = 0
    denied: int = 0
    unresolved: int = 0
    names: list[str] = field(default_factory=list)

    def look(self, split: str, examples: Sequence[Example], sources: dict[str, AnyRecord], *, trained: bool) -> None:
        for example in examples:
            records = [sources[identity] for identity in example.sources if identity in sources]
            self.rows += 1
            self.leaks.add(split, example, records)
            self.residual.add(example)
            _classify(self.classes, example, records)
            self.denied += any(self.asked.held.denies(record) for record in records)
            self.unresolved += len(records) < len(example.sources)
        if trained:
            self.trained += len(examples)
            look_at([part.text for example in examples for part in parts(example)], self.asked.evaluations)


def certify(
    version: Version, store: Store, signer: Signer, asked: Asked, progress: Progress | None = None
) -> Certificate:
    """Look at a version, and write and give its certificate. Takes the place of an older one.

    Raises DatasetError where the version is damaged or has no rows any more, or while it is built or erased, and what the
    store raises.
    """
    with locked(version.path.parent, f"certifying {version.reference}"):
        return _certify(version, store, signer, asked, progress)


def _certify(version: Version, store: Store, signer: Signer, asked: Asked, progress: Progress | None) -> Certificate:
    if (problems := version.verify()) and version.tombstone is None:
        raise DatasetError(
            f"{version.reference} is damaged: {problems[0]}", hint="Build it again before certifying it."
        )
    with _working_folder(version.path.parent) as folder:
        checks = _looked_at(version, store, asked, folder, progress)
    unsigned = Certificate(
        certificate_version=CERTIFICATE_VERSION,
        dataset=version.name,
        version=version.path.name,
        manifest_sha256=version.manifest_sha256,
        issued=now().isoformat(),
        tracemill=importlib.metadata.version("tracemill"),
        watermark=store.watermark(),
        checks=checks,
        key_id=signer.key_id,
    )
    signed = msgspec.structs.replace(unsigned, signature=signer.sign(unsigned.signed_bytes()))
    write_whole(version.path / CERTIFICATE, msgspec.json.format(msgspec.json.encode(signed), indent=2) + b"\n")
    return signed


@contextmanager
def _working_folder(dataset: Path) -> Iterator[Path]:
    """A folder for texts of rows while inside. Named like those of builds, what a kill leaves of it goes as theirs does:

    with the next build, certificate or erasure, all of which hold the dataset's lock, as we do.
    """
    folder = dataset / _WORK
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _looked_at(version: Version, store: Store, asked: Asked, folder: Path, progress: Progress | None) -> list[Check]:
    with Leaks(folder) as leaks:
        work = _Pass(asked, leaks, Residual(asked.policy), Classes(asked.columns, asked.k))
        for split, batch in _batches(version):
            ids = sorted({source for example in batch for source in example.sources})
            trained = split == "train" or "train" not in version.manifest.examples
            work.look(split, batch, store.get_many(ids), trained=trained)
            if progress is not None:
                progress("certify", work.rows, version.count())
        return _checks(version, work, progress)


def _batches(version: Version) -> Iterator[tuple[str, list[Example]]]:
    for split in version.splits():
        rows = version.examples(split)
        while batch := list(islice(rows, _AT_ONCE)):
            yield split, batch


def _checks(version: Version, work: _Pass, progress: Progress | None) -> list[Check]:
    checks = [
        Check(name="version.verified", state="passed", total=len(version.manifest.files), threshold=0.0, value=0.0)
    ]
    checks += work.leaks.checks(progress)
    checks += [_contamination(one, work.trained) for one in work.asked.evaluations]
    if not work.asked.evaluations:
        checks.append(unknown("contamination", "no evaluation set was given"))
    checks += [work.residual.check(), canary_check(version.manifest.canaries), _consent(work)]
    return [*checks, _anonymous(work.classes.result())]


def _contamination(one: EvaluationSet, rows: int) -> Check:
    found = one.hits()
    name = f"contamination.{one.name}"
    detail: dict[str, Any] = {
        "items": one.items,
        "too_short": one.items - one.judged,
        "in_prompt": found["prompt"],
        "in_answer": found["answer"],
        "rows": rows,
    }
    return share(name, found["either"], one.judged, **detail)


def _consent(work: _Pass) -> Check:
    """How many rows have a source whose person does not allow their purpose at this moment."""
    name = f"consent.{work.asked.held.purpose}"
    if work.denied or not work.unresolved:
        return share(name, work.denied, work.rows)
    return unknown(name, f"sources of {work.unresolved} rows are not stored any more")


def _classify(classes: Classes, example: Example, records: list[AnyRecord]) -> None:
    values = [value_of(example, records, name) for name in classes.columns]
    classes.add(values, people_of(records), resolved=len(records) == len(example.sources))


def _anonymous(found: Anonymity) -> Check:
    if found.unresolved and not found.below:
        return unknown("anonymity", f"sources of {found.unresolved} rows are not stored any more", k=found.k)
    return share(
        "anonymity",
        found.below,
        found.rows,
        k=found.k,
        columns=list(found.columns),
        smallest=found.smallest,
        classes=found.classes,
    )


def value_of(example: Example, records: Sequence[AnyRecord], column: str) -> Hashable:
    """A row's value of a quasi-identifier: a field, a feature, or something of its interactions.

    Raises DatasetError for one there is none of.
    """
    if column in RECORD_COLUMNS:
        return tuple(sorted({repr(_from_record(record, column)) for record in records if hasattr(record, "model")}))
    if column == "tools":
        return tuple(sorted(str(tool.get("function", tool).get("name")) for tool in example.tools))
    if column in example.features:
        return example.features[column]
    value = getattr(example, column, None)
    if value is None and column not in known_columns() and column not in FEATURES:
        raise DatasetError(f"rows have no column {column!r}", hint=f"Columns: {', '.join(known_columns())}.")
    return value if isinstance(value, Hashable) else repr(value)


def known_columns() -> tuple[str, ...]:
    """Every column that classes can be made by."""
    return (
        *COLUMNS,
        "human_validated",
        "weight",
        "label_source",
        "score_name",
        "action",
        "tool",
        "scenario",
        "training_type",
        *RECORD_COLUMNS,
    )


def _from_record(record: Any, column: str) -> Any:
    values: dict[str, Callable[[], Any]] = {
        "model": lambda: record.model.name if record.model else None,
        "day": lambda: record.time.date().isoformat(),
        "month": lambda: record.time.date().isoformat()[:7],
        "channel": lambda: (record.channel.type or record.channel.id) if record.channel else None,
        "tags": lambda: tuple(sorted(record.tags)),
        "kind": lambda: record.kind,
        "language": lambda: record.extra.get("language"),
    }
    return values[column]()


def anonymity(version: Version, store: Store, columns: Sequence[str], k: int) -> Anonymity:
    """How well a version's rows hide among each other. Raises DatasetError for an unknown column, and for no rows."""
    classes = Classes(tuple(columns), k)
    for _, batch in _batches(version):
        sources = store.get_many(sorted({source for example in batch for source in example.sources}))
        for example in batch:
            records = [sources[identity] for identity in example.sources if identity in sources]
            _classify(classes, example, records)
    return classes.result()
