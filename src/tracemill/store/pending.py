"""Parts that wait for the rest of their record (see :mod:`tracemill.core.pending`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, and_, bindparam, delete, func, select

from tracemill.core.ids import from_microseconds, microseconds
from tracemill.core.pending import PendingPart
from tracemill.store.statements import insert_or_ignore
from tracemill.store.tables import pending

_CHUNK = 500


def put_parts(connection: Connection, parts: Sequence[PendingPart]) -> None:
    """Keep parts; one that is there already (same source, key and part) is left as it is."""
    rows = [
        {"source": p.source, "key": p.key, "part": p.part, "time": microseconds(p.time), "body": p.body} for p in parts
    ]
    insert_or_ignore(connection, pending, rows)


def parts_of(connection: Connection, source: str, keys: Sequence[str]) -> dict[str, list[PendingPart]]:
    """The parts of each key that has any, in the order of their names."""
    found: dict[str, list[PendingPart]] = {}
    for start in range(0, len(keys), _CHUNK):
        wanted = and_(pending.c.source == source, pending.c.key.in_(keys[start : start + _CHUNK]))
        statement = select(pending).where(wanted).order_by(pending.c.key, pending.c.part)
        for row in connection.execute(statement):
            part = PendingPart(
                source=row.source, key=row.key, part=row.part, time=from_microseconds(row.time), body=bytes(row.body)
            )
            found.setdefault(row.key, []).append(part)
    return found


def idle_keys(connection: Connection, source: str, older_than: datetime, limit: int) -> list[str]:
    """Keys of which no part has come since a moment, those that wait longest first."""
    newest = func.max(pending.c.time)
    statement = (
        select(pending.c.key)
        .where(pending.c.source == source)
        .group_by(pending.c.key)
        .having(newest < microseconds(older_than))
        .order_by(newest, pending.c.key)
        .limit(limit)
    )
    return [key for (key,) in connection.execute(statement)]


def drop_parts(connection: Connection, parts: Sequence[PendingPart]) -> None:
    """Remove these parts and no others: one that came since they were read has yet to be seen to."""
    statement = delete(pending).where(
        and_(
            pending.c.source == bindparam("of_source"),
            pending.c.key == bindparam("of_key"),
            pending.c.part == bindparam("of_part"),
        )
    )
    rows = [{"of_source": part.source, "of_key": part.key, "of_part": part.part} for part in parts]
    if rows:
        connection.execute(statement, rows)


def count_parts(connection: Connection) -> int:
    """How many parts wait."""
    return int(connection.execute(select(func.count()).select_from(pending)).scalar_one())
