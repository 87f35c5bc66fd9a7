"""Files of other programs into the store: streamed, safe to run again, with a file of what was rejected and why."""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO

from tracemill.capture.gepeto import is_tree, read_tree
from tracemill.capture.importers.atif import read_atif
from tracemill.capture.importers.base import ImportContext, Imported, Importer
from tracemill.capture.importers.openai_chat import read_openai_chat
from tracemill.capture.importers.records import read_records
from tracemill.capture.importers.tau_bench import read_tau_bench
from tracemill.capture.ingest import Reject
from tracemill.capture.lightspeed.reading import read_path
from tracemill.core.codec import encode_json
from tracemill.core.consent import NO_CONSENT
from tracemill.core.errors import RecordError, SourceError
from tracemill.core.ids import monotonic, new_id
from tracemill.core.records import AnyRecord
from tracemill.core.steps import Progress
from tracemill.store.base import Store

__all__ = ["FORMATS", "ImportContext", "ImportReport", "import_paths"]
BATCH = 500


def _read_gepeto(path: Path, context: ImportContext) -> Iterator[Imported]:
    if not is_tree(path):
        raise SourceError(
            f"{path} is no Gepeto tree", hint="Give the folder that holds chat_contexts/ and predictions/."
        )
    return read_tree(path, platform=context.platform or "gepeto", pseudonymize=context.pseudonymize)


def _read_lightspeed(path: Path, context: ImportContext) -> Iterator[Imported]:
    return read_path(path, platform=context.platform or "lightspeed", pseudonymize=context.pseudonymize)


FORMATS: dict[str, Importer] = {
    "tau-bench": read_tau_bench,
    "openai-chat": read_openai_chat,
    "atif": read_atif,
    "records": read_records,
    "gepeto": _read_gepeto,
    "lightspeed": _read_lightspeed,
}
_JSONL = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst")
_SUFFIXES = {"tau-bench": (".json",), "lightspeed": (".json",), "atif": (".json", *_JSONL)}
_KEPT_NOWHERE = ("erased", NO_CONSENT)
_STATED_IDS = {"records"}
"""Formats whose ids are not made of content: the same id with another body is a conflict, and the store must see it."""


@dataclass
class ImportReport:
    """What an import did. ``stored + duplicates + rejected`` is ``read``."""

    format: str
    files: int = 0
    read: int = 0
    stored: int = 0
    duplicates: int = 0
    rejected: int = 0
    rejects: Path | None = None
    seconds: float = 0.0
    by_type: dict[str, int] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**vars(self), "rejects": None if self.rejects is None else str(self.rejects)}


def import_paths(
    store: Store,
    format: str,  # noqa: A002 - the word for it everywhere else
    paths: Sequence[Path],
    *,
    context: ImportContext,
    rejects: Path | None = None,
    hide: Callable[[bytes], bytes] = bytes,
    progress: Progress | None = None,
) -> ImportReport:
    """Import files, folders of them, or (gepeto) trees. Records that are stored already count as duplicates.

    Entries that are refused are written to ``rejects`` as lines of JSON (``file``, ``place``, ``reason``, ``message``, and
    ``raw`` or, for bytes that are no text, ``raw_base64``), if there are any; without a path they are only counted. Of what
    was erased, or may not be stored for want of consent, ``raw`` is empty. Stopping and running again goes on where it
    stopped, since what is stored is passed over. ``hide`` makes of refused bytes, and of messages about them, what may be
    kept. Raises SourceError for a format nobody
    knows and for a file that is not of it; StoreError.
    """
    if format not in FORMATS:
        near = get_close_matches(format, FORMATS, n=1, cutoff=0.4)
        hint = (f"Did you mean {near[0]}? " if near else "") + f"Formats: {', '.join(FORMATS)}."
        raise SourceError(f"no format {format!r}", hint=hint)
    started = monotonic()
    run = _Import(store, ImportReport(format), rejects, hide, progress)
    try:
        for path in paths:
            for file in _files(path, format):
                run.take(FORMATS[format](file, context), file)
                run.report.files += 1
    except OSError as error:
        raise SourceError(f"{error.filename or path}: {error.strerror or error}") from error
    finally:
        run.finish()
        run.report.seconds = monotonic() - started
    return run.report


