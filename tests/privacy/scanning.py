"""Looking for somebody in every byte of a workspace: as it lies there, and unpacked."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import zstandard


def hits(root: Path, needles: dict[str, bytes], *, passed_over: tuple[str, ...] = ()) -> list[str]:
    """Where any of the needles stands: ``what in which file``. Files of those names are passed over."""
    found = []
    for path in sorted(root.rglob("*")):
        if not path.is_file() or path.name in passed_over:
            continue
        texts = list(_texts(path))
        for name, needle in needles.items():
            if any(needle in text for text in texts):
                found.append(f"{name} in {path.relative_to(root)}")
    return found


def _texts(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    yield data
    if data.startswith(b"SQLite format 3"):
        yield from _rows(path)
    elif data.startswith(b"PAR1"):
        rows = pq.ParquetFile(path).read().to_pylist()
        yield json.dumps(rows, default=lambda value: value.hex() if isinstance(value, bytes) else str(value)).encode()
    elif data.startswith(b"\x1f\x8b"):
        yield gzip.decompress(data)


def _rows(path: Path) -> Iterator[bytes]:
    """Every value of every table, unpacked where it is packed."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        bodies = connection.execute("SELECT body FROM dictionaries").fetchall() if "dictionaries" in tables else []
        dictionaries = [zstandard.ZstdCompressionDict(body) for (body,) in bodies if body]
        by_id = {dictionary.dict_id(): dictionary for dictionary in dictionaries}
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    yield from unpacked(value, by_id)


def unpacked(value: Any, dictionaries: dict[int, Any]) -> Iterator[bytes]:
    """The bytes of a column's value, and what they are when they are decompressed."""
    if isinstance(value, str):
        yield value.encode("utf-8", "surrogatepass")
    elif isinstance(value, bytes):
        yield value
        if value.startswith(b"\x28\xb5\x2f\xfd"):
            number = zstandard.get_frame_parameters(value).dict_id
            yield zstandard.ZstdDecompressor(dict_data=dictionaries.get(number)).decompress(value, 2**26)
