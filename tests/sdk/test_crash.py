"""What the world does: processes are killed, forked, run twice over one spool, and disks fill up."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.sdk.support import MESSAGES, Memory, settings
from tracemill.core.errors import DeliveryError
from tracemill.core.records import Interaction
from tracemill.sdk.client import Client
from tracemill.sdk.delivery import Delivered
from tracemill.sdk.spool import SPOOL, drain, inspect, read_summary

WRITER = """
import sys
from pathlib import Path
from tracemill.core.records import Interaction
from tracemill.core.settings import load_settings
from tracemill.sdk.client import Client

path = Path(sys.argv[1])
client = Client(path, load_settings({"workspace": str(path), "spool_segment_bytes": 1048576}, environment={}))
print("ready", flush=True)
number = 0
while True:
    number += 1
    large = number % 50 == 0
    text = "x" * (100_000 if large else 300)
    identity = client.capture(Interaction, {"messages": [{"role": "user", "content": text}], "turn": number})
    if large:
        client.flush()
    sys.stdout.write(identity + "\\n")
    sys.stdout.flush()
"""


def killed_writer(path: Path, seconds: float) -> set[str]:
    """Run a writer, kill it without warning after a while, and give the ids it had acknowledged."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    lines = process.stdout.read().splitlines()
    process.stdout.close()
    process.wait()
    return {line for line in lines if len(line) == 36}


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    for attempt in range(8):
        acknowledged |= killed_writer(tmp_path, 0.013 * attempt**2)
    memory = Memory()
    drained = drain(tmp_path, memory)
    assert len(acknowledged) > 100
    assert acknowledged - set(memory.records) == set()
    assert memory.taken == len(memory.records), "a record was delivered twice"
    assert drained.producers == 8
    assert drained.live == 0
    counts = read_summary(tmp_path).counts
    assert counts.stored == len(memory.records)
    assert 0 <= counts.unaccounted <= 8, "at most the one record a process was busy with when it was killed"
    assert list((tmp_path / SPOOL).glob("*/*.seg")) == []


def test_a_drain_that_is_cut_off_goes_on(tmp_path: Path) -> None:
    acknowledged = killed_writer(tmp_path, 0.3)

    class CutOff(Memory):
        def deliver(self, items):  # type: ignore[no-untyped-def]
            if self.taken >= 40:
                raise KeyboardInterrupt
            return super().deliver(items)

    first = CutOff()
    with pytest.raises(KeyboardInterrupt):
        drain(tmp_path, first, batch_records=20)
    second = Memory()
    drain(tmp_path, second)
    assert acknowledged <= set(first.records) | set(second.records)
    assert set(first.records) & set(second.records) == set()


def test_a_live_writer_keeps_its_folder(tmp_path: Path) -> None:
    client = Client(tmp_path, settings(tmp_path))
    client.capture(Interaction, {"messages": MESSAGES})
    memory = Memory()
    assert drain(tmp_path, memory).live == 1
    assert memory.records == {}
    (producer,) = inspect(tmp_path).producers
    assert (producer.live, producer.counts.spooled, producer.counts.unaccounted) == (True, 1, 0)
    client.close()
    assert drain(tmp_path, memory).stored == 1


def test_two_processes_share_a_spool_and_the_living_adopts_the_dead(tmp_path: Path) -> None:
    acknowledged = killed_writer(tmp_path, 0.1)
    memory = Memory()
    client = Client(tmp_path, settings(tmp_path), lambda: memory)
    own = client.capture(Interaction, {"messages": MESSAGES})
    limit = time.monotonic() + 20
    while not acknowledged <= set(memory.records) and time.monotonic() < limit:
        time.sleep(0.02)
    client.close()
    assert acknowledged | {own} <= set(memory.records)


