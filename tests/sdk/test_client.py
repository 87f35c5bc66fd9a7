"""Capture: everything is somewhere and is counted, and the application never notices."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from tests import strategies
from tests.sdk.support import MESSAGES, Failing, Hung, Memory, Picky, settings
from tracemill.core import codec
from tracemill.core.ids import new_id
from tracemill.core.records import AnyRecord, Interaction
from tracemill.sdk import background
from tracemill.sdk.client import Client
from tracemill.sdk.spool import DEAD, SPOOL, drain, inspect, read_summary

BIG = "x" * 200_000


def balanced(client: Client) -> bool:
    """Whether every captured record is accounted for."""
    return client.counts().unaccounted == 0


def test_what_is_captured_is_delivered_and_counted(tmp_path: Path) -> None:
    memory = Memory()
    client = Client(tmp_path, settings(tmp_path), lambda: memory)
    ids = [client.capture(Interaction, {"messages": MESSAGES, "turn": turn}) for turn in range(500)]
    assert client.deliver(20)
    assert list(memory.records) == ids
    assert [record.sequence for record in memory.records.values()] == list(range(500))
    assert {record.producer for record in memory.records.values()} == {client.producer}
    counts = client.counts()
    assert (counts.captured, counts.stored, counts.dropped) == (500, 500, {})
    assert balanced(client)
    client.close()
    assert memory.closed
    assert read_summary(tmp_path).counts.stored == 500
    assert [path.name for path in (tmp_path / SPOOL).iterdir() if path.is_dir()] == []


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(strategies.records)
def test_any_record_comes_through_unchanged(tmp_path: Path, record: AnyRecord) -> None:
    memory = Memory()
    folder = tmp_path / new_id()
    client = Client(folder, settings(folder, spool_segment_bytes=65536), lambda: memory)
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    assert client.capture(type(record), fields) == record.id
    assert client.deliver(20)
    client.close()
    (found,) = memory.records.values()
    assert found == record


def test_large_records_are_handed_over_and_do_not_change_with_the_host(tmp_path: Path) -> None:
    memory = Memory()
    client = Client(tmp_path, settings(tmp_path), lambda: memory)
    history: list[Any] = [{"role": "user", "content": BIG}]
    identity = client.capture(Interaction, {"messages": history})
    history.append({"role": "assistant", "content": "later"})
    history[0]["content"] = "changed"
    assert client.deliver(20)
    client.close()
    found = memory.records[identity]
    assert isinstance(found, Interaction)
    assert found.messages == [{"role": "user", "content": BIG}]


def test_records_larger_than_a_segment_are_kept(tmp_path: Path) -> None:
    memory = Memory()
    client = Client(tmp_path, settings(tmp_path, spool_segment_bytes=65536), lambda: memory)
    for _ in range(5):
        client.capture(Interaction, {"messages": [{"role": "user", "content": BIG}]})
    assert client.deliver(20)
    client.close()
    assert len(memory.records) == 5


def test_what_the_host_hands_over_may_be_anything(tmp_path: Path) -> None:
    memory = Memory()
    client = Client(tmp_path, settings(tmp_path, raise_errors="never"), lambda: memory)
    cycle: list[Any] = []
    cycle.append(cycle)
    odd = [object(), {1, 2}, float("nan"), 10**5000, "\ud800", cycle, b"x", (n for n in [1]), {"k": object()}]
    for value in odd:
        client.capture(Interaction, {"messages": MESSAGES, "extra": {"value": value}})
    client.capture(Interaction, {"messages": MESSAGES, "no such field": 1})
    client.capture(Interaction, {"messages": 7, "duration_ms": "soon"})
    assert client.deliver(20) or client.counts().dead_lettered
    counts = client.counts()
    client.close()
    assert len(memory.records) >= len(odd)
    assert counts.dropped.get("internal_error") == 1
    assert counts.unaccounted == 0


def test_under_pytest_our_errors_are_raised(tmp_path: Path) -> None:
    client = Client(tmp_path, settings(tmp_path))
    with pytest.raises(TypeError):
        client.capture(Interaction, {"no such field": 1})
    with pytest.raises(TypeError, match="duration_ms"):
        client.capture(Interaction, {"duration_ms": "soon"})
    client.close()


def test_switched_off_it_does_nothing(tmp_path: Path) -> None:
    client = Client(tmp_path / "none", settings(tmp_path / "none", enabled=False))
    assert client.capture(Interaction, {"messages": MESSAGES}) == ""
    assert not (tmp_path / "none").exists()
    client.close()


def test_a_hung_delivery_holds_up_nobody(tmp_path: Path) -> None:
    hung, before = Hung(), threading.active_count()
    client = Client(tmp_path, settings(tmp_path), lambda: hung)
    client.capture(Interaction, {"messages": MESSAGES})
    assert hung.entered.wait(10)
    for _ in range(2000):
        client.capture(Interaction, {"messages": MESSAGES})
    assert client.flush(10)
    assert client.counts().spooled == 2001
    assert threading.active_count() <= before + 2
    hung.release.set()
    assert client.deliver(20)
    client.close()
    assert len(hung.records) == 2001


def test_a_failing_delivery_is_tried_again(tmp_path: Path) -> None:
    failing = Failing(3)
    client = Client(tmp_path, settings(tmp_path), lambda: failing)
    for _ in range(20):
        client.capture(Interaction, {"messages": MESSAGES})
    assert client.deliver(30)
    client.close()
    assert len(failing.records) == 20


def test_one_poisoned_record_is_buried_and_its_mates_are_delivered(tmp_path: Path) -> None:
    picky = Picky()
    client = Client(tmp_path, settings(tmp_path), lambda: picky)
    for number in range(40):
        client.capture(Interaction, {"messages": MESSAGES, "intent": "poison" if number == 17 else None})
    assert client.deliver(20)
    counts = client.counts()
    client.close()
    assert (counts.stored, counts.dead_lettered, counts.unaccounted) == (39, 1, 0)
    (letter,) = (tmp_path / SPOOL / DEAD).glob("*.json")
    assert "I will not have this" in letter.read_text()
    assert inspect(tmp_path).dead_letters == 1


def test_the_queue_is_bounded_and_losses_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    write_queue = background.write_queue
    monkeypatch.setattr(background, "write_queue", lambda state: gate.wait(30) and write_queue(state))
    client = Client(tmp_path, settings(tmp_path, queue_max_records=5, queue_max_bytes=10_000_000))
    for _ in range(50):
        client.capture(Interaction, {"messages": [{"role": "user", "content": BIG}]})
    counts = client.counts()
    assert counts.captured == 50
    assert counts.dropped["queue_full"] >= 40
    assert counts.unaccounted == 0
    gate.set()
    assert client.flush(20)
    assert balanced(client)
    client.close()


def test_the_spool_is_bounded_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    hung = Hung()
    client = Client(
        tmp_path,
        settings(tmp_path, spool_max_bytes=1024 * 1024, spool_segment_bytes=65536, queue_max_records=10),
        lambda: hung,
    )
    for _ in range(600):
        client.capture(Interaction, {"messages": [{"role": "user", "content": "x" * 5000}]})
        client.flush(0.01)
    counts = client.counts()
    used = sum(path.stat().st_size for path in (tmp_path / SPOOL).rglob("*.seg"))
    assert used <= 1024 * 1024
    assert counts.dropped.get("spool_full", 0) > 100
    assert counts.unaccounted == 0
    hung.release.set()
    assert client.deliver(30)
    before = client.counts().stored
    client.capture(Interaction, {"messages": MESSAGES})
    assert client.deliver(30)
    assert client.counts().stored == before + 1
    client.close()


def test_a_record_that_is_too_large_is_dropped_by_name(tmp_path: Path) -> None:
    client = Client(tmp_path, settings(tmp_path, record_max_bytes=100_000))
    client.capture(Interaction, {"messages": [{"role": "user", "content": BIG}]})
    assert client.flush(10)
    client.close()
    assert read_summary(tmp_path).counts.dropped == {"too_large": 1}


@pytest.mark.parametrize("durability", ["process", "power"])
def test_flush_means_that_it_is_in_the_spool(tmp_path: Path, durability: str) -> None:
    client = Client(tmp_path, settings(tmp_path, durability=durability))
    for _ in range(10):
        client.capture(Interaction, {"messages": MESSAGES})
        client.capture(Interaction, {"messages": [{"role": "user", "content": BIG}]})
    assert client.flush(20)
    assert client.counts().spooled == 20
    if durability == "power":
        assert client._state is not None
        assert all(segment.synced == segment.appended for segment in client._state.segments)
    client.close()
    memory = Memory()
    drain(tmp_path, memory)
    assert len(memory.records) == 20


def test_after_a_failed_sync_the_records_are_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fdatasync

    def failing(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 1:
            raise OSError(errno.EIO, "device error")
        assert descriptor != synced[0], "the file whose sync failed was synced again"
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", failing)
    client = Client(tmp_path, settings(tmp_path, durability="power", sync_interval_ms=20))
    ids = {client.capture(Interaction, {"messages": MESSAGES}) for _ in range(10)}
    assert client.flush(20)
    assert len(synced) >= 2
    assert balanced(client)
    client.close()
    memory = Memory()
    drain(tmp_path, memory)
    assert set(memory.records) == ids


def test_a_workspace_that_cannot_be_written_costs_nothing_but_records(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    client = Client(blocked / "workspace", settings(blocked / "workspace"))
    assert client.capture(Interaction, {"messages": MESSAGES})
    assert not client.flush()
    counts = client.counts()
    assert (counts.captured, counts.queued, counts.unaccounted) == (1, 1, 0)
    client.close()
    counts = client.counts()
    assert (counts.captured, counts.dropped, counts.unaccounted) == (1, {"spool_error": 1}, 0)


def test_a_workspace_that_becomes_writable_gets_what_waited(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    client = Client(blocked, settings(blocked))
    identity = client.capture(Interaction, {"messages": MESSAGES})
    blocked.unlink()
    assert client.flush(20)
    client.close()
    memory = Memory()
    drain(blocked, memory)
    assert list(memory.records) == [identity]


def test_after_close_records_are_counted_as_dropped(tmp_path: Path) -> None:
    client = Client(tmp_path, settings(tmp_path))
    client.capture(Interaction, {"messages": MESSAGES})
    client.close()
    client.close()
    client.capture(Interaction, {"messages": MESSAGES})
    assert client.counts().dropped == {"closed": 1}


def test_threads_and_tasks_capture_together(tmp_path: Path) -> None:
    memory = Memory()
    client = Client(tmp_path, settings(tmp_path), lambda: memory)

    def work() -> None:
        for _ in range(400):
            client.capture(Interaction, {"messages": MESSAGES})

    async def tasks() -> None:
        async def one() -> None:
            for _ in range(50):
                client.capture(Interaction, {"messages": MESSAGES})
                await asyncio.sleep(0)

        await asyncio.gather(*(one() for _ in range(8)))

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    asyncio.run(tasks())
    for thread in threads:
        thread.join()
    assert client.deliver(30)
    assert balanced(client)
    client.close()
    assert sorted(record.sequence for record in memory.records.values()) == list(range(2400))


def test_a_signal_handler_may_capture(tmp_path: Path) -> None:
    memory = Memory()
    client = Client(tmp_path, settings(tmp_path), lambda: memory)
    in_handler: list[str] = []

    def handle(*_: Any) -> None:
        in_handler.append(client.capture(Interaction, {"messages": MESSAGES, "intent": "signal"}))
        signal.setitimer(signal.ITIMER_REAL, 0.002)  # again, but never within itself

    previous = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    try:
        own = [client.capture(Interaction, {"messages": MESSAGES}) for _ in range(15000)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert in_handler
    assert client.deliver(30)
    assert balanced(client)
    client.close()
    assert set(memory.records) == {*own, *in_handler}


def test_nothing_is_left_open_after_close(tmp_path: Path) -> None:
    def open_files() -> set[str]:
        return {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}

    before, threads = open_files(), threading.active_count()
    for number in range(3):
        client = Client(tmp_path / str(number), settings(tmp_path), Memory)
        client.capture(Interaction, {"messages": MESSAGES})
        client.deliver(10)
        client.close()
    assert {name for name in open_files() - before if "spool" in name} == set()
    assert threading.active_count() == threads


def test_an_error_of_the_codec_is_counted_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(tmp_path, settings(tmp_path, raise_errors="never"))
    deep: Any = {}
    for _ in range(150):
        deep = {"x": deep}
    client.capture(Interaction, {"extra": deep})
    client.flush(10)
    assert client.counts().captured == 1
    assert balanced(client)
    client.close()
    assert codec.MAX_DEPTH > 150
