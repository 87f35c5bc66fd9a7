"""One sealed object: written row group by row group, read column by column."""

from __future__ import annotations

import gzip
import io
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tracemill.core.archive import ArchivedFile, ArchiveFormat
from tracemill.core.codec import decode_json, encode_json
from tracemill.core.errors import ArchiveError, RecordError
from tracemill.store.cold.layout import DELTAS, SCHEMA, TEXTS, SealedRow, from_table, to_table
from tracemill.store.cold.objects import Objects
from tracemill.store.rows import TYPE_CODES
from tracemill.store.sealing import Sealer

LEVEL = 9
"""Level of zstd: measured on the real trajectories, 3 keeps a fifth more and 19 takes forty times as long for a tenth."""
GROUP_ROWS = 8192
GROUP_BYTES = 16 * 1024 * 1024
"""Encoded size, shared messages left out, at which a row group is closed: what one page of a reader has to decompress."""
GROUP_WHOLE = 256 * 1024 * 1024
"""The same with what is shared: what a writer, or who reads a whole row group, has in memory at once."""
_PAGE = 256 * 1024 * 1024  # one page a column of a row group: pages are compressed apart
_ROWS_AT_ONCE = 256
_LINE = "$tracemill"
_WHOLE_LINES = 1024 * 1024 * 1024


class SealWriter:
    """Writes one object to a file. Use as a context manager; the file is whole when it ends without an error."""

    def __init__(self, path: Path, format: ArchiveFormat, sealer: Sealer) -> None:  # noqa: A002 - the word for it
        self._path, self.format, self._sealer = path, format, sealer
        self._parquet: pq.ParquetWriter | None = None
        self._lines: gzip.GzipFile | None = None

    def __enter__(self) -> SealWriter:
        if self.format == "parquet":
            self._parquet = pq.ParquetWriter(
                self._path,
                SCHEMA,
                compression="zstd",
                compression_level=LEVEL,
                use_dictionary=[field for field in _leaves() if field not in DELTAS],
                dictionary_pagesize_limit=_PAGE,
                data_page_size=_PAGE,
                column_encoding=DELTAS,
                write_statistics=[name for name in _leaves() if name not in TEXTS],
                store_schema=False,  # a second schema, of some 4 KB an object: the types are all Parquet's own
            )
        else:
            self._lines = gzip.GzipFile(self._path, "wb", compresslevel=9, mtime=0)
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (self._parquet, self._lines):
            if opened is not None:
                opened.close()

    def write(self, rows: Sequence[SealedRow]) -> None:
        """Add rows as one row group."""
        if self._parquet is not None:
            self.write_table(to_table(rows, self._sealer))
        elif self._lines is not None:
            for row in rows:
                head = msgspec.json.encode({_LINE: [row.place, row.raw_bytes, row.hot_bytes, row.shared]})
                self._lines.write(head[:-1] + b"," + encode_json(row.record)[1:] + b"\n")

    def write_table(self, table: pa.Table) -> None:
        """Add a table of :data:`SCHEMA` as one row group."""
        assert self._parquet is not None
        self._parquet.write_table(table, row_group_size=max(1, table.num_rows))


def _leaves() -> list[str]:
    """The path of every column of a file; a random id gains nothing by a dictionary."""
    found = []
    for field in SCHEMA:
        if field.name == "messages":
            found += [f"messages.list.element.{part.name}" for part in field.type.value_type]
        elif field.name == "response":
            found += [f"response.{part.name}" for part in field.type]
        elif field.name not in ("id", "sealed"):
            found.append(field.name)
    return found


