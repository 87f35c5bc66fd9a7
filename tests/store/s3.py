"""A real S3 server (moto, over HTTP) and a proxy before it that fails as object storages and networks do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from moto.server import ThreadedMotoServer

Fault = Literal[
    "500", "503", "slow", "hang", "half upload", "wrong etag", "error in 200", "half download", "lost answer"
]
_ERROR = b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>We failed.</Message></Error>'
_HOP = {"connection", "transfer-encoding", "content-length", "server", "date", "keep-alive"}


@dataclass
class FaultyS3:
    """An S3 service. ``fault`` says what goes wrong with a request (method and path), or None."""

    url: str
    fault: Callable[[str, str], Fault | None] = field(default=lambda _method, _path: None)
    requests: list[str] = field(default_factory=list)
    failed: int = 0

    def fail(self, method: str, fault: Fault, *, times: int = 1_000_000) -> None:
        """Let requests of a method for objects of the archive go wrong, so many times."""
        left = [times]

        def choose(asked: str, path: str) -> Fault | None:
            deletes = asked == "POST" and path.endswith("?delete")  # of many keys at once
            if ((method != "DELETE" or not deletes) and (asked != method or "platform" not in path)) or left[0] <= 0:
                return None
            left[0] -= 1
            self.failed += 1
            return fault

        self.fault = choose

    def heal(self) -> None:
        """Nothing goes wrong from now on."""
        self.fault = lambda _method, _path: None


@contextmanager
def faulty_s3() -> Iterator[FaultyS3]:
    """Run the server and the proxy on free ports of the loopback address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    service = FaultyS3("")
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), _handler(service, f"{host}:{port}"))
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    service.url = f"http://127.0.0.1:{proxy.server_address[1]}"
    try:
        yield service
    finally:
        proxy.shutdown()
        proxy.server_close()
        server.stop()


def _handler(service: FaultyS3, upstream: str) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - a class in it
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "S3", ""

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

        def _serve(self) -> None:
            service.requests.append(f"{self.command} {self.path}")
            fault = service.fault(self.command, self.path)
            length = int(self.headers.get("Content-Length") or 0)
            if fault == "half upload":
                self.rfile.read(length // 2)
                self._reset()
                return
            body = self.rfile.read(length)
            if fault in ("500", "503"):
                self._answer(int(fault), {"Retry-After": "0"}, _ERROR)
            elif fault == "error in 200":
                self._answer(200, {"Content-Type": "application/xml"}, _ERROR)
            elif fault == "hang":
                time.sleep(3)
                self._reset()
            else:
                self._pass_on(body, fault)

        def _pass_on(self, body: bytes, fault: Fault | None) -> None:
            connection = HTTPConnection(upstream, timeout=30)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            connection.request(self.command, self.path, body=body, headers=headers)
            reply = connection.getresponse()
            content = reply.read()
            kept = {name: value for name, value in reply.getheaders() if name.lower() not in _HOP}
            connection.close()
            if fault == "lost answer":
                self._reset()
                return
            if fault == "wrong etag":
                kept = {name: '"0123456789abcdef"' if name.lower() == "etag" else value for name, value in kept.items()}
            if self.command == "HEAD":
                content, kept["Content-Length"] = b"", reply.getheader("Content-Length") or "0"
            self._answer(reply.status, kept, content, fault)

        def _answer(self, status: int, headers: dict[str, str], content: bytes, fault: Fault | None = None) -> None:
            with suppress(ConnectionError):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if self.command != "HEAD":
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if fault == "half download":
                    self.wfile.write(content[: len(content) // 2])
                    self.wfile.flush()
                    self._reset()
                elif fault == "slow":
                    for start in range(0, len(content), max(1, len(content) // 5)):
                        self.wfile.write(content[start : start + max(1, len(content) // 5)])
                        self.wfile.flush()
                        time.sleep(0.05)
                else:
                    self.wfile.write(content)

        def _reset(self) -> None:
            with suppress(OSError):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                self.connection.close()
            self.close_connection = True

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - the names http.server looks for

    return Handler
