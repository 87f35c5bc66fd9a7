"""One file of the spool: frames in a preallocated, memory-mapped file.

A frame is written by copying memory, so the caller of capture makes no system call and cannot be held up by a disk; and
since the mapping is shared with the kernel, what was copied survives a kill -9 of the process. Room is reserved before
the file is mapped, so that a full disk is an error where the segment is made and never a bus error where it is written.

Layout, in words of 8 bytes in the machine's own order (a spool stays where it is): a header of 64 bytes (magic, offset up
to which frames were delivered, that offset inverted), then frames: marker and length, CRC-32 of length and payload,
payload, padding to 8. The word with the marker is written last. Nothing read back is trusted: a length that does not fit
or a wrong CRC is damage, and the reader looks for the next whole frame. Reading goes through calls that return errors,
never through a mapping, where a bad sector would be a signal that ends the application.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tracemill.core.errors import SpoolError
from tracemill.core.owned import close_owned, open_owned, own, undivided

HEADER_BYTES = 64
FRAME_BYTES = 16
MARKER = int.from_bytes(b"\xf7TMF", "little")
"""The lower half of a frame's first word; its length is the upper half."""
LARGEST_FILE = 1024**3
"""Larger files are none of ours and are not read into memory."""
_MAGIC = b"TMSPOOL1"
_WORD_MASK = 2**64 - 1
_FRAME = struct.Struct("=QQ")
_MARK = struct.Struct("=QQ")
_MARKER_BYTES = MARKER.to_bytes(4, sys.byteorder)
_MARKER_AT = 0 if sys.byteorder == "little" else 4
_COPIED = 128 * 1024
_CRC_START = 0x9E3779B9
_CRC_PIECE = 4096  # zlib releases the interpreter lock above 5 KB, and getting it back can take 5 ms


def frame_size(length: int) -> int:
    """Bytes that a payload of this length takes in a segment."""
    return FRAME_BYTES + (length + 7 & -8)


def checksum(payload: bytes) -> int:
    """CRC-32 of a payload and its length."""
    crc = len(payload) ^ _CRC_START  # a wrong length is a wrong checksum, and nothing but zeros is no frame
    if len(payload) <= _CRC_PIECE:
        return zlib.crc32(payload, crc)
    view = memoryview(payload)
    for start in range(0, len(view), _CRC_PIECE):
        crc = zlib.crc32(view[start : start + _CRC_PIECE], crc)
    return crc


