"""Delivery over HTTP, to servers that behave and to servers that do not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.faulty_server import (
    Behaviour,
    FaultyServer,
    answers,
    drips,
    floods,
    good,
    hangs,
    loses_the_answer,
    reply,
    resets,
)
from tracemill import DataCollector
from tracemill.core.codec import encode
from tracemill.core.errors import DeliveryError, SettingError
from tracemill.core.ids import new_id, now
from tracemill.core.records import SCHEMA_VERSION, Interaction
from tracemill.core.settings import load_settings
from tracemill.sdk.http import HttpDelivery, retry_after


def items(number: int, size: int = 10) -> list[bytes]:
    base: dict[str, Any] = {"time": now(), "schema_version": SCHEMA_VERSION, "producer": "t", "sequence": 0}
    return [encode(Interaction(id=new_id(), **base, intent="x" * size)) for _ in range(number)]


made: list[HttpDelivery] = []


def delivery_to(url: str, **settings: Any) -> HttpDelivery:
    made.append(HttpDelivery(load_settings({"endpoint": url, "http_timeout_seconds": 0.3, **settings}, environment={})))
    return made[-1]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while made:
        made.pop().close()


@contextmanager
def collecting(tmp_path: Path, server: FaultyServer, **settings: Any) -> Iterator[DataCollector]:
    values = {"endpoint": server.url, "http_timeout_seconds": 0.5, "delivery_interval_ms": 20, "api_key": "tm_key"}
    collector = DataCollector(tmp_path / "w", **{**values, **settings})
    try:
        yield collector
    finally:
        collector.close(5)


def test_a_batch_is_sent_as_it_lies_in_the_spool() -> None:
    with FaultyServer(good) as server:
        delivery = delivery_to(server.url, api_key="tm_key")
        batch = items(3)
        assert delivery.deliver(batch).stored == 3
        assert delivery.deliver(batch).stored == 3  # duplicates are stored, too
        delivery.close()
    assert len(server.stored) == 3
    assert server.headers[0]["authorization"] == "Bearer tm_key"
    assert server.headers[0]["content-type"] == "application/vnd.tracemill.records"


def test_one_connection_serves_many_batches_and_is_opened_again() -> None:
    with FaultyServer(good, good, resets, good) as server:
        delivery = delivery_to(server.url)
        for _ in range(3):
            assert delivery.deliver(items(2)).stored == 2
        delivery.close()
    assert len(server.stored) == 6
    assert len(server._open) == 2


@pytest.mark.parametrize(
    "behaviour",
    [
        resets,
        hangs,
        drips,
        floods,
        answers(500),
        answers(503),
        answers(401),
        answers(404),
        answers(301, location="http://127.0.0.1:1/"),
        answers(200, b"not json"),
        answers(200, b"[]"),
        answers(200, b'{"stored": 1}'),
        answers(200, b'{"stored": -1, "duplicates": 3}'),
        answers(200, b'{"stored":' + b"[" * 100_000),
        answers(204, b""),
    ],
    ids=lambda value: getattr(value, "__name__", "x"),
)
def test_whatever_is_no_clear_yes_keeps_the_batch(behaviour: Behaviour) -> None:
    with FaultyServer(behaviour) as server:
        delivery = delivery_to(server.url)
        with pytest.raises(DeliveryError) as raised:
            delivery.deliver(items(2))
        assert raised.value.retry
        delivery.close()


def test_nobody_there_keeps_the_batch() -> None:
    with pytest.raises(DeliveryError, match="cannot be reached"):
        delivery_to("http://127.0.0.1:9").deliver(items(1))


def test_a_redirect_is_not_followed_and_the_key_goes_nowhere() -> None:
    with FaultyServer(good) as elsewhere, FaultyServer(answers(307, location=elsewhere.url)) as server:
        with pytest.raises(DeliveryError) as raised:
            delivery_to(server.url, api_key="tm_key").deliver(items(1))
        assert "redirects are not followed" in raised.value.hint
    assert elsewhere.headers == []


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7), ("0", 0), ("99999999999", 300), ("soon", 0), (None, 0), ("-1", 0), ("", 0)]
)
def test_retry_after_is_read_with_care(value: str | None, seconds: float) -> None:
    assert retry_after(value) == seconds


def test_retry_after_may_be_a_date() -> None:
    assert retry_after("Wed, 01 Jan 2120 00:00:00 GMT") == 300
    assert retry_after("Wed, 01 Jan 2020 00:00:00 GMT") == 0


@pytest.mark.parametrize(
    "endpoint",
    ["ftp://x", "x", "http://", "https://user:pw@x", "http://x:99999", "https://x/?q=1", "http://[::1", "file:///etc"],
)
def test_an_endpoint_that_is_none_is_a_setting_error(endpoint: str) -> None:
    with pytest.raises(SettingError, match="endpoint"):
        delivery_to(endpoint)


def test_a_key_goes_over_no_open_line(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="unencrypted"):
        DataCollector(tmp_path, endpoint="http://tracemill.example", api_key="tm_key")
    delivery_to("http://127.0.0.1:1", api_key="tm_key")
    delivery_to("https://tracemill.example", api_key="tm_key")
    delivery_to("http://tracemill.example")


def test_too_much_at_once_is_halved(tmp_path: Path) -> None:
    def small_only(server: FaultyServer, connection: Any, headers: Any, records: list[Any]) -> None:
        if len(records) > 3:
            reply(connection, 413)
        else:
            good(server, connection, headers, records)

    with FaultyServer(small_only) as server, collecting(tmp_path, server) as collector:
        for number in range(20):
            collector.log_conversation(f"q{number}", "a")
        assert collector.deliver(20)
        assert len(server.stored) == 20
        counts = collector.counts()
    assert (counts.stored, counts.dead_lettered, counts.unaccounted) == (20, 0, 0)


def test_what_can_never_be_taken_is_set_aside_alone(tmp_path: Path) -> None:
    def no_poison(server: FaultyServer, connection: Any, headers: Any, records: list[Any]) -> None:
        if any(record.get("intent") == "poison" for record in records):
            reply(connection, 422)
        else:
            good(server, connection, headers, records)

    with FaultyServer(no_poison) as server, collecting(tmp_path, server) as collector:
        for number in range(10):
            collector.log_conversation("q", "a", intent="poison" if number == 4 else "fine")
        assert collector.deliver(20)
        counts = collector.counts()
    assert (len(server.stored), counts.stored, counts.dead_lettered) == (9, 9, 1)
    (letter,) = (tmp_path / "w" / "spool" / "dead").glob("*.json")
    assert json.loads(letter.read_text())["reason"] == "refused"


def test_what_the_server_refuses_is_counted(tmp_path: Path) -> None:
    def refuses_one(server: FaultyServer, connection: Any, _headers: Any, records: list[Any]) -> None:
        answer = server.keep(records[1:])
        answer["refused"] = [{"index": 0, "id": None, "reason": "conflict", "message": "m"}]
        reply(connection, 200, json.dumps(answer).encode())

    with FaultyServer(refuses_one) as server:
        result = delivery_to(server.url).deliver(items(3))
    assert (result.stored, result.dead_lettered) == (2, 1)


@pytest.mark.parametrize("fault", [resets, loses_the_answer, hangs, answers(500), answers(429, retry_after="0")])
def test_after_a_fault_everything_is_there_once(tmp_path: Path, fault: Behaviour) -> None:
    with FaultyServer(fault, fault, good) as server, collecting(tmp_path, server) as collector:
        sent = {collector.log_conversation(f"q{number}", "a") for number in range(5)}
        assert collector.deliver(30)
        counts = collector.counts()
    assert server.stored.keys() == sent
    assert (counts.stored, counts.dropped, counts.unaccounted) == (5, {}, 0)


def test_a_wrong_key_loses_nothing(tmp_path: Path) -> None:
    with FaultyServer(answers(401)) as server:
        with collecting(tmp_path, server) as collector:
            sent = collector.log_conversation("q", "a")
            assert not collector.deliver(0.5)
        server.behaviours[:] = [good]
        with collecting(tmp_path, server, api_key="tm_right") as collector:
            collector.log_conversation("next", "a")
            ends = threading.Event()
            for _ in range(400):
                if sent in server.stored:
                    break
                ends.wait(0.05)
        assert sent in server.stored


def test_capturing_never_touches_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()
    deliver = HttpDelivery.deliver

    def noted(self: HttpDelivery, batch: Any) -> Any:
        threads.add(threading.current_thread().name)
        return deliver(self, batch)

    monkeypatch.setattr(HttpDelivery, "deliver", noted)
    with FaultyServer(good) as server, collecting(tmp_path, server) as collector:
        collector.log_conversation("q", "a")
        assert collector.deliver(10)
    assert threads == {"tracemill-deliverer"}


def test_reading_back_says_where_to_read(tmp_path: Path) -> None:
    with FaultyServer(good) as server, collecting(tmp_path, server) as collector:
        with pytest.raises(SettingError, match="server"):
            collector.get_training_data()
        with pytest.raises(SettingError, match="server"):
            collector.get_statistics()


APPLICATION = """
import sys, time
from tracemill import get_data_collector
collector = get_data_collector()
for number in range(200):
    print(collector.log_conversation(f"q{number}", "a"), flush=True)
collector.flush()
print("captured", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_had_not_sent_the_next_one_sends(tmp_path: Path) -> None:
    environment = {**os.environ, "TRACEMILL_WORKSPACE": str(tmp_path / "w"), "TRACEMILL_HTTP_TIMEOUT_SECONDS": "1"}
    with FaultyServer(answers(503)) as server:
        environment["TRACEMILL_ENDPOINT"] = server.url
        process = subprocess.Popen(
            [sys.executable, "-c", APPLICATION], stdout=subprocess.PIPE, env=environment, text=True
        )
        assert process.stdout is not None
        sent = set()
        for line in process.stdout:
            if line.strip() == "captured":
                break
            sent.add(line.strip())
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        server.behaviours[:] = [good]
        done = subprocess.run(
            [sys.executable, "-m", "tracemill", "deliver"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert server.stored.keys() == sent
    assert len(sent) == 200
