"""Packages of files, as Lightspeed's exporter and ``tracemill ship`` send them: tar, mostly in gzip, from strangers.

Nothing is written to disk under a name that a package states, nothing in it is followed, and what comes out is bounded while it
comes out: bytes, ratio, number of files, size of one. A package that is torn or passes a bound of the whole is refused whole,
since its sender still has it and sends it again; a single file that is not what it should be is refused alone.

Headers are parsed by the standard library's ``tarfile`` one block at a time, but walked here: its own reader takes a torn
archive for a whole one, reads extended headers of any size into memory and follows chains of them without end.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tracemill.capture.ingest import Reject
from tracemill.core.errors import RecordError

MIB = 1024 * 1024
LONGEST_NAME = 1024
"""Bytes of a file's whole name; of one folder's or file's part of it, 255 (what file systems take)."""
_LONGEST_PART = 255
_BLOCK = tarfile.BLOCKSIZE
_STEP = 256 * 1024
_HEAD = 1000
"""Bytes that are kept of a file that is too large."""
_FREE = MIB
"""Up to here the ratio does not matter: a tar of a few small files is mostly zeros."""
_HEADERS_EACH = 4096
"""Bytes of headers and padding allowed a file, on average: its header, an extended one, the rest of its last block."""
_EXTENDED_MAX = 64 * 1024
_EXTENDED_IN_A_ROW = 4
_NESTED_NAMES = (".tar", ".tgz", ".gz", ".zip", ".zst", ".bz2", ".tbz2", ".xz", ".txz", ".7z", ".rar", ".jar")
_NESTED_STARTS = (
    b"\x1f\x8b",
    b"PK\x03\x04",
    b"\x28\xb5\x2f\xfd",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!",
)
_DRIVE = re.compile(r"[A-Za-z]:")
_SIZE = re.compile(r"[0-9]{1,18}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class PackageLimits:
    """What a package may be. ``bytes_total`` bounds the files' content together and the package as it was sent, ``file_bytes``
    one file, ``files`` the entries of any kind, ``ratio`` how many times its size a package may grow to beyond the first MiB.
    """

    bytes_total: int = 128 * MIB
    files: int = 100_000
    file_bytes: int = 64 * MIB
    ratio: int = 100


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a package. ``raw`` is empty where only names were asked for."""

    name: str
    raw: bytes


def read_package(file: BinaryIO, limits: PackageLimits, *, contents: bool = True) -> Iterator[Member | Reject]:
    """The files of a package from its beginning to its end, one at a time; folders are passed over.

    A Reject stands for one file, with its name as place and its content (the beginning, of one that is too large; the name,
    of one that has none): ``unsafe_name``, ``name_too_long``, ``duplicate_name``, ``link``,
    ``not_a_file`` (a device, a pipe, a sparse file), ``too_large``, ``nested_archive`` (only where contents are read).
    Raises RecordError when the package as a whole cannot be used: ``malformed`` (neither gzip nor tar, torn, damaged, with
    something behind it), ``too_large``, ``too_many_files``. Files that were given before that must not be used yet: read
    once with ``contents=False`` to know.
    """
    stream = _Stream(file, limits)
    names: set[bytes] = set()
    total = 0
    for entries, header in enumerate(_headers(stream), 1):
        if entries > limits.files:
            raise RecordError("too_many_files", f"the package has more than {limits.files} entries")
        total += header.size
        if total > limits.bytes_total:
            raise RecordError("too_large", f"the package holds more than {limits.bytes_total} bytes")
        found = _judged(header, names, limits)
        fits = header.size <= limits.file_bytes
        raw = stream.read(header.size if fits else min(header.size, _HEAD)) if contents and found is not None else b""
        stream.skip(header.size - len(raw) + -header.size % _BLOCK)
        if isinstance(found, Reject):
            yield Reject(found.place, found.reason, found.message, raw or found.place.encode())
        elif found is not None:
            yield _unless_nested(Member(found.name, raw))


def shown(name: str) -> str:
    """A name from a package as it may stand in a message: one line, short, and never more than text."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name[:300])
    return plain if len(name) <= 300 else f"{plain}…"


def _unless_nested(member: Member) -> Member | Reject:
    lower = member.name.lower()
    if lower.endswith(_NESTED_NAMES) or member.raw.startswith(_NESTED_STARTS) or member.raw[257:262] == b"ustar":
        return Reject(shown(member.name), "nested_archive", "an archive in the package is not opened", member.raw)
    return member


def _judged(header: _Header, names: set[bytes], limits: PackageLimits) -> Member | Reject | None:
    """A file by its header alone; None for a folder."""
    name = header.name
    if header.kind == tarfile.DIRTYPE:
        return None
    while name.startswith("./"):
        name = name[2:]
    problem = _name_problem(name)
    place = shown(header.name)
    if problem is not None:
        return Reject(place, *problem, b"")
    if header.kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        return Reject(place, "link", "a link is not followed", b"")
    if header.kind not in (tarfile.REGTYPE, tarfile.AREGTYPE) or header.sparse:
        return Reject(place, "not_a_file", "only ordinary files are taken", b"")
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    if digest in names:
        return Reject(place, "duplicate_name", "the package has a file of this name already", b"")
    names.add(digest)
    if header.size > limits.file_bytes:
        return Reject(place, "too_large", f"a file of {header.size} bytes; at most {limits.file_bytes} are taken", b"")
    return Member(name, b"")


def _name_problem(name: str) -> tuple[str, str] | None:
    """Why a name is not taken: as a reason and in words."""
    parts = name.split("/")
    if _CONTROL.search(name):
        return "unsafe_name", "the name is not plain UTF-8 text"
    if len(name.encode()) > LONGEST_NAME or any(len(part.encode()) > _LONGEST_PART for part in parts):
        return "name_too_long", f"the name is longer than {LONGEST_NAME} bytes, or a part of it than {_LONGEST_PART}"
    if name.startswith("/") or "\\" in name or _DRIVE.match(name):
        return "unsafe_name", "the name is absolute, or has a drive or a backslash"
    if any(part in ("", ".", "..") for part in parts):
        return "unsafe_name", "the name leads out of its folder, or has an empty part"
    return None


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    size: int
    kind: bytes
    sparse: bool


def _headers(stream: _Stream) -> Iterator[_Header]:
    """Every entry's header. Between two, the caller passes over the entry's content. Raises RecordError."""
    ended = False
    while block := stream.block():
        if not any(block):
            ended = True
            continue
        ended, extended = False, dict[str, str]()
        header = _parsed(block)
        for _ in range(_EXTENDED_IN_A_ROW):
            if header.type not in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, b"L", b"K"):
                break
            extended |= _extended(stream, header)
            header = _parsed(stream.block())
        else:
            raise RecordError("malformed", "the package has too many extended headers in a row")
        size = _stated(extended["size"]) if "size" in extended else header.size
        if header.type in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE) or header.isdev():
            size = 0  # these have no content, whatever they state (POSIX pax, "ustar Header Block")
        sparse = header.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in extended)
        yield _Header(extended.get("path", header.name), size, header.type, sparse)
    if not ended:
        raise RecordError("malformed", "the package ends without the mark of its end: it is torn, or no tar")


