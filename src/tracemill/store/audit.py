"""The audit log's table: entries are appended, and nobody changes or removes one (triggers and grants see to it)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, insert, select

from tracemill.core.audit import BEGINNING, AuditEntry, canonical, chained
from tracemill.core.ids import microseconds, now
from tracemill.store.tables import audit


def head(connection: Connection) -> tuple[int, bytes]:
    """The number and hash of the last entry; 0 and zeros where there is none."""
    row = connection.execute(select(audit.c.number, audit.c.hash).order_by(audit.c.number.desc()).limit(1)).first()
    return (0, BEGINNING) if row is None else (int(row.number), bytes(row.hash))


def append(connection: Connection, actor: str, action: str, target: str, detail: dict[str, Any]) -> AuditEntry:
    """Add an entry, in a transaction that holds the write lock: numbers have no gaps, the chain no fork."""
    number, previous = head(connection)
    entry = AuditEntry(
        number=number + 1, time=microseconds(now()), actor=actor, action=action, target=target, detail=detail
    )
    body = canonical(entry)
    connection.execute(insert(audit).values(number=entry.number, body=body, hash=chained(previous, body)))
    return entry


def rows(connection: Connection, after: int, limit: int) -> list[tuple[int, bytes, bytes]]:
    """Number, bytes and hash of the entries after a number, in order."""
    statement = select(audit).where(audit.c.number > after).order_by(audit.c.number).limit(limit)
    return [(int(row.number), bytes(row.body), bytes(row.hash)) for row in connection.execute(statement)]


def pages(read: Any, size: int = 1000) -> Iterator[tuple[int, bytes, bytes]]:
    """Every entry; ``read(after, limit)`` gives a page."""
    after = 0
    while page := read(after, size):
        yield from page
        after = page[-1][0]
