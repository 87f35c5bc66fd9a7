"""Requests to erase and legal holds in the database, and what belongs together there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from sqlalchemy import Connection, delete, insert, select

from tracemill.core.erasure import ErasureRequest, ErasureStatus, LegalHold
from tracemill.core.ids import id_bytes, id_text
from tracemill.store.names import CHUNK
from tracemill.store.reader import Reader
from tracemill.store.rows import PARENT, TYPE_CODES
from tracemill.store.tables import erasures, legal_holds, records

_request = msgspec.msgpack.Decoder(ErasureRequest).decode
_hold = msgspec.msgpack.Decoder(LegalHold).decode
_encode = msgspec.msgpack.Encoder().encode
_PAGE = 5000


def put_request(connection: Connection, request: ErasureRequest) -> None:
    """Store a request, in place of the one of its id."""
    connection.execute(delete(erasures).where(erasures.c.id == request.id))
    connection.execute(insert(erasures).values(id=request.id, status=request.status, body=_encode(request)))


def requests(connection: Connection, statuses: Iterable[ErasureStatus]) -> list[ErasureRequest]:
    """The requests of some statuses, oldest first."""
    statement = select(erasures.c.body).where(erasures.c.status.in_(list(statuses)))
    found = [_request(bytes(body)) for (body,) in connection.execute(statement)]
    return sorted(found, key=lambda request: (request.requested, request.id))


def put_hold(connection: Connection, hold: LegalHold) -> None:
    """Store a legal hold, in place of the one of its id."""
    connection.execute(delete(legal_holds).where(legal_holds.c.id == hold.id))
    connection.execute(insert(legal_holds).values(id=hold.id, body=_encode(hold)))


def holds(connection: Connection) -> list[LegalHold]:
    """Every legal hold, released ones too, oldest first."""
    found = [_hold(bytes(body)) for (body,) in connection.execute(select(legal_holds.c.body))]
    return sorted(found, key=lambda hold: (hold.placed, hold.id))


def linked(connection: Connection, ids: Iterable[str]) -> Iterator[str]:
    """The ids of records that name one of these interactions."""
    wanted = [id_bytes(identity) for identity in ids]
    for start in range(0, len(wanted), CHUNK):
        condition = records.c.interaction.in_(wanted[start : start + CHUNK])
        for (identity,) in connection.execute(select(records.c.id).where(condition)):
            yield id_text(bytes(identity))


def parents(connection: Connection, reader: Reader, after: int) -> tuple[list[tuple[str, str]], int | None]:
    """Parent and id of the interactions of a page that say who called them, and where the next begins; None at the end."""
    columns = (records.c.place, records.c.id, records.c.body)
    condition = (records.c.place > after) & (records.c.type == TYPE_CODES["interaction"])
    rows = connection.execute(select(*columns).where(condition).order_by(records.c.place).limit(_PAGE)).all()
    found = []
    for row in rows:
        match = PARENT.search(reader.unpack(connection, bytes(row.body)))
        if match is not None:
            found.append((match[1].decode(), id_text(bytes(row.id))))
    return found, rows[-1].place if len(rows) == _PAGE else None
