"""The files rows stand in: JSON lines, plain or compressed, Parquet, CSV, TFRecord; a split is one file, or several of a size.

The same rows give the same bytes: no times, no names of machines. Sizes of shards are those of the rows as JSON lines, so that
every container of a version parts at the same rows.

In Parquet, CSV and TFRecord a row's fields are columns. What has no fixed type (messages, tools) is JSON text there: as Arrow
structs, the argument objects of a file would all get the keys of each other.
"""

from __future__ import annotations

import csv
import io
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
import yaml
import zstandard

from tracemill.core.errors import ExportError
from tracemill.core.examples import DatasetFile
from tracemill.dataset.files import WholeFile
from tracemill.export.tf_example import encode_example, frame, require_tfrecord

CONTAINERS = {
    "jsonl": ".jsonl",
    "jsonl.gz": ".jsonl.gz",
    "jsonl.zst": ".jsonl.zst",
    "parquet": ".parquet",
    "csv": ".csv",
    "tfrecord": ".tfrecord",
}
"""Containers by name, with the ending of their files."""
_ROW_GROUP = 8 * 1024 * 1024
"""Bytes of rows, as JSON, that a row group of a Parquet file is made of: what is held in memory at once."""
_ZSTD_LEVEL = 9
_GZIP = 31
"""zlib's word for its largest window in a gzip frame, which it writes without a time and a name."""
_FORMULA = re.compile(r"""(^|[;|\t\r\n])(?="*[=+\-@\t\r\n＝＋－＠]|')""")
"""Where a cell would begin with a formula (OWASP, CSV injection), or with the mark that is put there.

A cell also begins after ``;``, ``|``, a tab or a line break for a program that parts columns by another sign than the comma,
since it does not see that the text is quoted."""
_MARK = re.compile(r"(^|[;|\t\r\n])'")
_FORMULA_IN_JSON = re.compile(r"(?<=[;|])[=+\-@＝＋－＠]")
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class SplitFiles:
    """The files of one split. Use as a context manager: leaving it normally puts the last file in its place.

    ``columns`` are a row's fields with their types as the header of a card names them. ``shard_bytes`` is the size at which
    the next file begins; without it there is one. ``finished`` are files of the split that are in their place already: it
    goes on behind them. ``then`` is told of each further file that is in its place, and whether it is the last.

    Raises ExportError for Parquet or TFRecord without the packages they need.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        container: str,
        columns: Mapping[str, str],
        shard_bytes: int | None,
        *,
        finished: Sequence[DatasetFile] = (),
        then: Callable[[DatasetFile, bool], None] | None = None,
    ) -> None:
        if container == "parquet" and find_spec("pyarrow") is None:
            raise ExportError("Parquet needs pyarrow", hint="Install `tracemill[archive]`.")
        if container == "tfrecord":
            require_tfrecord()
        self._folder, self._split, self._container = folder, split, container
        self._columns = {name: _specification(kind) for name, kind in columns.items()}
        self._shard_bytes = shard_bytes
        self._shard_size, self._then = 0, then
        self.files = list(finished)
        self.rows = sum(file.rows for file in finished)
        self._file, self._rows = self._open()

    def write_row(self, line: bytes) -> None:
        """Append a row, which is given as its JSON line without the newline."""
        if self._shard_bytes is not None and self._shard_size and self._shard_size + len(line) > self._shard_bytes:
            self._finish(last=False)
            self._file, self._rows = self._open()
        self._rows.add(line)
        self._file.rows += 1
        self._shard_size += len(line) + 1
        self.rows += 1

    def _open(self) -> tuple[WholeFile, _Rows]:
        self._shard_size = 0
        ending = CONTAINERS[self._container]
        name = f"{self._split}{ending}" if self._shard_bytes is None else f"{self._split}-{len(self.files):05d}{ending}"
        file = WholeFile(self._folder / name)
        if self._container == "csv":
            return file, _Csv(file, self._columns)
        if self._container == "parquet":
            return file, _Parquet(file, self._columns)
        if self._container == "tfrecord":
            return file, _TfRecord(file, self._columns)
        return file, _Lines(file, self._container)

    def _finish(self, *, last: bool) -> None:
        self._rows.finish()
        self._file.commit()
        self.files.append(self._file.describe())
        if self._then is not None:
            self._then(self.files[-1], last)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish(last=True)
        else:
            self._file.abandon()


def is_split_file(name: str, splits: Iterable[str]) -> bool:
    """Whether a file name is one that some export of these splits has, in any container."""
    endings = "|".join(map(re.escape, CONTAINERS.values()))
    return any(re.fullmatch(rf"{re.escape(split)}(-\d{{5}})?({endings})", name) for split in splits)


class _Rows(Protocol):
    """Rows on their way into one file."""

    def add(self, line: bytes) -> None: ...

    def finish(self) -> None: ...


class _Lines:
    def __init__(self, file: WholeFile, container: str) -> None:
        self._file = file
        self._packer: Any = None
        if container == "jsonl.gz":
            self._packer = zlib.compressobj(level=6, wbits=_GZIP)
        elif container == "jsonl.zst":
            self._packer = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()

    def add(self, line: bytes) -> None:
        self._file.write(line + b"\n" if self._packer is None else self._packer.compress(line + b"\n"))

    def finish(self) -> None:
        if self._packer is not None:
            self._file.write(self._packer.flush())


class _Csv:
    """Comma-separated values (RFC 4180, lines end in CR LF), each field quoted, no text taken for a formula."""

    def __init__(self, file: WholeFile, columns: Mapping[str, dict[str, Any]]) -> None:
        self._file, self._columns = file, columns
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, quoting=csv.QUOTE_ALL)
        self._write(list(columns))

    def add(self, line: bytes) -> None:
        row = _decode(line)
        self._write([_cell(row.get(name), column) for name, column in self._columns.items()])

    def _write(self, cells: list[str]) -> None:
        self._writer.writerow(cells)
        self._file.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()

    def finish(self) -> None:
        """Every row is in the file already."""


def _cell(value: Any, column: dict[str, Any]) -> str:
    if value is None:
        return ""
    if column.get("dtype") != "string":
        return _FORMULA_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", _encode(value).decode())
    return _FORMULA.sub(r"\1'", value)


def cell_text(cell: str) -> str:
    """The text that a cell of a CSV export stands for: itself, without the marks that keep it from being a formula."""
    return _MARK.sub(r"\1", cell)


class _Parquet:
    def __init__(self, file: WholeFile, columns: Mapping[str, dict[str, Any]]) -> None:
        import pyarrow as pa  # noqa: PLC0415 - an optional part
        from pyarrow import parquet  # noqa: PLC0415

        self._columns = columns
        features = {"info": {"features": {name: _feature(column) for name, column in columns.items()}}}
        fields = [pa.field(name, _arrow(pa, column)) for name, column in columns.items()]
        self._schema = pa.schema(fields, metadata={"huggingface": _encode(features)})
        self._from_rows = pa.Table.from_pylist
        self._writer = parquet.ParquetWriter(_Sink(file), self._schema, compression="zstd")
        self._waiting: list[dict[str, Any]] = []
        self._size = 0

    def add(self, line: bytes) -> None:
        row = _decode(line)
        self._waiting.append({name: _stored(row.get(name), column) for name, column in self._columns.items()})
        self._size += len(line)
        if self._size >= _ROW_GROUP:
            self._write()

    def _write(self) -> None:
        if self._waiting:
            self._writer.write_table(self._from_rows(self._waiting, schema=self._schema))
            self._waiting, self._size = [], 0

    def finish(self) -> None:
        self._write()
        self._writer.close()


class _TfRecord:
    """``tf.train.Example`` messages: a feature a field, none where the row lacks the field.

    A text is one value of bytes, true or false and an integer one of ``int64``, a list one value of bytes an element (as JSON
    text, where the elements are no texts), everything else JSON text. That holds for numbers with a fraction too: those of
    an Example have 32 bits, and would come back changed.
    """

    def __init__(self, file: WholeFile, columns: Mapping[str, dict[str, Any]]) -> None:
        self._file, self._columns = file, columns

    def add(self, line: bytes) -> None:
        row = _decode(line)
        found = {name: _values(row[name], kind) for name, kind in self._columns.items() if row.get(name) is not None}
        self._file.write(frame(encode_example(found)))

    def finish(self) -> None:
        """Every row is in the file already."""


def _values(value: Any, column: dict[str, Any]) -> list[bytes] | list[int]:
    if "list" in column and isinstance(value, list):
        inner = _inner(column)
        return [_bytes(element, inner) for element in value]
    return [int(value)] if column.get("dtype") in ("bool", "int64") else [_bytes(value, column)]


def _bytes(value: Any, column: dict[str, Any]) -> bytes:
    return str(value).encode() if column.get("dtype") == "string" else _encode(value)


class _Sink(io.RawIOBase):
    """A whole file as what pyarrow writes into; also when it ends its own affairs after the file was abandoned."""

    def __init__(self, file: WholeFile) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.bytes

    def write(self, data: Any) -> int:
        held = bytes(data)
        if not self._file.closed:
            self._file.write(held)
        return len(held)


# -- types of columns, as the header of a card names them


def _specification(kind: str) -> dict[str, Any]:
    (found,) = yaml.safe_load(f"  - name: column\n    {kind}")
    return {key: value for key, value in found.items() if key != "name"}


def _inner(column: dict[str, Any]) -> dict[str, Any]:
    """What a list column is a list of."""
    inner = column["list"]
    if isinstance(inner, str):
        return {"dtype": inner}
    return {"struct": inner} if isinstance(inner, list) else dict(inner)


def _arrow(pa: Any, column: dict[str, Any]) -> Any:
    if "list" in column:
        return pa.list_(_arrow(pa, _inner(column)))
    if "struct" in column:
        return pa.struct([(field["name"], _arrow(pa, field)) for field in column["struct"]])
    types = {"string": pa.string(), "json": pa.string(), "bool": pa.bool_()}
    return types.get(column["dtype"]) or getattr(pa, column["dtype"])()


def _feature(column: dict[str, Any]) -> Any:
    """A column as Hugging Face ``datasets`` writes its type into the file."""
    if "list" in column:
        return {"feature": _feature(_inner(column)), "_type": "List"}
    if "struct" in column:
        return {field["name"]: _feature(field) for field in column["struct"]}
    return {"_type": "Json"} if column["dtype"] == "json" else {"dtype": column["dtype"], "_type": "Value"}


def _stored(value: Any, column: dict[str, Any]) -> Any:
    """A value with JSON text in the place of what has no fixed type."""
    if value is None or column.get("dtype", "json") != "json":
        return value
    if "list" in column:
        inner = _inner(column)
        return [_stored(element, inner) for element in value]
    return value if "struct" in column else _encode(value).decode()