def _files(path: Path, format: str) -> list[Path]:  # noqa: A002
    if not path.exists():
        raise SourceError(f"{path} does not exist")
    if format == "gepeto" or path.is_file():
        return [path]
    suffixes = _SUFFIXES.get(format, _JSONL)
    found = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(suffixes))
    if not found:
        raise SourceError(f"{path} holds no file that ends in {' or '.join(suffixes)}")
    return found


class _Import:
    def __init__(
        self,
        store: Store,
        report: ImportReport,
        rejects: Path | None,
        hide: Callable[[bytes], bytes],
        progress: Progress | None,
    ) -> None:
        self._store = store
        self.report = report
        self._rejects_path = rejects
        self._hide = hide
        self._draft: BinaryIO | None = None
        self._progress = progress
        self._types: Counter[str] = Counter()

    def take(self, entries: Iterator[Imported], file: Path) -> None:
        batch: list[AnyRecord] = []
        for entry in entries:
            self.report.read += 1
            if isinstance(entry, Reject):
                self._reject(file, entry.place, entry.reason, entry.message, entry.raw)
            else:
                batch.append(entry)
            if len(batch) >= BATCH:
                self._store_batch(batch, file)
                batch = []
        self._store_batch(batch, file)

    def _store_batch(self, batch: list[AnyRecord], file: Path) -> None:
        if batch:
            # Looked up first: a record whose source states no time is the same record whenever it is imported.
            known = self._store.known([record.id for record in batch])
            sent = [record for record in batch if self.report.format in _STATED_IDS or record.id not in known]
            result = self._store.append(sent)
            self.report.stored += result.stored
            self.report.duplicates += len(batch) - len(sent) + result.duplicates
            for refusal in result.refused:
                raw = b"" if refusal.reason in _KEPT_NOWHERE else _json(sent[refusal.index])
                self._reject(file, f"record {refusal.id}", refusal.reason, refusal.message, raw)
            refused = {refusal.index for refusal in result.refused}
            stored = {r.id: r for i, r in enumerate(sent) if i not in refused and r.id not in known}
            self._types.update(str(record.__struct_config__.tag) for record in stored.values())
        if self._progress is not None:
            self._progress("importing", self.report.read, None)

    def _reject(self, file: Path, place: str, reason: str, message: str, raw: bytes) -> None:
        self.report.rejected += 1
        if self._rejects_path is None:
            return
        if self._draft is None:
            self._rejects_path.parent.mkdir(parents=True, exist_ok=True)
            self._draft = self._rejects_path.with_name(f".{new_id()}.tmp").open("wb")
        told = self._hide(message.encode("utf-8", "backslashreplace")).decode("utf-8", "backslashreplace")
        line = {"file": str(file), "place": place, "reason": reason, "message": told}
        raw = self._hide(raw)
        try:
            line["raw"] = raw.decode()
        except UnicodeDecodeError:
            line["raw_base64"] = base64.b64encode(raw).decode()
        self._draft.write(json.dumps(line).encode() + b"\n")

    def finish(self) -> None:
        self.report.by_type = dict(self._types)
        if self._draft is not None and self._rejects_path is not None:
            self._draft.flush()
            os.fsync(self._draft.fileno())
            self._draft.close()
            Path(self._draft.name).replace(self._rejects_path)
            self.report.rejects = self._rejects_path


def _json(record: AnyRecord) -> bytes:
    try:
        return encode_json(record)
    except RecordError:
        return b""  # what cannot be encoded was refused for just that, and stands in the file it came from
