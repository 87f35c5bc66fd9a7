"""One file of the spool: frames in a preallocated, memory-mapped file.

A frame is written by copying memory, so the caller of capture makes no system call and cannot be held up by a disk; and
since the mapping is shared with the kernel, what was copied survives a kill -9 of the process. Room is reserved before
the file is mapped, so that a full disk is an error where the segment is made and never a bus error where it is written.

Layout, little-endian: a header of 64 bytes (magic, offset up to which frames were delivered), then frames at multiples of
8: marker, length, CRC-32 of length and payload, zero, payload. The marker is written last. Nothing read back is
trusted: a length that does not fit or a wrong CRC is damage, and the reader looks for the next whole frame.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tracemill.core.errors import SpoolError

HEADER_BYTES = 64
FRAME_BYTES = 16
_MAGIC = b"TMSPOOL1"
_MARKER = b"\xf7TMF"
_FRAME = struct.Struct("<4sIII")
_OFFSET = struct.Struct("<Q")
_CRC_PIECE = 4096  # zlib releases the interpreter lock above 5 KB, and getting it back can take 5 ms


def frame_size(length: int) -> int:
    """Bytes that a payload of this length takes in a segment."""
    return FRAME_BYTES + (length + 7) // 8 * 8


def _checksum(payload: bytes | memoryview) -> int:
    crc = zlib.crc32(len(payload).to_bytes(4, "little"))
    if len(payload) <= _CRC_PIECE:
        return zlib.crc32(payload, crc)
    view = memoryview(payload)
    for start in range(0, len(view), _CRC_PIECE):
        crc = zlib.crc32(view[start : start + _CRC_PIECE], crc)
    return crc


@dataclass(frozen=True, slots=True)
class Frame:
    """A payload with the offset of its frame and of what follows it."""

    payload: bytes
    start: int
    end: int


class Segment:
    """A mapped segment. The writer appends; a reader (of the same or another process) takes frames from an offset."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self.size = size
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, size)
        self.written = HEADER_BYTES
        self.appended = 0
        """Frames appended by this process."""
        self.delivered_frames = 0
        """Frames delivered by this process."""
        self.synced = 0
        """Frames of this process that are on the device."""

    @classmethod
    def create(cls, path: Path, size: int) -> Segment:
        """A new segment with its room reserved and its pages at hand. Raises OSError when there is no room."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _reserve(descriptor, size)
            segment = cls(path, descriptor, size)
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        for page in range(0, size, mmap.PAGESIZE):
            segment._map[page] = 0  # a first touch is a page fault; better here than in the application's thread
        segment._map[: len(_MAGIC)] = _MAGIC
        _OFFSET.pack_into(segment._map, 8, HEADER_BYTES)
        return segment

    @classmethod
    def open(cls, path: Path) -> Segment:
        """A segment that another process left. Raises SpoolError when it is none of ours, OSError when unreadable."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if size < HEADER_BYTES or os.pread(descriptor, 8, 0) != _MAGIC:
                raise SpoolError(f"{path} is not a spool segment")
            segment = cls(path, descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        segment.written = size
        return segment

    def room(self, length: int) -> bool:
        """Whether a payload of this length still fits."""
        return self.written + frame_size(length) <= self.size

    def append(self, payload: bytes) -> None:
        """Copy one frame in. The caller holds the lock and has asked :meth:`room`."""
        start, length = self.written, len(payload)
        self._map[start + FRAME_BYTES : start + FRAME_BYTES + length] = payload
        _FRAME.pack_into(self._map, start, b"\0\0\0\0", length, _checksum(payload), 0)
        self._map[start : start + 4] = _MARKER
        self.written = start + frame_size(length)
        self.appended += 1

    def forget_from(self, start: int, frames: int) -> None:
        """Take the last frames back, from an offset on: they are written elsewhere."""
        self._map[start : self.written] = bytes(self.written - start)
        self.written = start
        self.appended -= frames

    @property
    def delivered(self) -> int:
        """Offset up to which everything was delivered, as the header says."""
        (offset,) = _OFFSET.unpack_from(self._map, 8)
        return min(max(int(offset), HEADER_BYTES), self.size)

    def set_delivered(self, offset: int) -> None:
        """Note that everything before ``offset`` was delivered."""
        _OFFSET.pack_into(self._map, 8, offset)

    def frames(self, start: int, end: int | None = None) -> Iterator[Frame | int]:
        """The whole frames from an offset on; a stretch of damage is given as the number of its bytes."""
        end = self.written if end is None else end
        at = start
        while at + FRAME_BYTES <= end:
            frame = self._frame_at(at, end)
            if frame is not None:
                yield frame
                at = frame.end
                continue
            following = self._next_whole(at + 8, end)
            last = following if following is not None else self._last_trace(at, end)
            if last > at:
                yield last - at
            if following is None:
                return
            at = following

    def _frame_at(self, at: int, end: int) -> Frame | None:
        marker, length, crc, zero = _FRAME.unpack_from(self._map, at)
        if marker != _MARKER or zero or at + frame_size(length) > end:
            return None
        payload = self._map[at + FRAME_BYTES : at + FRAME_BYTES + length]
        return Frame(payload, at, at + frame_size(length)) if _checksum(payload) == crc else None

    def _next_whole(self, at: int, end: int) -> int | None:
        while (found := self._map.find(_MARKER, at, end)) >= 0:
            if found % 8 == 0 and found + FRAME_BYTES <= end and self._frame_at(found, end) is not None:
                return found
            at = found + 1
        return None

    def _last_trace(self, at: int, end: int) -> int:
        """Where the last byte that is not zero stands, after ``at``; ``at`` itself when there is none."""
        rest = self._map[at:end].rstrip(b"\0")
        return at + len(rest)

    def sync(self) -> None:
        """Bring everything written to the device. Raises OSError; after that the file is not to be trusted again."""
        getattr(os, "fdatasync", os.fsync)(self.descriptor)

    def close(self) -> None:
        """Unmap and close; the file stays."""
        self._map.close()
        os.close(self.descriptor)

    def remove(self) -> None:
        """Unmap, close and delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    zeros = bytes(1024 * 1024)  # no such call on macOS: writing is the only way to be sure of the room
    for start in range(0, size, len(zeros)):
        os.pwrite(descriptor, zeros[: size - start], start)
