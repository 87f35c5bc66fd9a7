"""What duplicates are found by, as a shard keeps it: the texts, compressed, and beside them what is narrow.

Texts are read once or twice, one shard at a time, and never meet in memory. Beside each stands the score to choose by and
a digest of every line that could be boilerplate.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import zstandard

from tracemill.dataset.files import WholeFile
from tracemill.quality.documents import line_digests

_LENGTH = struct.Struct("<Q")
_LEVEL = 1


class Pattern(msgspec.Struct, array_like=True, frozen=True):
    """What duplicates are found by: the place in the shard of an interaction, the score to choose by, the text."""

    place: int
    score: float
    text: str


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    """A pattern as it is stored: a text that has half a surrogate pair, which UTF-8 cannot hold, as bytes."""

    place: int
    score: float
    text: Any


class Narrow(msgspec.Struct, array_like=True, frozen=True):
    """The same without the text: ``lines`` are the digests of its long lines, eight bytes each, one after another."""

    place: int
    score: float
    lines: bytes


@dataclass(frozen=True)
class TextFiles:
    """A shard's texts, and which of them (by their place in the shard) are compared. ``base`` numbers the first place."""

    texts: Path
    narrow: Path
    base: int
    compared: bytes

    def stands(self, place: int) -> bool:
        """Whether the text of a place is compared."""
        return self.compared[place] != 0


_encode = msgspec.msgpack.Encoder().encode
_stored = msgspec.msgpack.Decoder(_Stored)
_narrow = msgspec.msgpack.Decoder(Narrow)


class TextWriter:
    """Writes both files of a shard, whole or not at all, and none where there is no text. Use as a context manager."""

    def __init__(self, texts: Path, narrow: Path) -> None:
        self._paths = texts, narrow
        self._files: tuple[WholeFile, WholeFile] | None = None
        self._compressed = zstandard.ZstdCompressor(level=_LEVEL).compressobj()

    def add(self, pattern: Pattern) -> None:
        """Append one text."""
        if self._files is None:
            self._files = WholeFile(self._paths[0]), WholeFile(self._paths[1])
        try:
            encoded = _encode(pattern)
        except UnicodeEncodeError:
            encoded = _encode(_Stored(pattern.place, pattern.score, pattern.text.encode("utf-8", "surrogatepass")))
        self._files[0].write(self._compressed.compress(_LENGTH.pack(len(encoded)) + encoded))
        narrow = _encode(Narrow(pattern.place, pattern.score, b"".join(sorted(line_digests(pattern.text)))))
        self._files[1].write(_LENGTH.pack(len(narrow)) + narrow)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._files is None:
            return
        if kind is None:
            self._files[0].write(self._compressed.flush())
        for file in self._files:
            file.__exit__(kind, error, trace)


def read_texts(path: Path) -> Iterator[Pattern]:
    """The texts of a shard, in stored order."""
    if not path.exists():
        return
    with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw, read_size=128 * 1024) as file:
        buffer = b""
        while more := file.read(512 * 1024):
            buffer += more
            at = 0
            while at + _LENGTH.size <= len(buffer):
                (length,) = _LENGTH.unpack_from(buffer, at)
                if at + _LENGTH.size + length > len(buffer):
                    break
                yield _read(memoryview(buffer)[at + _LENGTH.size : at + _LENGTH.size + length])
                at += _LENGTH.size + length
            buffer = buffer[at:]


def _read(stored: memoryview) -> Pattern:
    one = _stored.decode(stored)
    text = one.text if isinstance(one.text, str) else one.text.decode("utf-8", "surrogatepass")
    return Pattern(one.place, one.score, text)


def read_narrow(path: Path) -> list[Narrow]:
    """What stands beside the texts of a shard, in stored order."""
    content, at, found = path.read_bytes() if path.exists() else b"", 0, []
    while at < len(content):
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size + length
        found.append(_narrow.decode(memoryview(content)[at - length : at]))
    return found
