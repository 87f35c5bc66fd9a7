"""The edges of capturing: signals, locks, threads that do not start, objects that never answer, losses that are told."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.support import MESSAGES, Hung, Memory, open_files, settings
from tracemill.core.errors import RecordError
from tracemill.core.ids import new_id, now
from tracemill.core.records import Interaction
from tracemill.sdk import client as client_module
from tracemill.sdk.client import Client
from tracemill.sdk.plain import Converter
from tracemill.sdk.spool import SPOOL, drain, read_summary

LARGE = [{"role": "user", "content": "x" * 50_000}]


@contextmanager
def alarms(handler: Any, seconds: float) -> Iterator[None]:
    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_a_signal_handler_may_hand_over_large_records_too(tmp_path: Path) -> None:
    memory = Memory()
    client = Client(tmp_path, settings(tmp_path), lambda: memory)
    number = 0

    def handle(*_: Any) -> None:
        nonlocal number
        number += 1
        client.capture(Interaction, {"messages": LARGE})

    with alarms(handle, 0.001):
        for _ in range(3000):
            client.capture(Interaction, {"messages": LARGE})
    assert number > 10
    assert client.deliver(60)
    counts = client.counts()
    client.close()
    assert counts.captured == 3000 + number
    assert counts.unaccounted == 0


def test_an_interrupt_out_of_a_capture_leaves_it_usable(tmp_path: Path) -> None:
    """Ctrl-C raises in the middle of whatever runs: the lock must not stay taken, whatever moment it hits."""
    memory = Memory()
    client = Client(tmp_path, settings(tmp_path), lambda: memory)
    interrupted = 0

    def handle(*_: Any) -> None:
        raise KeyboardInterrupt

    limit = time.monotonic() + 2
    previous = signal.signal(signal.SIGALRM, handle)
    try:
        while time.monotonic() < limit:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0007)
                for _ in range(1000):
                    client.capture(Interaction, {"messages": MESSAGES})
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert interrupted > 10
    identity = client.capture(Interaction, {"messages": MESSAGES})
    assert client.deliver(60)
    client.close()
    assert identity in memory.records


def test_a_capture_that_finds_the_lock_taken_does_not_wait_and_keeps_what_it_saw(tmp_path: Path) -> None:
    memory = Memory()
    client = Client(tmp_path, settings(tmp_path), lambda: memory)
    client.capture(Interaction, {"messages": MESSAGES})
    assert client.deliver(20)
    state = client._state
    assert state is not None
    history = [{"role": "user", "content": "before"}]
    with state.lock:  # as a signal handler would find it
        identity = client.capture(Interaction, {"messages": history})
        history[0]["content"] = "after"
    assert client.deliver(20)
    client.close()
    found = memory.records[identity]
    assert isinstance(found, Interaction)
    assert found.messages == [{"role": "user", "content": "before"}]
    assert client.counts().unaccounted == 0


def test_the_bytes_in_the_queue_are_counted_exactly_with_many_threads(tmp_path: Path) -> None:
    client = Client(tmp_path, settings(tmp_path))

    def work() -> None:
        for _ in range(100):
            client.capture(Interaction, {"messages": LARGE})
            client.capture(Interaction, {"messages": MESSAGES})

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.flush(60)
    state = client._state
    assert state is not None
    counts = client.counts()
    assert state.queued_bytes == 0
    assert (counts.captured, counts.spooled + sum(counts.dropped.values()), counts.unaccounted) == (1200, 1200, 0)
    client.close()


def test_when_no_thread_can_be_started_flushing_does_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    memory = Memory()
    client = Client(tmp_path, settings(tmp_path), lambda: memory)
    ids = [client.capture(Interaction, {"messages": messages}) for messages in (MESSAGES, LARGE, MESSAGES)]
    ids.append(client.capture(Interaction, {"messages": MESSAGES, "extra": {"odd": {1, 2}}}))
    assert client.flush(20)
    assert client.counts().spooled == 4
    ids.append(client.capture(Interaction, {"messages": LARGE}))
    client.close()
    drain(tmp_path, memory)
    assert set(memory.records) == set(ids)


def test_threads_start_with_the_first_capture(tmp_path: Path) -> None:
    before = threading.active_count()
    client = Client(tmp_path, settings(tmp_path), Memory)
    assert threading.active_count() == before
    client.capture(Interaction, {"messages": MESSAGES})
    assert threading.active_count() == before + 2
    client.close()
    assert threading.active_count() == before


def test_a_client_that_captured_nothing_leaves_nothing(tmp_path: Path) -> None:
    Client(tmp_path, settings(tmp_path)).close()
    assert [path.name for path in (tmp_path / SPOOL).iterdir() if path.is_dir()] == []
    assert read_summary(tmp_path).producers == 0


class Stubborn:
    """Its text never comes, as with a row of a database whose connection hangs."""

    asked = threading.Event()
    release = threading.Event()

    def __repr__(self) -> str:
        self.asked.set()
        self.release.wait(60)
        return "late"


def test_an_object_that_never_answers_costs_its_record_and_nothing_else(tmp_path: Path) -> None:
    client = Client(tmp_path, settings(tmp_path, raise_errors="never"))
    state = client._state
    assert state is not None
    state.converter = Converter(patience=0.05)
    for _ in range(5):
        client.capture(Interaction, {"messages": MESSAGES, "extra": {"odd": Stubborn()}})
        client.capture(Interaction, {"messages": LARGE})
    assert client.flush(30)
    counts = client.counts()
    client.close()
    Stubborn.release.set()
    assert Stubborn.asked.is_set()
    assert (counts.spooled, counts.dropped, counts.unaccounted) == (5, {"unencodable": 5}, 0)


def test_a_converter_asks_nobody_while_three_do_not_answer() -> None:
    converter = Converter(patience=0.01)
    record = Interaction(id=new_id(), time=now(), schema_version=1, producer="p", sequence=0, extra={"odd": Stubborn()})
    Stubborn.release.clear()
    for _ in range(3):
        with pytest.raises(RecordError, match="did not answer for"):
            converter.convert(record)
    with pytest.raises(RecordError, match="asked before"):
        converter.convert(record)
    Stubborn.release.set()
    for worker in converter._stuck:
        worker.thread.join(20)
    assert "late" in str(converter.convert(record).extra)
    converter.close()


def test_losses_are_told_when_they_begin_and_when_they_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "tracemill")
    hung = Hung()
    limits = {"spool_max_bytes": 1024 * 1024, "spool_segment_bytes": 65536, "queue_max_records": 3}
    client = Client(tmp_path, settings(tmp_path, **limits), lambda: hung)
    secret = "a-secret-of-the-host "
    for _ in range(400):
        client.capture(Interaction, {"messages": [{"role": "user", "content": secret * 300}]})
        client.flush(0.005)
    hung.release.set()
    limit = time.monotonic() + 30
    while not any("again" in record.getMessage() for record in caplog.records) and time.monotonic() < limit:
        client.capture(Interaction, {"messages": MESSAGES})
        time.sleep(0.02)
    client.close()
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "is losing records" in line]) == 1
    assert len([line for line in said if "keeps all records again" in line]) == 1
    assert not any(secret.strip() in line for line in said)


def test_an_error_of_ours_is_told_without_what_was_captured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "tracemill")
    client = Client(tmp_path, settings(tmp_path, raise_errors="never"))
    for _ in range(3):
        assert client.capture(Interaction, {"a secret name": 1}) == ""
    counts = client.counts()
    client.close()
    assert (counts.captured, counts.dropped, counts.unaccounted) == (3, {"internal_error": 3}, 0)
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "TypeError" in line]) == 1
    assert not any("secret" in line for line in said)


def test_counters_that_cannot_be_added_up_now_are_added_up_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "no space left on device")

    memory = Memory()
    client = Client(tmp_path, settings(tmp_path), lambda: memory)
    client.capture(Interaction, {"messages": MESSAGES})
    assert client.deliver(20)
    with monkeypatch.context() as patched:
        patched.setattr(client_module, "fold", full)
        client.close()
    assert read_summary(tmp_path).counts.stored == 0
    drain(tmp_path, memory)
    counts = read_summary(tmp_path).counts
    assert (counts.captured, counts.stored, counts.unaccounted) == (1, 1, 0)


def test_a_forked_child_holds_none_of_its_parents_files(tmp_path: Path) -> None:
    client = Client(tmp_path, settings(tmp_path), Memory)
    for messages in (MESSAGES, LARGE):
        client.capture(Interaction, {"messages": messages})
    assert client.flush(20)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            held = [name for name in open_files() if str(tmp_path) in name]
            os.write(2, "\n".join(held).encode())
            status = len(held)
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    client.capture(Interaction, {"messages": MESSAGES})
    assert client.deliver(20)
    assert client.counts().stored == 3
    client.close()
