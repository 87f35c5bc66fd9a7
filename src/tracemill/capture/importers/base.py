"""What an importer is given and what it gives."""

from __future__ import annotations

import gzip
import hashlib
import io
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeAlias, cast

import zstandard

from tracemill.capture.ingest import Reject
from tracemill.core.codec import encode_plain
from tracemill.core.errors import SourceError
from tracemill.core.ids import derived_id
from tracemill.core.records import SCHEMA_VERSION, AnyRecord, User


@dataclass(frozen=True, slots=True)
class ImportContext:
    """What the caller says of the files: platform, model, one record a model call (``expand``), and whose users they are."""

    pseudonymize: Callable[[str | int], User]
    platform: str | None = None
    model: str | None = None
    expand: bool = False


Imported: TypeAlias = AnyRecord | Reject
Importer: TypeAlias = Callable[[Path, ImportContext], Iterator[Imported]]


_COUNT = "INSERT INTO seen VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count"


class ContentIds:
    """Ids made of content, so that importing again, or a moved or renamed file, stores nothing twice.

    The same content a second time within one file is another record: an occurrence counter tells them apart. The counters
    lie in a temporary database that SQLite keeps in memory only as far as its cache goes, since a file may have any number
    of lines. Use as a context manager.
    """

    def __init__(self, format: str) -> None:  # noqa: A002 - the word for it everywhere else
        self._format = format
        self._seen = sqlite3.connect("", isolation_level=None)
        self._seen.execute("PRAGMA journal_mode = OFF")
        self._seen.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID")
        self._seen.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seen.close()

    def of(self, content: Any) -> str:
        """The id of an entry with this content."""
        digest = hashlib.sha256(encode_plain(content)).digest()
        (count,) = self._seen.execute(_COUNT, (digest[:16],)).fetchone()
        return derived_id("import", self._format, digest.hex(), int(count))

    def base(self, identity: str, sequence: int, time: Any) -> dict[str, Any]:
        """The fields every record has."""
        return {
            "id": identity,
            "time": time,
            "schema_version": SCHEMA_VERSION,
            "producer": f"import:{self._format}",
            "sequence": sequence,
        }


def lines_of(path: Path, longest: int = 64 * 1024 * 1024) -> Iterator[tuple[int, bytes | Reject]]:
    """The lines of a file with their numbers, one at a time; empty ones are passed over.

    A line of more than ``longest`` bytes is a Reject, and so is the place where a file stops being readable (a torn
    archive): what stands before it is not lost. Raises SourceError when nothing can be read at all.
    """
    number = 0
    try:
        with _opened(path) as file:
            while line := file.readline(longest + 1):
                number += 1
                if len(line) > longest:
                    head = line[:1000]
                    while line and not line.endswith(b"\n"):
                        line = file.readline(longest)
                    yield number, Reject(f"line {number}", "too_large", f"a line of more than {longest:,} bytes", head)
                    continue
                line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if line.strip():
                    yield number, line.rstrip(b"\r\n")
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        why = f"cannot be read after line {number}: {str(error) or type(error).__name__}"
        if number == 0:
            raise SourceError(f"{path} {why}", hint="Is it the file it is named as, and readable?") from error
        yield number + 1, Reject(f"line {number + 1}", "malformed", f"the file {why}", b"")


def _opened(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.open(path, "rb"))
    if path.suffix == ".zst":
        return io.BufferedReader(_Unpacked(path))
    return path.open("rb")


class _Unpacked(io.RawIOBase):
    """The content of a Zstandard file of any number of frames.

    The library's own reader has no lines, and takes a file that ends inside a frame for a whole one; this raises
    EOFError, as gzip does.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._frame: Any = None
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._packed = self._packed or self._file.read(32 * 1024)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("the file ends inside a compressed frame")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._ready, self._packed = memoryview(self._frame.decompress(self._packed)), b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        given = self._ready[: len(buffer)]
        buffer[: len(given)] = given
        self._ready = self._ready[len(given) :]
        return len(given)

    def close(self) -> None:
        self._file.close()
        super().close()
