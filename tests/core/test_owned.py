import fcntl
import mmap
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sdk.support import open_files
from tracemill.core import owned
from tracemill.core.owned import close_owned, locked, open_owned, own, undivided
from tracemill.sdk.ledger import Ledger
from tracemill.sdk.segment import Segment, SegmentReader
from tracemill.sdk.spool import ProducerFolder


def in_a_child(look: Callable[[], int]) -> int:
    """What a forked child found, as its exit status."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            status = look()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def held_below(path: Path) -> int:
    """How many descriptors of this process are of files below a folder."""
    return sum(str(path) in name for name in open_files())


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="there is no /proc here")


@needs_proc
def test_a_child_holds_nothing_that_was_opened_here(tmp_path: Path) -> None:
    folder = ProducerFolder.create(tmp_path, "p")
    segment = folder.new_segment(65536)
    reader = SegmentReader(segment.path)
    with locked(tmp_path / "lock"):
        here = held_below(tmp_path)
        found = in_a_child(lambda: held_below(tmp_path))
        after = held_below(tmp_path)
    for thing in (reader, segment, folder):
        thing.close()
    assert (here >= 5, found, after, held_below(tmp_path)) == (True, 0, here, 0)


def test_a_lock_ends_with_its_owner_while_a_child_lives(tmp_path: Path) -> None:
    """The child is forked while another thread holds the lock, and outlives the holder."""
    reading, writing = os.pipe()
    with locked(tmp_path / "lock"):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # until the parent is done
            os._exit(0)
    try:
        descriptor = os.open(tmp_path / "lock", os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)


def test_closing_again_in_a_child_does_not_close_what_it_opened_since(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("x")
    descriptor = open_owned(tmp_path / "lock", os.O_RDWR | os.O_CREAT)

    def look() -> int:
        mine = os.open(tmp_path / "own", os.O_RDONLY)  # likely the same number
        close_owned(descriptor)
        return 0 if os.read(mine, 1) == b"x" else 1

    assert in_a_child(look) == 0
    close_owned(descriptor)
    close_owned(descriptor)


@needs_proc
def test_a_fork_comes_between_no_two_steps_of_what_is_undivided(tmp_path: Path) -> None:
    begun = threading.Event()

    def make() -> None:
        with undivided():
            descriptor = os.open(tmp_path / "ledger", os.O_RDWR | os.O_CREAT)
            begun.set()
            time.sleep(0.02)  # the other thread forks now
            os.close(descriptor)
            ledgers.append(Ledger(tmp_path / "ledger"))

    ledgers: list[Ledger] = []
    thread = threading.Thread(target=make)
    thread.start()
    begun.wait()
    assert in_a_child(lambda: held_below(tmp_path)) == 0
    thread.join()
    ledgers[0].close()


def test_a_fork_does_not_wait_for_ever_and_its_child_can_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned, "_LONGEST_WAIT", 0.01)
    begun, done = threading.Event(), threading.Event()

    def hang() -> None:
        with undivided():
            begun.set()
            done.wait()

    thread = threading.Thread(target=hang)
    thread.start()
    begun.wait()

    def look() -> int:
        close_owned(open_owned(tmp_path / "lock", os.O_RDWR | os.O_CREAT))
        return 0

    assert in_a_child(look) == 0
    done.set()
    thread.join()
    close_owned(open_owned(tmp_path / "lock", os.O_RDWR | os.O_CREAT))


def test_a_mapping_that_another_thread_looks_into_does_not_keep_the_rest_open(tmp_path: Path) -> None:
    class Mapped:
        def __init__(self) -> None:
            self.map = mmap.mmap(-1, 4096)
            self.view = memoryview(self.map)
            own(self)

        def close(self) -> None:
            self.map.close()

    mapped, segment = Mapped(), Segment.create(tmp_path / "1.seg", 65536)
    assert in_a_child(lambda: int(segment.is_open)) == 0
    assert segment.is_open
    segment.close()
    mapped.view.release()
    mapped.close()


def test_a_fork_that_waited_in_vain_leaves_the_lock_to_the_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owned, "_LONGEST_WAIT", 0.01)
    files = owned._Owned()
    begun, done = threading.Event(), threading.Event()

    def fork() -> None:
        files.before_fork()
        begun.set()
        done.wait()
        files.after_in_parent()

    thread = threading.Thread(target=fork)
    thread.start()
    begun.wait()
    files.before_fork()
    files.after_in_parent()
    assert not files.lock.acquire(blocking=False)
    done.set()
    thread.join()
    assert files.lock.acquire(blocking=False)


class Locked:
    """Something that holds a lock and lets go of it when it is closed."""

    def __init__(self, path: Path) -> None:
        self.descriptor = open_owned(path, os.O_RDWR | os.O_CREAT)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        own(self)

    def close(self) -> None:
        close_owned(self.descriptor)


def test_a_child_lets_go_of_no_lock_of_its_parents(tmp_path: Path) -> None:
    held = Locked(tmp_path / "lock")
    assert in_a_child(lambda: 0) == 0
    other = os.open(tmp_path / "lock", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)
    held.close()
