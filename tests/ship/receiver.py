"""A receiver on loopback that does whatever a test tells it to, and remembers every byte."""

from __future__ import annotations

import email
import email.policy
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tracemill.ship.packing import read_package


@dataclass(frozen=True)
class Request:
    """One request: its first line, its headers in their order, its body."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        return {key.lower(): value for key, value in self.headers}.get(name.lower(), "")

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]

    @property
    def package(self) -> bytes:
        """The file of the multipart body, read by Python's own parser of such bodies."""
        head = f"Content-Type: {self.header('Content-Type')}\r\n\r\n".encode()
        message = email.message_from_bytes(head + self.body, policy=email.policy.HTTP)
        (part,) = message.iter_parts()
        assert part.get_param("name", header="content-disposition") == "file"
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        return content


Behaviour = Callable[["Receiver", socket.socket, Request], None]


class Receiver:
    """Answers each request with the next behaviour; the last one stays. Use as a context manager."""

    def __init__(self, *behaviours: Behaviour, folder: Path) -> None:
        self.behaviours = list(behaviours) or [accepts]
        self.requests: list[Request] = []
        self.files: dict[str, bytes] = {}
        self.members: list[tuple[str, bytes]] = []
        self.times: dict[str, int] = {}
        self.ended = threading.Event()
        self.arrived = threading.Event()
        self._folder = folder
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.upload_url = f"{self.url}/api/ingress/v1/upload"

    def __enter__(self) -> Self:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._socket.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                behaviour = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
                if behaviour is resets_midway:
                    connection.recv(1000)
                    cut(connection)
                data = b""
                while b"\r\n\r\n" not in data:
                    more = connection.recv(65536)
                    if not more:
                        return
                    data += more
                head, _, body = data.partition(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
                length = int(Request("", headers, b"").header("content-length") or 0)
                while len(body) < length:
                    body += connection.recv(65536)
                request = Request(lines[0], headers, body)
                self.requests.append(request)
                self.arrived.set()
                behaviour(self, connection, request)
        except OSError:
            return

    def keep(self, request: Request) -> None:
        """Unpack what arrived; count how often each file did."""
        path = self._folder / f"received-{time.monotonic_ns()}.tgz"
        path.write_bytes(request.package)
        for member in read_package(path):
            self.files[member.name] = member.content
            self.members.append((member.name, member.content))
            self.times[member.name] = self.times.get(member.name, 0) + 1


def reply(connection: socket.socket, status: int, body: bytes = b"{}", **headers: str) -> None:
    lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def accepts(receiver: Receiver, connection: socket.socket, request: Request) -> None:
    """Keep it and say so."""
    receiver.keep(request)
    reply(connection, 202, json.dumps({"request_id": f"request-{len(receiver.requests)}"}).encode())


def answers(status: int, body: bytes = b"{}", **headers: str) -> Behaviour:
    """Keep nothing and answer so."""
    return lambda _receiver, connection, _request: reply(connection, status, body, **headers)


def says(value: object, status: int = 200) -> Behaviour:
    """Answer with JSON."""
    return answers(status, json.dumps(value).encode())


def cut(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.close()
    raise OSError


def resets_midway(_receiver: Receiver, _connection: socket.socket, _request: Request) -> None:
    """Break off in the middle of the request (done before it is read)."""


def keeps_and_breaks_off(receiver: Receiver, connection: socket.socket, request: Request) -> None:
    """Keep it, and break off before saying so."""
    receiver.keep(request)
    cut(connection)


def hangs(receiver: Receiver, _connection: socket.socket, _request: Request) -> None:
    """Say nothing until the test is over."""
    receiver.ended.wait(60)


def floods(receiver: Receiver, connection: socket.socket, _request: Request) -> None:
    """Answer without end."""
    connection.sendall(b"HTTP/1.1 202 OK\r\nconnection: close\r\n\r\n{")
    while not receiver.ended.is_set():
        connection.sendall(b" " * 65536)


def when_token(good: str) -> Behaviour:
    """Accept one token alone."""

    def turn(receiver: Receiver, connection: socket.socket, request: Request) -> None:
        if request.header("Authorization") == f"Bearer {good}":
            accepts(receiver, connection, request)
        else:
            reply(connection, 401)

    return turn


def under(limit: int) -> Behaviour:
    """Accept packages of so many bytes; larger ones are too large."""

    def turn(receiver: Receiver, connection: socket.socket, request: Request) -> None:
        if len(request.package) <= limit:
            accepts(receiver, connection, request)
        else:
            reply(connection, 413)

    return turn
