"""When a compression dictionary is trained, and on what."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, bindparam, func, insert, select, update

from tracemill.store.dictionary import TRAINED_AT, train
from tracemill.store.engine import reading, writing
from tracemill.store.reader import Reader
from tracemill.store.statements import insert_or_add
from tracemill.store.tables import counters, dictionaries, parts, records

_SAMPLE_BYTES = 1792 * 1024
_SAMPLE_RECORDS = 5_000
_VACUUM_BYTES = 64 * 1024 * 1024


def train_when_due(engine: Engine, reader: Reader) -> bool:
    """Train a new dictionary when the store has grown enough since the last one. True when it did.

    The bodies that served as samples are compressed again: for the first dictionary that is the whole store, which is
    small then; later ones leave older rows as they are.
    """
    with reading(engine) as connection:
        if not _due(connection):
            return False
    with writing(engine) as connection:
        if not _due(connection):  # another process was first
            reader.load_dictionaries(connection)
            return False
        total = _total(connection)
        identity = (connection.execute(select(func.max(dictionaries.c.id))).scalar() or 32_768) + 1
        samples = _samples(connection, reader)
        body = train([(owner, raw) for _, owner, raw, _ in samples], identity)
        connection.execute(insert(dictionaries), [{"id": identity, "trained_on": total, "body": body or b""}])
        if body is None:
            return False
        reader.compressor.add(identity, body)
        compress = reader.compressor.compress
        rows = [{"at": place, "packed": compress(raw, delta=delta)} for place, _, raw, delta in samples]
        _replace_bodies(connection, rows)
        if len(rows) == connection.execute(select(func.count()).select_from(records)).scalar():
            _drop_older(connection, reader, identity)
    compact(engine)
    return True


def compact(engine: Engine) -> None:
    """Give back the room that bodies left when they became smaller. SQLite only; skipped while somebody reads.

    Rewrites the file, so it is done only while that is a matter of a moment.
    """
    if engine.dialect.name != "sqlite" or Path(engine.url.database or "").stat().st_size > _VACUUM_BYTES:
        return
    with engine.connect() as connection, suppress(sqlite3.OperationalError):
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute("VACUUM")


def _total(connection: Connection) -> int:
    return int(connection.execute(select(counters.c.value).where(counters.c.name == "body_bytes")).scalar() or 0)


def _due(connection: Connection) -> bool:
    last = connection.execute(select(func.max(dictionaries.c.trained_on))).scalar() or 0
    return bisect_right(TRAINED_AT, _total(connection)) > bisect_right(TRAINED_AT, last)


def _samples(connection: Connection, reader: Reader) -> list[tuple[int, object, bytes, bool]]:
    """The newest bodies with their places, whose they are, and whether they continue another."""
    columns = (records.c.place, records.c.conversation, records.c.person, records.c.parent, records.c.body)
    samples: list[tuple[int, object, bytes, bool]] = []
    size = 0
    for row in connection.execute(select(*columns).order_by(records.c.place.desc()).limit(_SAMPLE_RECORDS)):
        owner = ("person", row.person) if row.person is not None else ("conversation", row.conversation or row.place)
        raw = reader.unpack(connection, bytes(row.body))
        samples.append((row.place, owner, raw, row.parent is not None))
        size += len(raw)
        if size > _SAMPLE_BYTES:
            break
    return samples


def _drop_older(connection: Connection, reader: Reader, identity: int) -> None:
    """Empty the older dictionaries once no body is left that names one. Everybody else loads anew (``generation``)."""
    rows = [
        {"at": number, "packed": reader.compressor.compress(reader.unpack(connection, bytes(body)))}
        for number, body in connection.execute(select(parts.c.id, parts.c.body)).all()
    ]
    if rows:
        connection.execute(update(parts).where(parts.c.id == bindparam("at")).values(body=bindparam("packed")), rows)
    connection.execute(update(dictionaries).where(dictionaries.c.id != identity).values(body=b""))
    insert_or_add(connection, counters, [{"name": "generation", "value": 1}], ("value",))


def _replace_bodies(connection: Connection, rows: list[dict[str, object]]) -> None:
    statement = update(records).where(records.c.place == bindparam("at")).values(body=bindparam("packed"))
    connection.execute(statement, rows)
