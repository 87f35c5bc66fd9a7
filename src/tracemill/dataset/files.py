"""Files that are whole or absent: written beside their place, synced, renamed; and the lock of a folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from types import TracebackType
from typing import BinaryIO, Self

from tracemill.core.errors import DatasetError
from tracemill.core.examples import DatasetFile
from tracemill.core.ids import monotonic
from tracemill.core.owned import close_owned, open_owned

_BUFFER = 1024 * 1024


def sync_folder(path: Path) -> None:
    """Make names that were added to, renamed in or removed from a folder survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class WholeFile:
    """A file that appears under its name only when all of it is written and on the device.

    Use as a context manager: leaving it normally commits, leaving it with an exception removes the draft. Counts rows
    and bytes and takes the SHA-256 of what passes. Without ``sync`` the file may be lost with the power.

    Whoever opens it takes it over: one that was believed dead and comes back (a machine that stood still) writes into a
    file without a name, and its commit raises DatasetError.
    """

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        self.path = path
        self._sync = sync
        self.rows = 0
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._draft = path.with_name(f".{path.name}.draft")
        self._draft.unlink(missing_ok=True)
        self._file: BinaryIO = self._draft.open("xb", buffering=_BUFFER)

    def write_line(self, line: bytes) -> None:
        """Append one row and its newline. ``line`` holds no newline itself."""
        self.write(line + b"\n")
        self.rows += 1

    def write(self, data: bytes) -> None:
        """Append bytes that are no row."""
        self._file.write(data)
        self._digest.update(data)
        self.bytes += len(data)

    @property
    def closed(self) -> bool:
        """Whether it was committed or abandoned."""
        return self._file.closed

    def commit(self) -> None:
        """Put the file in its place. The folder itself is synced by the caller, once for all its files."""
        self._file.flush()
        if self._sync:
            os.fsync(self._file.fileno())
        ours = self._ours()
        self._file.close()
        if not ours:
            raise DatasetError(f"{self.path} is being written by another process", hint="Leave it to the other one.")
        self._draft.replace(self.path)

    def abandon(self) -> None:
        """Close and remove the draft."""
        ours = not self._file.closed and self._ours()
        self._file.close()
        if ours:
            self._draft.unlink(missing_ok=True)

    def _ours(self) -> bool:
        """Whether the draft is still the file that is open here."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._draft.stat())
        except FileNotFoundError:
            return False

    def describe(self) -> DatasetFile:
        """The file as a manifest lists it."""
        return DatasetFile(path=self.path.name, rows=self.rows, bytes=self.bytes, sha256=self._digest.hexdigest())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.abandon()


def write_whole(path: Path, data: bytes) -> DatasetFile:
    """Write a small file that is whole or absent, and describe it; ``rows`` are its newlines."""
    with WholeFile(path) as file:
        file.write(data)
        file.rows = data.count(b"\n")
    return file.describe()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_PAUSE = 0.005


@contextmanager
def locked(folder: Path, work: str, *, wait: float = 0.0) -> Iterator[int]:
    """Hold the lock of a folder while inside; a process that dies lets go of it.

    Raises DatasetError when another process still holds it after ``wait`` seconds. ``work`` says what is being done there.
    Gives the lock's descriptor: a process that inherits it holds the lock too, until it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = open_owned(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _taken(descriptor, wait):
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            raise DatasetError(
                f"{folder} is in use by another process ({holder or 'unknown'})",
                hint="Wait for it to end, then run the same command again.",
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}, {work}\n".encode(), 0)
        yield descriptor
    finally:
        close_owned(descriptor)  # lets go of the lock


def _taken(descriptor: int, wait: float) -> bool:
    ends = monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() >= ends:
                return False
            sleep(_PAUSE)
        else:
            return True
