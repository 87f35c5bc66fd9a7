"""A server that does to its clients whatever a test tells it to."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgspec

Behaviour = Callable[["FaultyServer", socket.socket, dict[str, str], list[Any]], None]
"""What to do with a request: the connection, the headers (lower case), the records of its body."""


class FaultyServer:
    """Answers each request with the next behaviour; the last one stays. Use as a context manager."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.behaviours = list(behaviours)
        self.stored: dict[str, Any] = {}
        self.headers: list[dict[str, str]] = []
        self.batches: list[int] = []
        self.ended = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._socket.close()
        for connection in self._open:
            connection.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        try:
            while True:
                while b"\r\n\r\n" not in data:
                    more = connection.recv(65536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
                headers = {name.decode().lower(): value.decode().strip() for name, _, value in lines}
                length = int(headers["content-length"])
                while len(data) < length:
                    data += connection.recv(65536)
                body, data = data[:length], data[length:]
                if headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                records = msgspec.msgpack.decode(body)
                self.headers.append(headers)
                self.batches.append(len(records))
                turn = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
                turn(self, connection, headers, records)
        except OSError:
            return

    def keep(self, records: list[Any]) -> dict[str, Any]:
        """Store records by their ids, and what to answer."""
        fresh = [record for record in records if record["id"] not in self.stored]
        self.stored.update((record["id"], record) for record in fresh)
        return {"stored": len(fresh), "duplicates": len(records) - len(fresh), "refused": []}


def reply(connection: socket.socket, status: int, body: bytes = b"{}", **headers: str) -> None:
    """Send an answer."""
    lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def good(server: FaultyServer, connection: socket.socket, _headers: Any, records: list[Any]) -> None:
    """Store and say so."""
    reply(connection, 200, json.dumps(server.keep(records)).encode())


def answers(status: int, body: bytes = b"{}", **headers: str) -> Behaviour:
    """Store nothing and answer so."""

    def turn(_server: FaultyServer, connection: socket.socket, _headers: Any, _records: list[Any]) -> None:
        reply(connection, status, body, **headers)

    return turn


def resets(_server: FaultyServer, connection: socket.socket, _headers: Any, _records: list[Any]) -> None:
    """Break the connection off without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.close()
    raise OSError


def loses_the_answer(server: FaultyServer, connection: socket.socket, _headers: Any, records: list[Any]) -> None:
    """Store, and break off before saying so."""
    server.keep(records)
    resets(server, connection, None, [])


def hangs(server: FaultyServer, _connection: socket.socket, _headers: Any, _records: list[Any]) -> None:
    """Say nothing until the test is over."""
    server.ended.wait(60)
    raise OSError


def drips(server: FaultyServer, connection: socket.socket, _headers: Any, _records: list[Any]) -> None:
    """Answer one byte at a time, for as long as anybody listens."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while not server.ended.is_set():
        connection.sendall(b" ")
        time.sleep(0.05)


def floods(server: FaultyServer, connection: socket.socket, _headers: Any, _records: list[Any]) -> None:
    """Answer without end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
    while not server.ended.is_set():
        connection.sendall(b" " * 65536)
