"""Packages: gzip'ed tar archives that are a pure function of what is in them.

Names are sorted and every time, owner and mode is the same, so that the same files give the same bytes (with one version of
zlib). What a member may be called is what any receiver can unpack anywhere: see :func:`name_problem`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from tracemill.core.errors import SourceError

LONGEST_NAME, LONGEST_PART = 1024, 200
PART = "{stem}.part-{number:05d}{suffix}"
"""What the parts of a file that was cut are called."""
_PIECE = 1024 * 1024
_LEVEL = 6
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


class UnfinishedError(SourceError):
    """A file does not come to its end, as one that is still being written."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a package: its name (``/`` between folders) and its bytes."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Package:
    """A package on disk: hex SHA-256 and size in bytes of its file."""

    sha256: str
    size: int


def name_problem(name: str) -> str:
    """Why a member may not be called so; empty when it may."""
    parts = name.split("/")
    if not name or name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return "leads out of the folder"
    if _CONTROL.search(name):
        return "has control characters or backslashes"
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    if len(raw) > LONGEST_NAME or any(len(part.encode()) > LONGEST_PART for part in parts):
        return "is too long"
    return ""


def write_package(path: Path, members: Iterable[Member]) -> Package:
    """Write members, sorted by name already, into a new file and bring it to the device.

    Raises ValueError for names that are not sorted, not unique or not allowed, OSError when the file cannot be written.
    """
    with path.open("xb") as file:
        with (
            gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive,
        ):
            last = ""
            for member in members:
                if name_problem(member.name) or member.name <= last:
                    raise ValueError(f"not a name in order: {member.name!r} after {last!r}")
                last = member.name
                head = tarfile.TarInfo(member.name)
                head.size, head.mode = len(member.content), 0o644
                archive.addfile(head, io.BytesIO(member.content))
        file.flush()
        os.fsync(file.fileno())
    return look_at(path)


def look_at(path: Path) -> Package:
    """Hash and size of a package's file. Raises OSError."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Package(digest, file.tell())


def read_package(path: Path) -> Iterator[Member]:
    """The members of a package of ours. Raises SourceError when it is none, or damaged."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            for head in archive:
                content = archive.extractfile(head) if head.isreg() else None
                if content is None or name_problem(head.name):
                    raise SourceError(f"{path.name} holds {head.name!r}, which no package of ours does")
                yield Member(head.name, content.read())
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, OSError) as error:
        raise SourceError(f"the package {path.name} cannot be read: {error}") from error


def is_whole(name: str, content: bytes) -> bool:
    """Whether a file's JSON is there to its end: one value, or for ``.jsonl`` one in each line, the last line ended too."""
    if not name.endswith(".jsonl"):
        return _parses(content)
    return content.endswith(b"\n") and all(_parses(line) for line in content.split(b"\n") if line.strip())


def _parses(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)  # looks at the syntax and makes nothing of it
        text.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        try:  # Python's writers put NaN and halves of surrogate pairs into files, which msgspec is too strict for
            json.loads(text)
        except (ValueError, RecursionError):
            return False
    return True


def part_name(name: str, number: int) -> str:
    """What part ``number`` of a file is called: ``a/b.json`` gives ``a/b.part-00001.json``."""
    stem, dot, suffix = name.rpartition(".")
    return PART.format(stem=stem, number=number, suffix=dot + suffix)


def split(name: str, stream: BinaryIO, limit: int) -> Iterator[bytes]:
    """A file that is too large as whole files of the same kind, each of ``limit`` bytes at most.

    ``.jsonl`` is cut between lines, a JSON array between its elements. Raises SourceError when it is neither, when one line
    or element alone is too large; UnfinishedError when it does not parse to its end.
    """
    lines = name.endswith(".jsonl")
    pieces = _lines(stream, limit) if lines else _elements(stream, limit)
    start, between, end = (b"", b"\n", b"\n") if lines else (b"[", b",", b"]")
    held = bytearray(start)  # one copy of a part at a time: parts are as large as packages may be
    for piece in pieces:
        if not _parses(piece):
            raise UnfinishedError(f"{name} does not parse")
        if len(start) + len(piece) + len(end) > limit:
            raise SourceError(f"{name} has one record larger than {limit} bytes")
        if len(held) > len(start) and len(held) + len(between) + len(piece) + len(end) > limit:
            held += end
            yield bytes(held)
            held = bytearray(start)
        if len(held) > len(start):
            held += between
        held += piece
    if len(held) > len(start):
        held += end
        yield bytes(held)


def _lines(stream: BinaryIO, limit: int) -> Iterator[bytes]:
    while line := stream.readline(limit + 1):
        if not line.endswith(b"\n"):
            if len(line) > limit:
                raise SourceError(f"one line is larger than {limit} bytes")
            raise UnfinishedError("the last line has no end")
        if line.strip():
            yield line[:-1]


_MARKS = re.compile(rb'["\[\]{},]')
_STRING_END = re.compile(rb'["\\]')


class _Elements:
    """Cuts the elements of one JSON array out of the pieces of its text, without holding more than one of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._depth = 0
        self._text = self._escaped = self._comma = False
        self.ended = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The elements that end in a piece. Raises SourceError for what is no array."""
        at = start = 0
        while at < len(piece):
            if self._escaped:
                self._escaped, at = False, at + 1
                continue
            found = (_STRING_END if self._text else _MARKS).search(piece, at)
            at = found.end() if found else len(piece)
            mark = found[0] if found else b""
            if mark == b"\\":
                self._escaped = True
            elif mark == b'"':
                self._text = not self._text
            elif mark in (b"[", b"{"):
                if self._depth == 0:
                    self._begin(mark, piece[start : at - 1])
                    start = at
                self._depth += 1
            elif mark and (mark != b"," or self._depth == 1):
                self._depth -= mark != b","
                if self._depth <= 1 and (mark == b"," or self._depth == 0):
                    self._held += piece[start : at - 1]
                    start = at
                    yield from self._end(mark)
        self._held += piece[start:]
        if len(self._held) > self._limit + _PIECE:
            raise SourceError("one record is too large")

    def _begin(self, mark: bytes, before: bytes) -> None:
        if mark != b"[" or self.ended or (self._held + before).strip():
            raise SourceError("it is no JSON array")
        self._held.clear()

    def _end(self, mark: bytes) -> Iterator[bytes]:
        """One element is over: by a comma, or by the array's own end, which an empty array has at once."""
        element = bytes(self._held).strip()
        self._held.clear()
        if mark == b"}" or not (element or (mark == b"]" and not self._comma)):
            raise SourceError("it is no JSON array")
        self.ended, self._comma = mark == b"]", mark == b","
        if element:
            yield element

    def rest(self) -> bytes:
        """What came after the array."""
        return bytes(self._held).strip()


def _elements(stream: BinaryIO, limit: int) -> Iterator[bytes]:
    reader = _Elements(limit)
    while piece := stream.read(_PIECE):
        yield from reader.feed(piece)
    if not reader.ended or reader.rest():
        raise UnfinishedError("the JSON array does not come to its end, or goes on after it")