def read_lines(data: bytes, key: str) -> Iterator[SealedRow]:
    """The rows of a gzipped object of JSON lines. Raises ArchiveError where it is damaged."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            size = 0
            for line in file:
                size += len(line)
                if size > _WHOLE_LINES * 8:
                    raise ArchiveError(f"object {key} is larger than anything this writes")
                plain = msgspec.json.decode(line)
                place, raw, hot, shared = plain[_LINE]
                head = msgspec.json.encode({_LINE: plain[_LINE]})[:-1] + b","
                yield SealedRow(place, decode_json(b"{" + line[len(head) :].rstrip(b"\n")), raw, hot, shared)
    except (OSError, EOFError, msgspec.MsgspecError, RecordError, KeyError, ValueError, TypeError) as error:
        raise ArchiveError(f"object {key} is damaged: {error}", hint="Run `tracemill archive verify`.") from error


class Cache:
    """Columns and row groups kept at hand, the oldest dropped beyond a number of bytes."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._held: OrderedDict[tuple[str, ...], tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[str, ...], make: Callable[[], tuple[Any, int]]) -> Any:
        """What is kept under a key, made where it is not."""
        found = self._held.get(key)
        if found is None:
            found = make()
            self._held[key] = found
            self._bytes += found[1]
            while self._bytes > self._budget and len(self._held) > 1:
                _, (_, size) = self._held.popitem(last=False)
                self._bytes -= size
        else:
            self._held.move_to_end(key)
        return found[0]

    def forget(self, file: str) -> None:
        """Drop what belongs to one object."""
        for key in [key for key in self._held if key[0] == file]:
            self._bytes -= self._held.pop(key)[1]


class Sealed:
    """Reads one object. The narrow columns come as NumPy arrays, one value a row, in the order of the file."""

    def __init__(self, objects: Objects, file: ArchivedFile, cache: Cache, sealer: Sealer) -> None:
        self.file = file
        self._sealer = sealer
        self._objects = objects
        self._cache = cache

    def _parquet(self) -> pq.ParquetFile:
        def make() -> tuple[Any, int]:
            if self.file.format == "parquet":
                source = self._objects.open(self.file.object_key, self.file.stored_bytes)
                return pq.ParquetFile(source, read_dictionary=list(TEXTS), arrow_extensions_enabled=True), 64 * 1024
            rows = list(read_lines(self._objects.read(self.file.object_key), self.file.object_key))
            buffer = io.BytesIO()
            pq.write_table(to_table(rows, self._sealer), buffer, compression="zstd", row_group_size=GROUP_ROWS)
            held = pa.BufferReader(buffer.getvalue())
            return (
                pq.ParquetFile(held, read_dictionary=list(TEXTS), arrow_extensions_enabled=True),
                buffer.tell(),
            )

        with self._damaged():
            parquet: pq.ParquetFile = self._cache.get((self.file.id, "file"), make)
        if parquet.metadata.num_rows != self.file.records:
            raise ArchiveError(
                f"object {self.file.object_key} holds {parquet.metadata.num_rows:,} records and not "
                f"{self.file.records:,}: it is another's",
                hint="Run `tracemill archive verify`, and restore the object from a copy.",
            )
        return parquet

    def _damaged(self) -> _Damaged:
        return _Damaged(self.file.object_key)

    def column(self, name: str) -> Any:
        """A narrow column: ``time`` in microseconds, ids as 16 bytes, ``record`` as type codes, absent numbers as -1."""

        def make() -> tuple[Any, int]:
            with self._damaged():
                column = self._parquet().read(columns=[name]).column(name).combine_chunks()
                array = _narrow(name, column)
            return array, array.nbytes

        return self._cache.get((self.file.id, "column", name), make)

    def texts(self, name: str) -> tuple[Any, dict[str, int]]:
        """A column of names: the code of each row (-1 where it has none), and the code of each name."""

        def make() -> tuple[Any, int]:
            with self._damaged():
                column = self._parquet().read(columns=[name]).column(name).combine_chunks().dictionary_encode()
                codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
                names = {text: code for code, text in enumerate(column.dictionary.to_pylist())}
            return (codes, names), codes.nbytes + sum(80 + len(text) for text in names)

        found: tuple[Any, dict[str, int]] = self._cache.get((self.file.id, "texts", name), make)
        return found

    def lookup(self) -> tuple[Any, Any]:
        """The ids in order, and the position of each."""

        def make() -> tuple[Any, int]:
            ids = self.column("id")
            order = np.argsort(ids, kind="stable").astype(np.int32)
            return (ids[order], order), ids.nbytes + order.nbytes

        found: tuple[Any, Any] = self._cache.get((self.file.id, "lookup"), make)
        return found

    def group(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """A row group, whole or some of its columns."""

        def make() -> tuple[Any, int]:
            with self._damaged():
                table = self._parquet().read_row_group(number, columns=None if columns is None else list(columns))
            return table, table.nbytes

        return self._cache.get((self.file.id, "group", str(number), *(columns or ())), make)

    def bounds(self) -> Any:
        """The position at which each row group begins, and the end of the last."""
        metadata = self._parquet().metadata
        return np.cumsum([0, *(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))])

    def rows(self, positions: Sequence[int]) -> list[SealedRow]:
        """The rows at some positions, in the order asked for."""
        bounds = self.bounds()
        wanted = np.asarray(positions, dtype=np.int64)
        groups = np.searchsorted(bounds, wanted, side="right") - 1
        found: dict[int, SealedRow] = {}
        for number in np.unique(groups):
            own = wanted[groups == number]
            with self._damaged():
                table = self.group(int(number)).take(pa.array(own - bounds[number]))
                found.update(zip(own.tolist(), from_table(table, self._sealer), strict=True))
        return [found[int(position)] for position in wanted]

    def tables(self) -> Iterator[pa.Table]:
        """Every row group as a table of :data:`SCHEMA`, in the order of the file and past the cache."""
        with self._damaged():
            if self.file.format != "parquet":
                rows = list(read_lines(self._objects.read(self.file.object_key), self.file.object_key))
                for start in range(0, len(rows), GROUP_ROWS):
                    yield to_table(rows[start : start + GROUP_ROWS], self._sealer)
                return
            source = self._objects.open(self.file.object_key, self.file.stored_bytes)
            plain = pq.ParquetFile(source, arrow_extensions_enabled=True)
            for number in range(plain.metadata.num_row_groups):
                yield plain.read_row_group(number)

    def all_rows(self) -> Iterator[SealedRow]:
        """Every row, in the order of the file, a row group at a time and past the cache."""
        for table in self.tables():
            with self._damaged():
                for start in range(0, table.num_rows, _ROWS_AT_ONCE):
                    yield from from_table(table.slice(start, _ROWS_AT_ONCE), self._sealer)


