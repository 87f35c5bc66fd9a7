"""Looking through the compressed bodies of the database for a text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import zstandard
from sqlalchemy import Connection, select

from tracemill.core.errors import StoreError
from tracemill.store.parts import references
from tracemill.store.reader import Reader
from tracemill.store.sealing import SEALED
from tracemill.store.search import Needle
from tracemill.store.tables import parts, records

_PAGE = 2000
_SEALED = SEALED.encode()
_COLUMNS = (records.c.place, records.c.parent, records.c.body)


class HotSearch:
    """One search: remembers which rows and parts may hold the text, since others refer to them."""

    def __init__(self, reader: Reader, needle: Needle) -> None:
        self._reader = reader
        self._needle = needle
        self._parts: dict[int, bool] = {}
        self._rows: dict[int, bool] = {}

    def candidates(self, connection: Connection, condition: Any, after: int) -> tuple[list[int], int | None]:
        """Places of a page of rows that may hold the text, and where the next page begins; None after the last."""
        statement = select(*_COLUMNS).where(condition, records.c.place > after).order_by(records.c.place).limit(_PAGE)
        rows = connection.execute(statement).all()
        found = [place for place, parent, body in rows if self._may_hold(connection, place, parent, bytes(body))]
        return found, rows[-1].place if len(rows) == _PAGE else None

    def _may_hold(self, connection: Connection, place: int, parent: int | None, body: bytes) -> bool:
        """Whether a row may hold the text: its own body, a part it refers to, or what it continues."""
        held = self._rows.get(place)
        if held is None:
            held = self._own(connection, body)
            if not held and parent is not None:
                held = any(self._lineage(connection, parent))
            self._rows[place] = held
        return held

    def _lineage(self, connection: Connection, place: int) -> Iterator[bool]:
        """Whether each ancestor may hold it, nearest first; ends at one that is known."""
        following: int | None = place
        while following is not None:
            known = self._rows.get(following)
            if known is not None:
                yield known
                return
            row = connection.execute(select(*_COLUMNS).where(records.c.place == following)).first()
            if row is None:
                raise StoreError(f"the record at place {following} is missing", hint="Run `tracemill doctor`.")
            held = self._own(connection, bytes(row.body))
            if held:
                self._rows[following] = True
            yield held
            following = row.parent

    def _own(self, connection: Connection, packed: bytes) -> bool:
        try:
            body = self._reader.unpack(connection, packed)
        except (zstandard.ZstdError, KeyError) as error:
            raise StoreError("a record is damaged", hint="Run `tracemill doctor`.") from error
        if _SEALED in body:  # it has to be opened to be looked at: read whole, and then judged
            return True
        return self._needle.in_bytes(body) or any(self._part(connection, number) for number in references(body))

    def _part(self, connection: Connection, number: int) -> bool:
        if number not in self._parts:
            body = connection.execute(select(parts.c.body).where(parts.c.id == number)).scalar()
            self._parts[number] = body is not None and self._needle.in_bytes(
                self._reader.unpack(connection, bytes(body))
            )
        return self._parts[number]
