"""When a compression dictionary is trained, and on what."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, func, insert, select, update

from tracemill.store.dictionary import TRAINED_AT, train
from tracemill.store.engine import reading, writing
from tracemill.store.reader import Reader
from tracemill.store.rows import PARENT, TYPE_CODES
from tracemill.store.statements import insert_or_add, look_up
from tracemill.store.tables import counters, dictionaries, parts, records

_SAMPLE_BYTES = 1792 * 1024
_SAMPLE_RECORDS = 5_000
_OWNED = (
    *(records.c.place, records.c.id, records.c.type),
    *(records.c.conversation, records.c.person, records.c.interaction),
)
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
    columns = (*_OWNED, records.c.parent, records.c.body)
    rows: list[tuple[Any, bytes]] = []
    size = 0
    for row in connection.execute(select(*columns).order_by(records.c.place.desc()).limit(_SAMPLE_RECORDS)):
        raw = reader.unpack(connection, bytes(row.body))
        rows.append((row, raw))
        size += len(raw)
        if size > _SAMPLE_BYTES:
            break
    owners = _owners(connection, rows)
    return [(row.place, owner, raw, row.parent is not None) for (row, raw), owner in zip(rows, owners, strict=True)]


def _owners(connection: Connection, rows: Sequence[tuple[Any, bytes]]) -> list[object]:
    """Whose each row is, told apart so that nobody counts as two: a person, a conversation, or an interaction of nobody.

    What names neither is its interaction's. None where that cannot be known: in a conversation of several people, of an
    interaction that is not there, and of a call inside another.
    """
    links = {bytes(row.interaction) for row, _ in rows if row.interaction is not None}
    above = {bytes(found.id): (found, b"") for found in look_up(connection, _OWNED, records.c.id, links)} | {
        bytes(row.id): (row, raw) for row, raw in rows
    }
    conversations = {row.conversation for row, _ in above.values() if row.conversation is not None}
    people: dict[int, set[int]] = {}
    columns = (records.c.conversation, records.c.person)
    for conversation, person in look_up(connection, columns, records.c.conversation, conversations):
        if person is not None:
            people.setdefault(conversation, set()).add(person)

    def owner(row: Any, raw: bytes) -> object:
        if row.person is not None:
            return ("person", row.person)
        if row.conversation is not None:
            own = people.get(row.conversation, set())
            return ("conversation", row.conversation) if not own else ("person", *own) if len(own) == 1 else None
        if row.interaction is not None:
            found = above.get(bytes(row.interaction))
            return None if found is None or found[0].interaction is not None else owner(*found)
        alone = row.type == TYPE_CODES["interaction"] and PARENT.search(raw) is None
        return ("record", row.place) if alone else None

    return [owner(row, raw) for row, raw in rows]


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
