"""Records acknowledged after commit over HTTP: `python -m benches.server`.

Our server on SQLite and on PostgreSQL, in batches of 1 and 100; and the same spans over OTLP to our server and to Arize
Phoenix, one after the other in one run, where Phoenix is installed (``PHOENIX=/path/to/phoenix``, its own environment).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benches import results
from benches.otlp_spans import requests_of_spans
from benches.trajectories import single_turns
from tracemill.core.codec import encode, encode_json
from tracemill.core.ids import monotonic

ROUNDS = 3
SECONDS = 6.0
PACED_SECONDS = 5.0


@dataclass
class Running:
    """A server process, where it listens, and the SQLite file and table that it stores into, where it has them."""

    process: subprocess.Popen[bytes]
    port: int
    database: Path | None = None
    table: str = ""

    def stored(self) -> int:
        """How many records or spans are committed; 0 where that cannot be asked."""
        if self.database is None:
            return 0
        try:
            with contextlib.closing(
                sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)
            ) as connection:
                return int(connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()[0])
        except sqlite3.OperationalError:  # not made yet
            return 0

    def wait_until_stored(self, number: int) -> None:
        """Wait until so many are committed: an acknowledgement before that is a promise."""
        while self.database is not None and self.stored() < number:
            time.sleep(0.02)

    def processor_seconds(self) -> float:
        """User and system time of the process and its children so far."""
        return sum(_ticks(pid) for pid in _family(self.process.pid)) / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in _family(int(child)))]


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _process(command: list[str], port: int, environment: dict[str, str], ready: str) -> Iterator[Running]:
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        ends = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=2).close()
                break
            except (OSError, urllib.error.URLError):
                if process.poll() is not None or time.monotonic() > ends:
                    log.seek(0)
                    raise RuntimeError(log.read().decode(errors="replace")[-2000:]) from None
                time.sleep(0.1)
        yield Running(process, port)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


@contextlib.contextmanager
def ours(database: str = "") -> Iterator[Running]:
    """Our server on an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        command = [sys.executable, "-m", "tracemill", "--quiet", "--workspace", folder, "serve", "--port", str(port)]
        with _process([*command, *(["--database", database] if database else [])], port, {}, "/readyz") as running:
            if not database:
                running.database, running.table = Path(folder) / "store.db", "records"
            yield running


@contextlib.contextmanager
def phoenix(executable: str) -> Iterator[Running]:
    """Arize Phoenix on its default SQLite, in an empty folder, on loopback."""
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        environment = {
            "PHOENIX_WORKING_DIR": folder,
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(port),
            "PHOENIX_GRPC_PORT": str(_free_port()),
            "PHOENIX_TELEMETRY_ENABLED": "false",
        }
        with _process([executable, "serve"], port, environment, "/healthz") as running:
            running.database, running.table = Path(folder) / "phoenix.db", "spans"
            yield running


@contextlib.contextmanager
def postgres() -> Iterator[Callable[[], str]]:
    """A PostgreSQL server; each call makes an empty database and gives its URL."""
    import pgserver
    import psycopg

    with tempfile.TemporaryDirectory() as folder:
        server = pgserver.get_server(folder)
        number = 0

        def make() -> str:
            nonlocal number
            number += 1
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE bench{number}")
            address: str = server.get_uri()
            return address.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", f"/bench{number}?")

        try:
            yield make
        finally:
            server.cleanup()


