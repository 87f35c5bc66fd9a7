"""Running the server: one process that listens, and stops without losing what it was given."""

from __future__ import annotations

import gc
import ipaddress
import logging
import socket
import sys

import uvicorn

from tracemill.core.errors import SettingError
from tracemill.core.settings import Settings
from tracemill.server.app import create_app
from tracemill.server.observe import JsonLines
from tracemill.server.protocol import GuardedProtocol
from tracemill.workspace import Workspace

_BACKLOG = 2048
_SWITCH_SECONDS = 0.0003
"""How long the writer's thread may keep the interpreter from the one that answers; Python's own 5 ms is a long wait."""


def serve(settings: Settings, *, quiet: bool = False) -> None:
    """Serve until the process is told to stop (SIGINT, SIGTERM).

    Requests under way are finished, for up to ``shutdown_timeout_seconds``, and what they sent is committed. Raises
    SettingError when the address may not be listened on, StoreError when the database cannot be opened.
    """
    with Workspace.open(settings=settings) as workspace:
        guarded = bool(settings.jwt_issuer) or bool(workspace.store.api_keys())
        stored_at = workspace.store.address
    check_host(settings.host, guarded)
    _log_to_stderr(quiet)
    logging.getLogger("tracemill.server").info(
        "starting",
        extra={"fields": {"store": stored_at, "authentication": "keys" if guarded else "none, loopback only"}},
    )
    sys.setswitchinterval(_SWITCH_SECONDS)
    Server(configured(settings)).run()


class Server(uvicorn.Server):
    """uvicorn's server, which sets aside what it is made of once it is up.

    A full collection would look through a quarter of a million objects of imported modules, 70 ms during which nobody is
    answered. None of them ever becomes garbage, so the collector need not look at them.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()


def configured(settings: Settings) -> uvicorn.Config:
    """Uvicorn's own settings for ours."""
    return uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        backlog=_BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout_seconds)),
    )


def check_host(host: str, guarded: bool) -> None:
    """Raise SettingError for an address others can reach while there is no key to ask them for."""
    if guarded or is_loopback(host):
        return
    raise SettingError(
        f"the server would listen on {host!r}, beyond this machine, and nobody needs a key",
        hint="Make a key with `tracemill keys create NAME --scope ingest`, or set jwt_issuer, or listen on 127.0.0.1.",
    )


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _log_to_stderr(quiet: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("tracemill", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.WARNING if quiet else logging.INFO)
