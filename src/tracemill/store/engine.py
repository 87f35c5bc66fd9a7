"""Connections: how each database is opened, how a transaction begins, and what its errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from tracemill.core.errors import StoreBusyError, StoreError, StoreFullError

BUSY_TIMEOUT_SECONDS = 15.0
"""How long a writer waits for another process's transaction before it gives up."""
_ADVISORY_LOCK = 0x7472616365  # "trace": PostgreSQL has no one-writer rule of its own
_IMMEDIATE = {"tracemill_begin": "IMMEDIATE"}
APPLICATION_ROLE = "tracemill_application"
"""The PostgreSQL role every transaction takes: it owns nothing and cannot pass by row-level security."""
_ASSUME = text(
    "SELECT set_config('role', :role, true), set_config('tracemill.scope', :scope, true),"
    " set_config('tracemill.person', :person, true)"
)


def open_engine(url: str) -> Engine:
    """An engine for a SQLAlchemy URL. Raises StoreError when the URL or its driver cannot be used."""
    try:
        if url.startswith("sqlite"):
            return _sqlite_engine(url)
        return create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=5)
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise StoreError(
            f"the database {url.rsplit('@', maxsplit=1)[-1]!r} cannot be opened: {error}",
            hint="Give a SQLAlchemy URL such as sqlite:///path/store.db or postgresql+psycopg://user@host/name.",
        ) from error


def _sqlite_engine(url: str) -> Engine:
    path = url.partition(":///")[2].partition("?")[0]
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=5,
        max_overflow=5,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        cursor = connection.cursor()
        if cursor.execute("PRAGMA page_count").fetchone() == (0,):  # of an older file it would want to write
            cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")  # before WAL, which writes the first page
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # a commit is on the device when it returns
        cursor.execute("PRAGMA secure_delete=ON")  # what is erased is overwritten, not only unlinked
        cursor.execute("PRAGMA cache_size=-32768")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("tracemill_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that holds the one write lock from its beginning; commits at the end, rolls back on an error."""
    with translated(), engine.connect().execution_options(**_IMMEDIATE) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            _assume(connection, None)
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        yield connection


@contextmanager
def reading(engine: Engine, viewer: int | None = None) -> Iterator[Connection]:
    """A transaction that sees one state of the database. Keep it short: a long one keeps SQLite's log from shrinking.

    With a ``viewer`` (the number of a pseudonym in ``names``) PostgreSQL itself shows that person's rows of ``records`` and
    nothing else.
    """
    with translated(), engine.connect().execution_options(**_one_state(engine)) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            _assume(connection, viewer)
        yield connection


def _one_state(engine: Engine) -> dict[str, str]:
    """What makes a transaction see one state: SQLite's do, PostgreSQL's see another with every statement unless told."""
    return {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}


def _assume(connection: Connection, viewer: int | None) -> None:
    """Take the application's role and say for whom, until this transaction ends (as SET LOCAL does)."""
    scope, person = ("service", "") if viewer is None else ("user", str(viewer))
    connection.execute(_ASSUME, {"role": APPLICATION_ROLE, "scope": scope, "person": person})


@contextmanager
def translated() -> Iterator[None]:
    """Turn database errors into StoreErrors that say what to do."""
    try:
        yield
    except OperationalError as error:
        message = str(error.orig)
        if "locked" in message or "busy" in message:
            raise StoreBusyError(
                f"the store is locked by another process: {message}", hint="Try again; nothing was stored."
            ) from error
        if "full" in message or "disk I/O error" in message or "No space left" in message:
            raise StoreFullError(
                f"the store cannot grow: {message}",
                hint="Free space on its device; nothing of the batch was stored.",
            ) from error
        raise StoreError(f"the database failed: {message}", hint="Run `tracemill doctor`.") from error
    except DBAPIError as error:
        raise StoreError(f"the database failed: {error.orig}", hint="Run `tracemill doctor`.") from error