@dataclass
class Load:
    """What a load found: requests and records acknowledged, seconds, and how long each acknowledgement took."""

    records: int
    seconds: float
    waits: list[float]

    def quantile(self, share: float) -> float:
        """Milliseconds within which a share of requests was acknowledged."""
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def _request(path: str, content_type: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    if b"transfer-encoding: chunked" in head.lower():
        while (size := int(await reader.readline(), 16)) > 0:
            await reader.readexactly(size + 2)
        await reader.readline()
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


async def _loads(port: int, bodies: list[bytes], each: int, connections: int, seconds: float, rate: float) -> Load:
    """Send each body once, from several connections: as fast as answers come (rate 0), or at a rate of requests."""
    waits: list[float] = []
    position = 0
    began = monotonic()

    async def client() -> None:
        nonlocal position
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
        while position < len(bodies) and monotonic() - began < seconds:
            mine, position = position, position + 1
            due = began + mine / rate if rate else monotonic()
            if due > monotonic():
                await asyncio.sleep(due - monotonic())
            writer.write(bodies[mine])
            status = await _answer(reader)
            assert status == 200, status
            waits.append(monotonic() - due)  # from when it was due: a server that stalls is not excused
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return Load(len(waits) * each, monotonic() - began, waits)


def measure(server: Any, bodies: list[bytes], each: int, connections: int) -> dict[str, float]:
    """One round: as fast as it goes, then at half that rate for the time an acknowledgement takes."""
    with server as running:
        asyncio.run(_loads(running.port, bodies[:8], each, 1, 5, 0))  # the first statements are prepared
        running.wait_until_stored(8 * each)
        cpu, before, began = running.processor_seconds(), running.stored(), monotonic()
        half = len(bodies) * 2 // 3
        full = asyncio.run(_loads(running.port, bodies[8:half], each, connections, SECONDS, 0))
        running.wait_until_stored(before + full.records)
        committed = monotonic() - began
        cpu = running.processor_seconds() - cpu
        rate = len(full.waits) / full.seconds / 2
        paced = asyncio.run(_loads(running.port, bodies[half:], each, connections * 4, PACED_SECONDS, rate))
    return {
        "acknowledged/s": full.records / full.seconds,
        "stored/s": full.records / committed,
        "stored/s/core": full.records / cpu,
        "p50 ms": full.quantile(0.5),
        "p99 ms": full.quantile(0.99),
        "p50 ms at half rate": paced.quantile(0.5),
        "p99 ms at half rate": paced.quantile(0.99),
    }


def _row(name: str, batch: int, form: str, rounds: list[dict[str, float]]) -> dict[str, Any]:
    middles = {key: results.middle([found[key] for found in rounds]) for key in rounds[0]}
    return {"server": name, "batch": batch, "sent as": form, **middles}


def _native() -> Iterator[tuple[int, str, list[bytes], int]]:
    """Batch size, form, requests, connections."""
    items = list(single_turns(150_000))
    for batch, number, connections in ((1, 24_000, 16), (100, 1_500, 4)):
        groups = [items[start : start + batch] for start in range(0, number * batch, batch)]
        packed = [msgspec.msgpack.encode([msgspec.Raw(encode(record)) for record in group]) for group in groups]
        kind = "application/vnd.tracemill.records"
        yield batch, "the SDK's form", [_request("/v1/records", kind, body) for body in packed], connections
        texts = [b"[" + b",".join(map(encode_json, group)) + b"]" for group in groups]
        yield batch, "JSON", [_request("/v1/records", "application/json", body) for body in texts], connections


def main() -> None:
    """Measure and write the results."""
    rows = []
    with postgres() as database:
        for batch, form, bodies, connections in _native():
            rows.append(_row("tracemill, SQLite", batch, form, [
                measure(ours(), bodies, batch, connections) for _ in range(ROUNDS)]))  # fmt: skip
            rows.append(_row("tracemill, PostgreSQL", batch, form, [
                measure(ours(database()), bodies, batch, connections) for _ in range(ROUNDS)]))  # fmt: skip
    executable = os.environ.get("PHOENIX") or shutil.which("phoenix")
    for batch, number, connections in ((1, 4_000, 16), (100, 200, 4)):
        bodies = [_request("/v1/traces", "application/x-protobuf", b) for b in requests_of_spans(batch, number)]
        rows.append(_row("tracemill, SQLite", batch, "OTLP", [
            measure(ours(), bodies, batch, connections) for _ in range(ROUNDS)]))  # fmt: skip
        if executable:
            rows.append(_row("Arize Phoenix, SQLite", batch, "OTLP", [
                measure(phoenix(executable), bodies, batch, connections) for _ in range(ROUNDS)]))  # fmt: skip
    notes = [
        f"Median of {ROUNDS} rounds, each into an empty store; 2 KB a record; the client runs on the same cores.",
        "tracemill answers after the commit is synced to the device (SQLite: WAL, synchronous=FULL).",
        "stored/s counts until the last one is committed: Phoenix acknowledges before that, and goes on storing.",
        "stored/s/core divides by the processor time of the server's own process; PostgreSQL's own is not in it.",
        "At half rate, a wait is counted from when the request was due.",
    ]
    if not executable:
        notes.append("Phoenix was not installed where this ran.")
    results.write("server", "Records acknowledged over HTTP", "python -m benches.server", rows, notes)


if __name__ == "__main__":
    main()
