"""What the proxy adds to a call: `python -m benches.proxy`. The same calls at 500 a second, direct and through it, in turns."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from benches import results
from benches.server import Load, _free_port, _loads, _process, _request

RATE, SECONDS, ROUNDS, CONNECTIONS = 500, 6.0, 5, 32
UPSTREAM = """
import asyncio, json, sys
answer = json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0,
    "finish_reason": "stop", "message": {"role": "assistant", "content": "word " * 200}}],
    "usage": {"prompt_tokens": 200, "completion_tokens": 200, "total_tokens": 400}}).encode()
reply = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(answer) + answer
class Model(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""
    def data_received(self, data):
        self.data += data
        while (end := self.data.find(b"\\r\\n\\r\\n")) >= 0:
            head = self.data[:end].lower()
            length = next((int(l[15:]) for l in head.split(b"\\r\\n") if l.startswith(b"content-length:")), 0)
            if len(self.data) < end + 4 + length:
                return
            self.data = self.data[end + 4 + length:]
            self.transport.write(reply)
async def main():
    server = await asyncio.get_running_loop().create_server(Model, "127.0.0.1", int(sys.argv[1]), backlog=512)
    await server.serve_forever()
asyncio.run(main())
"""


def _bodies(number: int) -> list[bytes]:
    body = {"model": "m", "temperature": 0.2, "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "word " * 200}]}  # fmt: skip
    return [_request("/v1/chat/completions", "application/json", json.dumps(body).encode())] * number


def _paced(port: int) -> Load:
    number = int(RATE * SECONDS)
    return asyncio.run(_loads(port, _bodies(number), 1, CONNECTIONS, SECONDS + 5, RATE))


def _wait(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)


def main() -> None:
    """Measure and write the results."""
    upstream_port, port = _free_port(), _free_port()
    upstream = subprocess.Popen([sys.executable, "-c", UPSTREAM, str(upstream_port)])
    rounds: dict[str, list[Load]] = {"direct": [], "through the proxy": []}
    try:
        _wait(upstream_port)
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                "-m",
                "tracemill",
                "--quiet",
                "--workspace",
                folder,
                "serve",
                "--port",
                str(port),
            ]
            environment = {"TRACEMILL_UPSTREAM_URL": f"http://127.0.0.1:{upstream_port}/v1"}
            with _process(command, port, environment, "/readyz") as running:
                _paced(port)  # connections are opened, code is warm
                before = running.processor_seconds()
                for _ in range(ROUNDS):
                    rounds["direct"].append(_paced(upstream_port))
                    rounds["through the proxy"].append(_paced(port))
                cpu = running.processor_seconds() - before
    finally:
        upstream.kill()
        upstream.wait()
    rows: list[dict[str, Any]] = [
        {
            "calls": name,
            "p50 ms": results.middle([load.quantile(0.5) for load in loads]),
            "p90 ms": results.middle([load.quantile(0.9) for load in loads]),
            "p99 ms": results.middle([load.quantile(0.99) for load in loads]),
        }
        for name, loads in rounds.items()
    ]
    added = {key: rows[1][key] - rows[0][key] for key in ("p50 ms", "p90 ms", "p99 ms")}
    rows.append({"calls": "added", **added})
    calls = sum(load.records for load in rounds["through the proxy"])
    notes = [
        f"{RATE} calls a second, paced, {CONNECTIONS} connections, {SECONDS:.0f} s; median of {ROUNDS} rounds in turns.",
        "A wait is counted from when the call was due. Client, model and proxy are three processes on the same cores.",
        f"{cpu / calls * 1e6:.0f} µs of the server's processor time a call, recording to SQLite included.",
        "1 KB asked and 1 KB answered; every call is recorded.",
    ]
    results.write("proxy", "What the proxy adds to a call", "python -m benches.proxy", rows, notes)


if __name__ == "__main__":
    main()
