"""A real server: uvicorn on a free port of the loopback address, over a workspace of the test's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from tracemill.core.access import ApiKey, Scope, make_secret
from tracemill.core.ids import now
from tracemill.core.records import AnyRecord
from tracemill.core.settings import load_settings
from tracemill.server.app import create_app
from tracemill.server.context import Context
from tracemill.store.base import Filter
from tracemill.workspace import Workspace


@dataclass
class Served:
    """A running server. ``url`` has no slash at its end."""

    url: str
    context: Context
    app: Any
    clients: list[Any] = field(default_factory=list)

    @property
    def workspace(self) -> Workspace:
        """The workspace the server works on, for looking at what came of a request."""
        return self.context.workspace

    def client(self, key: str | None = None, **arguments: Any) -> httpx.Client:
        """An HTTP client of this server, with an API key if one is given."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False, **arguments)
        self.clients.append(client)
        return client

    def records(self, *types: str) -> list[AnyRecord]:
        """Every stored record of some types, in the order of storing."""
        return list(self.workspace.records(Filter(types=types)))

    def key(self, *scopes: Scope, user: str | None = None, project: str | None = None) -> str:
        """A new API key, known to the server at once."""
        identity, secret, digest = make_secret()
        person = None if user is None else self.context.pseudonymizer.user(user)
        made = ApiKey(
            id=identity,
            name=f"test-{identity}",
            digest=digest,
            scopes=scopes,
            created=now(),
            project=project,
            user=person,
        )
        self.workspace.store.put_api_key(made)
        self.app.state.access.refresh()
        return secret

    def wait_for(self, number: int, *types: str, seconds: float = 10) -> list[AnyRecord]:
        """Records of some types, once there are so many; what there is when time is up."""
        ends = time.monotonic() + seconds
        while len(found := self.records(*types)) < number and time.monotonic() < ends:
            time.sleep(0.02)
        return found


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers with the settings given; all are stopped at the end."""
    running: list[tuple[uvicorn.Server, threading.Thread, Served]] = []

    def start(name: str = "workspace", **arguments: Any) -> Served:
        settings = load_settings(
            {"workspace": str(tmp_path / name), **arguments}, environment={}, config=_none(tmp_path)
        )
        app = create_app(settings)
        server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False, ws="none")
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        ends = time.monotonic() + 20
        while not server.started and thread.is_alive() and time.monotonic() < ends:
            time.sleep(0.01)
        assert server.started, "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        served = Served(f"http://127.0.0.1:{port}", app.state.context, app)
        running.append((server, thread, served))
        return served

    yield start
    for server, thread, served in running:
        for client in served.clients:
            client.close()
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"


def _none(tmp_path: Path) -> Path:
    path = tmp_path / "empty.yaml"
    path.touch()
    return path
