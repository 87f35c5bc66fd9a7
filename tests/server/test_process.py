"""The server as a process: killed, told to stop, several over one database, held up by slow clients."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.test_records import as_array, interaction
from tracemill.core.settings import load_settings
from tracemill.store.tiered import open_store
from tracemill.workspace import Workspace

Start = Callable[..., tuple[subprocess.Popen[bytes], str]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `tracemill serve` as a process of its own and waits until it answers."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str, **environment: str) -> tuple[subprocess.Popen[bytes], str]:
        port = free_port()
        command = [sys.executable, "-m", "tracemill", "--workspace", str(tmp_path / "w"), "serve", "--port", str(port)]
        with (tmp_path / f"log-{port}").open("wb") as log:
            process = subprocess.Popen(
                [*command, *arguments], stdout=log, stderr=log, cwd=tmp_path, env={**os.environ, **environment}
            )
        running.append(process)
        url = f"http://127.0.0.1:{port}"
        ends = time.monotonic() + 30
        while time.monotonic() < ends and process.poll() is None:
            try:
                if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                    return process, url
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError((tmp_path / f"log-{port}").read_text())

    yield begin
    for process in running:
        process.kill()
        process.wait()


def send_until_it_ends(url: str, acknowledged: list[str], batch: int = 5) -> None:
    """Send batches and note those that were answered, until the server is gone. Each is a client of its own."""
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
        while True:
            sent = [interaction() for _ in range(batch)]
            try:
                reply = client.post("/v1/records", content=as_array(*sent))
            except httpx.TransportError:
                return
            if reply.status_code == 200 and reply.json()["stored"] == batch:
                acknowledged.extend(record.id for record in sent)


@pytest.mark.parametrize("after", [0.05, 0.2, 0.5])
def test_what_was_acknowledged_survives_kill_9(start: Start, tmp_path: Path, after: float) -> None:
    process, url = start()
    acknowledged: list[str] = []
    clients = [threading.Thread(target=send_until_it_ends, args=(url, acknowledged)) for _ in range(4)]
    for client in clients:
        client.start()
    while not acknowledged:
        time.sleep(0.01)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for client in clients:
        client.join(20)
    with Workspace.open(tmp_path / "w") as workspace:
        stored = [record.id for record in workspace.records()]
        assert workspace.store.verify() == []
    assert set(acknowledged) <= set(stored)
    assert len(stored) == len(set(stored))


def test_a_stopping_server_finishes_what_it_was_given(start: Start, tmp_path: Path) -> None:
    process, url = start()
    acknowledged: list[str] = []
    clients = [threading.Thread(target=send_until_it_ends, args=(url, acknowledged)) for _ in range(4)]
    for client in clients:
        client.start()
    while not acknowledged:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in (0, -signal.SIGTERM)
    for client in clients:
        client.join(20)
    with Workspace.open(tmp_path / "w") as workspace:
        assert set(acknowledged) <= {record.id for record in workspace.records()}
    log = "".join(path.read_text() for path in tmp_path.glob("log-*"))
    assert '"stopped"' in log
    assert "Traceback" not in log


def test_several_servers_over_one_database_store_each_record_once(start: Start, postgres: str) -> None:
    import psycopg

    name = f"servers_{os.getpid()}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    address = postgres.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", f"/{name}?")
    with ThreadPoolExecutor(3) as pool:
        urls = [url for _, url in pool.map(lambda _: start("--database", address), range(3))]
    batches = [[interaction(conversation_id=f"c{n}") for _ in range(7)] for n in range(30)]

    def send(job: tuple[int, list[Any]]) -> dict[str, int]:
        number, batch = job
        totals = {"stored": 0, "duplicates": 0}
        for attempt in range(3):  # to each server in turn: two of the three find it there
            reply = httpx.post(
                f"{urls[(number + attempt) % 3]}/v1/records", content=as_array(*batch), trust_env=False, timeout=30
            )
            answer = reply.json()
            assert answer["refused"] == []
            totals = {key: totals[key] + answer[key] for key in totals}
        return totals

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(send, enumerate([*batches, *batches])))
    assert sum(result["stored"] for result in results) == 30 * 7
    assert sum(result["duplicates"] for result in results) == 5 * 30 * 7
    store = open_store(load_settings({"database": address}, environment={}))
    try:
        assert sorted(record.id for record in store.scan()) == sorted(r.id for batch in batches for r in batch)
        assert store.verify() == []
    finally:
        store.close()


def send_headers_without_end(connection: socket.socket) -> None:
    for _ in range(10_000):
        connection.sendall(b"x-more: " + b"y" * 1000 + b"\r\n")
        time.sleep(0.0005)


def test_clients_that_hold_connections_for_nothing_are_closed(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, url = start()
    port = int(url.rpartition(":")[2])
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    for connection in slow:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
    assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    endless = socket.create_connection(("127.0.0.1", port))
    endless.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n")
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        send_headers_without_end(endless)
    slow[0].settimeout(20)
    assert slow[0].recv(100) == b""  # closed after ten seconds
    for connection in slow:
        connection.close()
    endless.close()


def test_a_body_that_does_not_come_is_given_up(start: Start) -> None:
    _, url = start(TRACEMILL_REQUEST_TIMEOUT_SECONDS="0.5")
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /v1/records HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n[")
        connection.settimeout(10)
        assert b" 408 " in connection.recv(1000)


def test_an_unusable_address_is_explained(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tracemill", "--workspace", str(tmp_path / "w"), "serve", "--host", "0.0.0.0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "beyond this machine" in done.stderr
    assert "keys create" in done.stderr