def test_a_forked_child_is_a_producer_of_its_own(tmp_path: Path) -> None:
    parent = os.getpid()

    class ParentsOnly(Memory):
        def deliver(self, items: Sequence[bytes]) -> Delivered:
            if os.getpid() != parent:  # what a child puts into its copy of our memory is seen by nobody
                raise DeliveryError("this is the child")
            return super().deliver(items)

    memory = ParentsOnly()
    client = Client(tmp_path, settings(tmp_path), lambda: memory)
    client.capture(Interaction, {"messages": MESSAGES, "intent": "parent"})
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ids = [client.capture(Interaction, {"messages": MESSAGES, "intent": "child"}) for _ in range(20)]
            client.flush(10)
            os.write(writing, "\n".join(ids).encode())
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    os.close(writing)
    theirs = os.read(reading, 10_000).decode().split()
    os.close(reading)
    assert status == 0
    client.capture(Interaction, {"messages": MESSAGES, "intent": "parent"})
    assert client.deliver(20)
    client.close()
    drain(tmp_path, memory)
    found = list(memory.records.values())
    assert set(theirs) <= set(memory.records)
    assert len(found) == 22
    assert len({record.producer for record in found}) == 2
    counts = read_summary(tmp_path).counts
    assert (counts.captured, counts.unaccounted) == (22, 0)


def test_garbage_in_the_spool_is_reported_and_harms_nobody(tmp_path: Path) -> None:
    acknowledged = killed_writer(tmp_path, 0.1)
    (folder,) = [path for path in (tmp_path / SPOOL).iterdir() if path.is_dir()]
    (folder / "000000000000.seg").write_bytes(b"not a segment")
    (tmp_path / SPOOL / "a file").write_text("x")
    assert any("000000000000.seg" in problem for problem in inspect(tmp_path).problems)
    memory = Memory()
    drained = drain(tmp_path, memory)
    assert acknowledged <= set(memory.records)
    assert len(drained.skipped) == 1


FULL_DISK = """
import resource, sys
from pathlib import Path
from tracemill.core.records import Interaction
from tracemill.core.settings import load_settings
from tracemill.sdk.client import Client

path = Path(sys.argv[1])
settings = load_settings({"workspace": str(path), "queue_max_records": 5, "raise_errors": "never"}, environment={})
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
client = Client(path, settings)
for _ in range(60):
    client.capture(Interaction, {"messages": [{"role": "user", "content": "x" * 40_000}]})
    client.flush(0.05)
full = client.counts()
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
client.flush(10)
for _ in range(3):
    client.capture(Interaction, {"messages": [{"role": "user", "content": "after"}]})
assert client.flush(10)
after = client.counts()
kept = after.captured - sum(after.dropped.values())
print(full.captured, full.unaccounted, sum(full.dropped.values()), after.unaccounted, kept)
client.close()
"""


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY, reason="file size is limited"
)
def test_files_that_cannot_grow_cost_records_that_are_counted(tmp_path: Path) -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + FULL_DISK,
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    captured, unaccounted, _dropped, unaccounted_after, kept = map(int, found.stdout.split())
    assert (captured, unaccounted, unaccounted_after) == (60, 0, 0)
    memory = Memory()
    drain(tmp_path, memory)
    assert len(memory.records) == kept


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, where we may mount one."""
    point = tmp_path / "disk"
    point.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(point)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=False)


def test_a_full_disk_costs_records_that_are_counted_and_it_recovers(small_disk: Path) -> None:
    path = small_disk / "workspace"
    client = Client(path, settings(path, queue_max_records=5))
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 65536)
    for _ in range(600):
        client.capture(Interaction, {"messages": [{"role": "user", "content": "x" * 20_000}]})
        client.flush(0.005)
    full = client.counts()
    assert full.unaccounted == 0
    assert full.dropped.get("disk_full", 0) > 100
    filler.unlink(missing_ok=True)
    memory = Memory()
    limit = time.monotonic() + 20
    before = client.counts().spooled
    while client.counts().spooled == before and time.monotonic() < limit:
        client.capture(Interaction, {"messages": MESSAGES})
        client.flush(0.1)
    counts = client.counts()
    assert counts.spooled > before
    assert counts.unaccounted == 0
    client.close()
    drain(path, memory)
    assert len(memory.records) == counts.spooled
