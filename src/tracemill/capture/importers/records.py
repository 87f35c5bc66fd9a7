"""Our own records as JSONL (also .gz and .zst), one :func:`tracemill.core.codec.encode_json` a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tracemill.capture.importers.base import ImportContext, Imported, lines_of
from tracemill.capture.ingest import Reject, decode_line


def read_records(path: Path, _context: ImportContext) -> Iterator[Imported]:
    """The records of a file, line by line, with the ids they have."""
    for number, line in lines_of(path):
        yield line if isinstance(line, Reject) else decode_line(line, f"line {number}")