class Segment:
    """A segment being written. ``map``, ``words``, ``written`` and ``appended`` belong to whoever holds the lock of its
    :class:`~tracemill.sdk.background.State`, who may write frames without calling :meth:`append`.
    """

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self.size = size
        self.descriptor = descriptor
        self.map = mmap.mmap(descriptor, size)
        self.words = memoryview(self.map).cast("Q")
        self.is_open = True
        self.written = HEADER_BYTES
        self.appended = 0
        """Frames in it."""
        self.synced = 0
        """Frames that are on the device."""
        self.delivered = HEADER_BYTES
        """Offset up to which frames were delivered."""
        self.delivered_frames = 0
        self.epoch = 0
        """Changes when frames were taken back, which makes what a reader has read of it out of date."""
        self.tainted = False
        """A sync failed: the file is not to be trusted, and not to be synced, again."""
        self.removed = False
        own(self)

    @classmethod
    def create(cls, path: Path, size: int) -> Segment:
        """A new segment with its room reserved and its pages at hand. Raises OSError when there is no room."""
        size += -size % mmap.PAGESIZE
        descriptor = open_owned(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            _reserve(descriptor, size)
            with undivided():
                segment = cls(path, descriptor, size)
                _touch(segment.map)
        except BaseException:  # whatever it was, nothing half made stays behind
            close_owned(descriptor)
            path.unlink(missing_ok=True)
            raise
        segment.map[: len(_MAGIC)] = _MAGIC
        return segment

    def room(self, length: int) -> bool:
        """Whether a payload of this length still fits."""
        return self.written + frame_size(length) <= self.size

    def append(self, payload: bytes, crc: int | None = None) -> None:
        """Copy one frame in. The caller has asked :meth:`room`, and holds the lock if others write here too.

        Raises OSError, for large payloads only.
        """
        start, length = self.written, len(payload)
        if length > _COPIED:
            self._write_all(payload, start + FRAME_BYTES)
        else:
            self.map[start + FRAME_BYTES : start + FRAME_BYTES + length] = payload
        self.words[(start >> 3) + 1] = checksum(payload) if crc is None else crc
        self.words[start >> 3] = length << 32 | MARKER
        self.written = start + frame_size(length)
        self.appended += 1

    def _write_all(self, payload: bytes, at: int) -> None:
        """As copying, with the interpreter lock released: for payloads that take long."""
        left = memoryview(payload)
        while left:
            done = os.pwrite(self.descriptor, left, at)
            left, at = left[done:], at + done

    def frames(self) -> list[Frame]:
        """The whole frames written so far."""
        found = read_frames(self.map[: self.written], 0, HEADER_BYTES)
        return [frame for frame in found if isinstance(frame, Frame)]

    def forget_from(self, start: int, frames: int) -> None:
        """Take the last frames back, from an offset on: they are written elsewhere."""
        self.map[start : self.written] = bytes(self.written - start)
        self.written = start
        self.appended -= frames

    def sync(self) -> None:
        """Bring everything written to the device. Raises OSError; after that the file is not to be trusted again."""
        getattr(os, "fdatasync", os.fsync)(self.descriptor)

    def close(self) -> None:
        """Unmap and close; the file stays. Closing twice is fine."""
        with undivided():
            if self.is_open:
                self.is_open = False
                self.words.release()
                self.map.close()
                close_owned(self.descriptor)

    def remove(self) -> None:
        """Unmap, close and delete the file."""
        self.close()
        self.removed = True
        self.path.unlink(missing_ok=True)


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    zeros = bytes(1024 * 1024)  # no such call on macOS: writing is the only way to be sure of the room
    for start in range(0, size, len(zeros)):
        os.pwrite(descriptor, zeros[: size - start], start)


def _touch(mapping: mmap.mmap) -> None:
    """Have the kernel fill the pages: a first touch is a page fault, and in the application's thread it would hold up all
    its threads. Reading zeros into the mapping is a way to do it with the interpreter lock released.
    """
    try:
        zeros = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # a container without devices: the first touch costs a microsecond a page then
    try:
        with memoryview(mapping) as view:
            os.readv(zeros, [view])
    finally:
        os.close(zeros)


@dataclass(frozen=True, slots=True)
class Frame:
    """A payload with the offset of its frame and of what follows it."""

    payload: bytes
    start: int
    end: int


class SegmentReader:
    """Reads the frames of a segment file, whoever wrote it, and keeps the mark of how far it was delivered."""

    def __init__(self, path: Path, *, writable: bool = True) -> None:
        """Raises SpoolError when it is no segment (a damaged header alone does not make it one less), OSError when it
        cannot be read.
        """
        self.path = path
        self.descriptor = open_owned(path, os.O_RDWR if writable else os.O_RDONLY)
        try:
            self.size = os.fstat(self.descriptor).st_size
            header = os.pread(self.descriptor, HEADER_BYTES, 0)
            if not header.startswith(_MAGIC) and not self._has_frames():
                raise SpoolError(f"{path} is not a spool segment")
            self.delivered = self._mark_of(header)
        except BaseException:  # whatever it was, the file does not stay open
            close_owned(self.descriptor)
            raise

    def _has_frames(self) -> bool:
        return any(isinstance(found, Frame) for found in self.frames(HEADER_BYTES))

    def _mark_of(self, header: bytes) -> int:
        if len(header) < HEADER_BYTES:
            return HEADER_BYTES
        offset, inverted = _MARK.unpack_from(header, 8)
        sound = offset ^ inverted == _WORD_MASK and offset % 8 == 0 and HEADER_BYTES <= offset <= self.size
        return int(offset) if sound else HEADER_BYTES  # delivering again is harmless, skipping is not

    def set_delivered(self, offset: int) -> None:
        """Note that everything before ``offset`` was delivered. Raises OSError."""
        os.pwrite(self.descriptor, _MARK.pack(offset, offset ^ _WORD_MASK), 8)
        self.delivered = offset

    def overwrite(self, frame: Frame) -> None:
        """Put zeros in the place of a payload, on the device; the frame stays whole. Raises OSError."""
        blank = bytes(len(frame.payload))
        os.pwrite(self.descriptor, blank, frame.start + FRAME_BYTES)
        os.pwrite(self.descriptor, checksum(blank).to_bytes(8, sys.byteorder), frame.start + 8)
        os.fsync(self.descriptor)

    def frames(self, start: int, end: int | None = None) -> Iterator[Frame | int]:
        """The whole frames from an offset on; a stretch of damage is given as the number of its bytes.

        Raises OSError when the device does not give the file back, SpoolError when it is too large for a segment.
        """
        end = self.size if end is None else min(end, self.size)
        if end - start > LARGEST_FILE:
            raise SpoolError(f"{self.path} is too large for a spool segment ({self.size:,} bytes)")
        pieces = []
        at = start
        while at < end and (piece := os.pread(self.descriptor, end - at, at)):
            pieces.append(piece)
            at += len(piece)
        yield from read_frames(b"".join(pieces), start, 0)

    def close(self) -> None:
        """Close the file."""
        close_owned(self.descriptor)


def read_frames(data: bytes, offset: int, at: int) -> Iterator[Frame | int]:
    """The whole frames in some bytes of a segment, from ``at`` on; ``offset`` is where in the file the bytes begin."""
    end = len(data)
    while at + FRAME_BYTES <= end:
        frame = _frame_at(data, offset, at)
        if frame is not None:
            yield frame
            at = frame.end - offset
            continue
        following = _next_whole(data, offset, at + 8)
        last = following if following is not None else at + len(data[at:].rstrip(b"\0"))
        if last > at:
            yield last - at
        if following is None:
            return
        at = following


def _frame_at(data: bytes, offset: int, at: int) -> Frame | None:
    first, crc = _FRAME.unpack_from(data, at)
    length = first >> 32
    end = at + frame_size(length)
    if first & 0xFFFFFFFF != MARKER or end > len(data):
        return None
    payload = data[at + FRAME_BYTES : at + FRAME_BYTES + length]
    return Frame(payload, offset + at, offset + end) if checksum(payload) == crc else None


def _next_whole(data: bytes, offset: int, at: int) -> int | None:
    while (found := data.find(_MARKER_BYTES, at)) >= 0:
        start = found - _MARKER_AT
        if start % 8 == 0 and start + FRAME_BYTES <= len(data) and _frame_at(data, offset, start) is not None:
            return start
        at = found + 1
    return None
