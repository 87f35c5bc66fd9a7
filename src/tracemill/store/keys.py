"""API keys in the store, so that every server process over one database knows them."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from tracemill.core.access import ApiKey
from tracemill.core.ids import from_microseconds, microseconds
from tracemill.store.tables import api_keys

_decode = msgspec.msgpack.Decoder(ApiKey).decode
_encode = msgspec.msgpack.Encoder().encode


def put_key(connection: Connection, key: ApiKey) -> None:
    """Store a key, in place of the one of the same id."""
    connection.execute(delete(api_keys).where(api_keys.c.id == key.id))
    used = None if key.last_used is None else microseconds(key.last_used)
    connection.execute(insert(api_keys).values(id=key.id, body=_encode(key), last_used=used))


def read_keys(connection: Connection) -> list[ApiKey]:
    """Every key, revoked ones too, oldest first."""
    rows = connection.execute(select(api_keys)).all()
    return sorted((_key(row.body, row.last_used) for row in rows), key=lambda key: (key.created, key.id))


def read_key(connection: Connection, identity: str) -> ApiKey | None:
    """The key of an id."""
    row = connection.execute(select(api_keys).where(api_keys.c.id == identity)).first()
    return None if row is None else _key(row.body, row.last_used)


def note_use(connection: Connection, identity: str, moment: datetime) -> None:
    """Remember when a key was used last."""
    statement = update(api_keys).where(api_keys.c.id == identity).values(last_used=microseconds(moment))
    connection.execute(statement)


def _key(body: bytes, last_used: int | None) -> ApiKey:
    key = _decode(bytes(body))
    used = None if last_used is None else from_microseconds(last_used)
    return msgspec.structs.replace(key, last_used=used)
