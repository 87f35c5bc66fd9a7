"""What there is to ship: files that are finished, found without following a link.

A file counts as finished when its inode was not touched for the quiet time. The inode's change time is the machine's own
clock's, and no program can set it back, as it can a modification time. Whether the text is whole is asked when it is read.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from tracemill.core.ids import microseconds, new_id, now
from tracemill.ship.packing import name_problem

ENDINGS = (".json", ".jsonl")
_HELD = ".tracemill-ship-"
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it was seen: its name under the folder, and what changes when somebody touches it."""

    name: str
    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, name: str, status: os.stat_result) -> Found:
        """The file of a ``stat``. ``modified`` is in nanoseconds since the epoch."""
        return cls(name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Passed:
    """A file or folder that is not taken, and why in one stable word."""

    name: str
    reason: str


def scan(folder: Path, allowed_subdirs: Collection[str], quiet_seconds: float, never: Path) -> Iterator[Found | Passed]:
    """Everything under ``folder`` that ends in one of ENDINGS, in the order of names within each folder.

    With ``allowed_subdirs`` only what lies in folders of these names. Names that begin with a dot or end in ``.tmp`` are
    unfinished by everybody's habit. ``never`` (our own state) is not looked into. Reasons: ``symlink``, ``unsafe_name``,
    ``not_a_file``, ``not_quiet``, ``not_allowed_subdir``, ``unreadable``. Raises OSError when the folder itself cannot be read.
    """
    latest = microseconds(now()) * 1000 - int(quiet_seconds * 1e9)
    own = os.path.realpath(never)
    waiting = [""]
    while waiting:
        at = waiting.pop()
        try:
            with os.scandir(folder / at) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:
            if not at:
                raise
            yield Passed(at, "unreadable")
            continue
        below = []
        for entry in entries:
            name = f"{at}/{entry.name}" if at else entry.name
            if entry.name.startswith(".") or entry.name.endswith(".tmp"):
                continue
            if entry.is_dir(follow_symlinks=False):
                if os.path.realpath(entry.path) != own:
                    below.append(name)
            elif entry.name.endswith(ENDINGS) or entry.is_symlink():
                yield _judge(entry, name, allowed_subdirs, latest)
        waiting.extend(reversed(below))


def _judge(entry: os.DirEntry[str], name: str, allowed_subdirs: Collection[str], latest: int) -> Found | Passed:
    if entry.is_symlink():
        return Passed(name, "symlink")
    if allowed_subdirs and ("/" not in name or name.split("/", 1)[0] not in allowed_subdirs):
        return Passed(name, "not_allowed_subdir")
    if name_problem(name):
        return Passed(name, "unsafe_name")
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return Passed(name, "unreadable")
    if not stat.S_ISREG(status.st_mode):
        return Passed(name, "not_a_file")
    if status.st_ctime_ns > latest:
        return Passed(name, "not_quiet")
    return Found.of(name, status)


def open_same(folder: Path, found: Found) -> BufferedReader | None:
    """The file that was found, opened; None when another stands in its place or it has changed. Raises OSError."""
    try:
        descriptor = os.open(folder / found.name, _FLAGS)
    except FileNotFoundError:
        return None
    file = os.fdopen(descriptor, "rb")
    if not is_same(file, found):
        file.close()
        return None
    return file


def is_same(file: BufferedReader, found: Found) -> bool:
    """Whether an open file is still as it was found."""
    status = os.fstat(file.fileno())
    return stat.S_ISREG(status.st_mode) and Found.of(found.name, status) == found


def read_same(folder: Path, found: Found) -> bytes | None:
    """The bytes of a file that did not change while they were read; None when it did. Raises OSError."""
    file = open_same(folder, found)
    if file is None:
        return None
    with file:
        content = file.read(found.size + 1)
        return content if len(content) == found.size and is_same(file, found) else None


def remove_same(folder: Path, found: Found, sha256: str) -> bool:
    """Delete a file if it is still the one that was found, with the content of that SHA-256 (hex); say whether it was.

    It gets another name first, so that a file that takes its place meanwhile is never the one that goes. One that turns out
    to have changed gets its name back, or a new one beside it when somebody has taken that. Raises OSError.
    """
    path = folder / found.name
    file = open_same(folder, found)
    if file is None:
        return False
    with file:
        held = path.with_name(_HELD + path.name)
        _give_back(held, path)
        try:
            path.rename(held)
        except FileNotFoundError:
            return False
        with suppress(FileNotFoundError):
            status = held.lstat()
            same = (status.st_dev, status.st_ino) == (found.device, found.inode) and is_same(file, found)
            if same and hashlib.file_digest(file, "sha256").hexdigest() == sha256 and is_same(file, found):
                held.unlink()
                return True
    _give_back(held, path)
    return False


def _give_back(held: Path, path: Path) -> None:
    """A file its name, without taking it from another."""
    if not held.exists():
        return
    try:
        os.link(held, path)
    except FileExistsError:
        held.rename(path.with_name(f"{path.stem}.{new_id()}{path.suffix}"))
    else:
        held.unlink()


def give_back_all(folder: Path) -> None:
    """Their names back for files that a killed process held under another. Call it under the lock of the state."""
    for held in list(folder.rglob(f"{_HELD}*")):
        if held.is_file() and not held.is_symlink():
            _give_back(held, held.with_name(held.name.removeprefix(_HELD)))


def remove_empty_parents(folder: Path, name: str) -> None:
    """Remove the folders a file lay in, from the innermost outwards, while they are empty.

    ``folder`` and what lies directly in it stay: applications make those once, when they start.
    """
    for parent in (folder / name).parents:
        if folder in (parent, parent.parent):
            return
        try:
            parent.rmdir()
        except OSError:
            return
