"""Delivery: retried, never for the sake of one record given up, never waited for by others."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.sdk.support import MESSAGES, Hung, Memory, open_files, settings
from tracemill.core import codec
from tracemill.core.records import Interaction
from tracemill.sdk import deliverer
from tracemill.sdk.client import Client
from tracemill.sdk.delivery import Delivered
from tracemill.sdk.segment import HEADER_BYTES
from tracemill.sdk.spool import DEAD, SPOOL, bury, drain, inspect, read_summary


def eventually(condition: Callable[[], bool]) -> bool:
    limit = time.monotonic() + 30
    while not condition() and time.monotonic() < limit:
        time.sleep(0.01)
    return condition()


def letters(workspace: Path) -> list[Path]:
    return sorted((workspace / SPOOL / DEAD).glob("*.json"))


class Surprising(Memory):
    """Fails without a stated reason whenever a record of this intent is in the batch."""

    def __init__(self, intent: str) -> None:
        super().__init__()
        self.intent: str | None = intent

    def deliver(self, items: Sequence[bytes]) -> Delivered:
        if self.intent and any(self.intent in (getattr(codec.decode(item), "intent", "") or "") for item in items):
            raise ZeroDivisionError("the text of a record")
        return super().deliver(items)


def test_a_record_that_breaks_the_delivery_is_set_aside_after_a_while(tmp_path: Path) -> None:
    store = Surprising("poison")
    client = Client(tmp_path, settings(tmp_path), lambda: store)
    ids = [
        client.capture(Interaction, {"messages": MESSAGES, "intent": "poison" if number == 5 else "fine"})
        for number in range(20)
    ]
    assert client.deliver(60)
    counts = client.counts()
    client.close()
    assert (counts.stored, counts.dead_lettered, counts.unaccounted) == (19, 1, 0)
    assert set(store.records) == {*ids} - {ids[5]}
    (letter,) = letters(tmp_path)
    assert json.loads(letter.read_text())["reason"] == "failed"


def test_a_store_that_breaks_at_everything_gets_the_records_when_it_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliverer, "_PATIENCE", 2)
    monkeypatch.setattr(deliverer, "_LONGEST_BACKOFF", 0.01)
    store = Surprising("fine")
    client = Client(tmp_path, settings(tmp_path), lambda: store)
    for _ in range(10):
        client.capture(Interaction, {"messages": MESSAGES, "intent": "fine"})
    assert not client.deliver(1)
    assert letters(tmp_path) == []
    store.intent = None
    assert client.deliver(60)
    client.close()
    assert len(store.records) == 10


def test_a_store_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    store, attempts = Memory(), []

    def opening() -> Memory:
        attempts.append(1)
        if len(attempts) < 4:
            raise OSError("no store yet")
        return store

    client = Client(tmp_path, settings(tmp_path), opening)
    client.capture(Interaction, {"messages": MESSAGES})
    assert client.deliver(60)
    client.close()
    assert len(store.records) == 1


def test_the_log_says_once_that_delivery_fails_and_once_that_it_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "tracemill")
    store = Surprising("fine")
    client = Client(tmp_path, settings(tmp_path), lambda: store)
    for _ in range(3):
        client.capture(Interaction, {"messages": MESSAGES, "intent": "fine"})
    assert not client.deliver(0.3)
    store.intent = None
    assert client.deliver(60)
    client.close()
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "cannot deliver" in line]) == 1
    assert len([line for line in said if "delivers again" in line]) == 1
    assert not any("the text of a record" in line for line in said)


def test_deliver_returns_while_others_go_on_capturing(tmp_path: Path) -> None:
    store = Memory()
    client = Client(tmp_path, settings(tmp_path), lambda: store)
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            client.capture(Interaction, {"messages": MESSAGES})
            time.sleep(0.0005)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        mine = client.capture(Interaction, {"messages": MESSAGES})
        assert client.deliver(30)
        assert mine in store.records
    finally:
        stop.set()
        thread.join()
        client.close()


def test_a_spool_that_waits_for_a_hung_store_keeps_few_files_open(tmp_path: Path) -> None:
    hung = Hung()
    client = Client(tmp_path, settings(tmp_path, spool_segment_bytes=65536), lambda: hung)
    for number in range(400):
        size = 100_000 if number % 20 == 0 else 5_000
        client.capture(Interaction, {"messages": [{"role": "user", "content": "x" * size}]})
        if number % 20 == 0:
            client.flush(5)
    assert client.flush(20)
    assert len(list((tmp_path / SPOOL).rglob("*.seg"))) > 30
    assert eventually(lambda: len([name for name in open_files() if str(tmp_path) in name]) < 20)
    hung.release.set()
    assert client.deliver(60)
    client.close()
    assert len(hung.records) == 400


def test_closing_does_not_wait_for_a_hung_store(tmp_path: Path) -> None:
    hung = Hung()
    client = Client(tmp_path, settings(tmp_path, exit_timeout_seconds=0.1), lambda: hung)
    identity = client.capture(Interaction, {"messages": MESSAGES})
    assert hung.entered.wait(20)
    client.close()
    assert (client.counts().spooled, client.counts().unaccounted) == (1, 0)
    later = Memory()
    drain(tmp_path, later)
    assert list(later.records) == [identity]
    hung.release.set()
    assert eventually(lambda: hung.closed)
    assert read_summary(tmp_path).counts.stored == 1, "what hung returned late and was counted by nobody"


def test_a_damaged_stretch_in_the_middle_is_counted_and_passed(tmp_path: Path) -> None:
    client = Client(tmp_path, settings(tmp_path))
    ids = [client.capture(Interaction, {"messages": MESSAGES}) for _ in range(10)]
    client.close()
    (segment,) = (tmp_path / SPOOL).rglob("*.seg")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 0x10
    segment.write_bytes(content)
    assert any("damaged" in problem for problem in inspect(tmp_path).problems)
    store = Memory()
    drained = drain(tmp_path, store)
    counts = read_summary(tmp_path).counts
    assert len(store.records) == 9
    assert set(store.records) < set(ids)
    assert drained.damaged == 1
    assert (counts.captured, counts.stored, counts.dropped, counts.unaccounted) == (10, 9, {"damaged": 1}, 0)


@pytest.mark.parametrize("position", range(0, HEADER_BYTES, 3))
def test_a_damaged_header_costs_no_record(tmp_path: Path, position: int) -> None:
    client = Client(tmp_path, settings(tmp_path))
    ids = {client.capture(Interaction, {"messages": MESSAGES}) for _ in range(10)}
    client.close()
    (segment,) = (tmp_path / SPOOL).rglob("*.seg")
    content = bytearray(segment.read_bytes())
    content[position] ^= 0x41
    segment.write_bytes(content)
    store = Memory()
    drain(tmp_path, store)
    assert set(store.records) == ids


def test_a_device_that_does_not_give_a_segment_back_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(tmp_path, settings(tmp_path))
    ids = {client.capture(Interaction, {"messages": MESSAGES}) for _ in range(10)}
    client.close()

    def failing(*_: object) -> bytes:
        raise OSError(errno.EIO, "device error")

    store = Memory()
    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", failing)
        assert len(drain(tmp_path, store).skipped) == 1
    assert drain(tmp_path, store).skipped == []
    assert set(store.records) == ids


def test_the_same_dead_letter_twice_is_one(tmp_path: Path) -> None:
    for _ in range(2):
        bury(tmp_path, b"payload", "refused", "why", "producer")
    assert len(letters(tmp_path)) == 1