class _Damaged:
    """Says of which object a reading error is."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, (pa.ArrowException, RecordError, OSError, KeyError)) and not isinstance(
            error, ArchiveError
        ):
            raise ArchiveError(
                f"object {self._key} of the archive is damaged: {str(error).splitlines()[0][:200]}",
                hint="Run `tracemill archive verify`, and restore the object from a copy.",
            ) from error


def _narrow(name: str, column: Any) -> Any:
    if name in ("id", "interaction_id"):
        storage = column.storage
        filled = storage.fill_null(b"\x00" * 16) if storage.null_count else storage
        return np.frombuffer(b"".join(filled.to_pylist()), dtype="S16") if len(filled) else np.empty(0, "S16")
    if name == "time":
        return column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    if name == "record":
        encoded = column.dictionary_encode()
        codes = np.array([TYPE_CODES[tag] for tag in encoded.dictionary.to_pylist()] or [0], dtype=np.int8)
        return codes[encoded.indices.to_numpy(zero_copy_only=False)]
    if name == "success":
        return column.cast(pa.int8()).fill_null(-1).to_numpy(zero_copy_only=False)
    return column.fill_null(-1).to_numpy(zero_copy_only=False)


def columns_of(table: pa.Table) -> dict[str, Any]:
    """What the catalogue says of a table's rows: counts by type, sizes, and the ends of times, places and ids."""
    counted = table.column("record").value_counts().to_pylist()
    ids = table.column("id").combine_chunks().storage.to_pylist()
    found: dict[str, Any] = {
        "types": {entry["values"]: entry["counts"] for entry in counted},
        "raw_bytes": pc.sum(table.column("raw_bytes")).as_py(),
        "hot_bytes": pc.sum(table.column("hot_bytes")).as_py(),
        "ids": (min(ids), max(ids)),
    }
    for name in ("time", "place"):
        ends = pc.min_max(table.column(name).cast(pa.int64())).as_py()
        found[name] = (ends["min"], ends["max"])
    return found


def rows_of(path: Path, format: ArchiveFormat) -> int:  # noqa: A002
    """How many rows a sealed file says it holds."""
    if format == "parquet":
        return int(pq.read_metadata(path).num_rows)
    with gzip.open(path, "rb") as file:
        return sum(1 for _ in file)
