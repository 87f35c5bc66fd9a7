"""Open files that are one process's alone: a forked child closes its copies before it does anything else.

A lock taken with ``flock`` belongs to the open file and not to a process. A child that is forked while another thread holds
one would keep it locked after its parent let go, for as long as the child lives; and a file that it keeps open takes room
on the disk after its parent removed it. Every lock of ours, and every file that a background thread opens in the
application's process, is opened here.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

_LONGEST_WAIT = 0.2
"""Seconds that a fork waits for a file that is being opened: longer only a disk takes that hangs, and the application must
not hang with it."""


class Closes(Protocol):
    """Something with files, which may be closed twice."""

    def close(self) -> None:
        """Close its files."""


class _Owned:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.descriptors: set[int] = set()
        self.held: weakref.WeakSet[Closes] = weakref.WeakSet()
        self._forking: Counter[int] = Counter()
        """How often each thread that forks now holds the lock for it: one that waited in vain does not."""

    def before_fork(self) -> None:
        if self.lock.acquire(timeout=_LONGEST_WAIT):
            self._forking[threading.get_ident()] += 1

    def after_in_parent(self) -> None:
        if self._forking[threading.get_ident()]:
            self._forking[threading.get_ident()] -= 1
            self.lock.release()

    def after_in_child(self) -> None:
        if self._forking[threading.get_ident()]:
            self.after_in_parent()
        else:
            self.lock = threading.RLock()  # the thread that holds it is not in this process
        self._forking.clear()
        for descriptor in self.descriptors:
            os.close(descriptor)  # and no more: a lock that was let go of here would be the parent's
        self.descriptors.clear()
        for thing in list(self.held):
            try:
                thing.close()
            except BufferError:
                continue  # a thread that is not in this process looks into its mapping, for ever; it holds no lock


_owned = _Owned()
os.register_at_fork(
    before=_owned.before_fork, after_in_parent=_owned.after_in_parent, after_in_child=_owned.after_in_child
)


def open_owned(path: Path, flags: int, mode: int = 0o600) -> int:
    """A descriptor that no forked child keeps; see :func:`os.open`. Raises OSError."""
    with _owned.lock:
        descriptor = os.open(path, flags | os.O_CLOEXEC, mode)
        _owned.descriptors.add(descriptor)
        return descriptor


def close_owned(descriptor: int) -> None:
    """Close what :func:`open_owned` gave, and let go of its lock. Does nothing in a child that has closed it already."""
    with _owned.lock:
        if descriptor in _owned.descriptors:
            _owned.descriptors.discard(descriptor)
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child forked this moment may not have closed its copy yet
            os.close(descriptor)


@contextmanager
def locked(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    """Open a file, wait until nobody else holds its lock, and hold it; gives the descriptor. Raises OSError."""
    descriptor = open_owned(path, flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        close_owned(descriptor)


def undivided() -> threading.RLock:
    """A lock for the moment in which something with files is made and handed to :func:`own`: no fork comes between."""
    return _owned.lock


def own(thing: Closes) -> None:
    """Have a forked child close this before anything else."""
    with _owned.lock:
        _owned.held.add(thing)