def _stated(size: str) -> int:
    if not _SIZE.fullmatch(size):
        raise RecordError("malformed", "the package states a size that is no number")
    return int(size)


def _parsed(block: bytes) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise RecordError("malformed", f"the package is no tar, or is damaged: {error}") from None
    if header.size < 0:
        raise RecordError("malformed", "the package states a size below zero")
    return header


def _extended(stream: _Stream, header: tarfile.TarInfo) -> dict[str, str]:
    """What an extended header says of the next entry that matters here: its name, its size, and whether it is sparse."""
    if header.size > _EXTENDED_MAX:
        raise RecordError("malformed", f"the package has an extended header of {header.size} bytes")
    raw = stream.read(header.size)
    stream.skip(-header.size % _BLOCK)
    if header.type == b"L":
        return {"path": raw.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    if header.type in (b"K", tarfile.XGLTYPE):
        return {}  # a link's target, and what is said of all entries: no name or size can be meant
    found: dict[str, str] = {}
    while raw.rstrip(b"\0"):
        length, _, _ = raw.partition(b" ")
        end = int(length) if length.isdigit() and len(length) <= 6 else 0
        key, is_pair, value = raw[len(length) + 1 : max(0, end - 1)].partition(b"=")
        if not is_pair or end > len(raw) or raw[end - 1 : end] != b"\n":
            raise RecordError("malformed", "the package has an extended header that cannot be read")
        name = key.decode("utf-8", "replace")
        if name in ("path", "size") or name.startswith("GNU.sparse"):
            found[name] = value.decode("utf-8", "surrogateescape")
        raw = raw[end:]
    return found


class _Stream:
    """The tar in a file, unpacked as it is read, within the limits. A gzip file may have any number of members."""

    def __init__(self, file: BinaryIO, limits: PackageLimits) -> None:
        self._file = file
        self._limit = limits.bytes_total + limits.files * _HEADERS_EACH
        self._ratio = limits.ratio
        self._packed = file.read(_STEP)
        self._taken, self._given = len(self._packed), 0
        self._ready = bytearray()
        self._gzip = self._packed[:2] == b"\x1f\x8b"
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._begun = False

    def block(self) -> bytes:
        """The next block of 512 bytes; empty at the end."""
        while len(self._ready) < _BLOCK and self._fill():
            pass
        return self.read(_BLOCK) if self._ready else b""

    def read(self, size: int) -> bytes:
        """Exactly so many bytes. Raises RecordError when the package ends before."""
        while len(self._ready) < size:
            if not self._fill():
                raise RecordError("malformed", "the package ends inside a file: it is torn")
        found = bytes(self._ready[:size])
        del self._ready[:size]
        return found

    def skip(self, size: int) -> None:
        """Pass over so many bytes."""
        while size > 0:
            size -= len(self.read(min(size, _STEP)))

    def _fill(self) -> bool:
        chunk = self._unpacked() if self._gzip else self._plain()
        self._given += len(chunk)
        if self._given > self._limit:
            raise RecordError("too_large", f"the package unpacks to more than {self._limit} bytes")
        if self._given > max(_FREE, self._taken * self._ratio):
            raise RecordError("too_large", f"the package unpacks to more than {self._ratio} times its size")
        self._ready += chunk
        return bool(chunk)

    def _plain(self) -> bytes:
        chunk, self._packed = self._packed, b""
        return chunk or self._more()

    def _more(self) -> bytes:
        chunk = self._file.read(_STEP)
        self._taken += len(chunk)
        return chunk

    def _unpacked(self) -> bytes:
        while True:
            if self._member.eof:
                self._packed = self._member.unused_data.lstrip(b"\0") or self._packed_after_zeros()
                if not self._packed:
                    return b""
                self._member, self._begun = zlib.decompressobj(zlib.MAX_WBITS | 16), False
            self._packed = self._packed or self._more()
            if not self._packed:
                raise RecordError("malformed", "the package ends inside its compression: it is torn")
            try:
                chunk = self._member.decompress(self._packed, _STEP)
            except zlib.error as error:
                raise RecordError("malformed", f"the package is damaged, or something follows it: {error}") from None
            self._packed = b"" if self._member.eof else self._member.unconsumed_tail
            if chunk:
                return chunk

    def _packed_after_zeros(self) -> bytes:
        """What follows a gzip member but for the zeros that fill up a device's block."""
        while chunk := self._more():
            if chunk := chunk.lstrip(b"\0"):
                return chunk
        return b""
