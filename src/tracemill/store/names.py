"""Text that repeats in columns, kept once and referred to by number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress

from sqlalchemy import Connection

from tracemill.store.statements import insert_rows, look_up
from tracemill.store.tables import names

_LONGEST = 200
_HASHED = "sha256:"
CHUNK = 900  # values in one IN list; SQLite's oldest limit on variables is 999


def column_text(value: str) -> str:
    """The text that stands in a column for a value: itself, or its SHA-256 where it is long or cannot be stored.

    PostgreSQL takes no NUL in text, no database takes lone surrogates, and an index over long text is slow. The body of
    a record keeps the value itself wherever the two differ.
    """
    if len(value) <= _LONGEST and "\x00" not in value and not value.startswith(_HASHED):
        if value.isascii():
            return value
        with suppress(UnicodeEncodeError):
            value.encode()
            return value
    return _HASHED + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


class Names:
    """The names table with what was seen of it in memory. ``forget`` after anything may have been removed."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._values: dict[int, str] = {}

    def forget(self) -> None:
        """Drop what is remembered."""
        self._numbers.clear()
        self._values.clear()

    def _remember(self, number: int, value: str) -> None:
        if len(self._numbers) > 200_000:
            self.forget()
        self._numbers[value] = number
        self._values[number] = value

    def numbers(self, connection: Connection, values: Iterable[str], *, create: bool) -> dict[str, int]:
        """The number of each value. With ``create`` new ones are added, else they are left out of the answer."""
        wanted = set(values)
        found = {value: self._numbers[value] for value in wanted if value in self._numbers}
        missing = sorted(wanted - found.keys())
        for number, value in look_up(connection, (names.c.id, names.c.value), names.c.value, missing):
            self._remember(number, value)
            found[value] = number
        if create and (new := [value for value in missing if value not in found]):
            following = (connection.exec_driver_sql("SELECT max(id) FROM names").scalar() or 0) + 1
            insert_rows(connection, names, [{"id": at, "value": value} for at, value in enumerate(new, following)])
            for number, value in enumerate(new, following):
                self._remember(number, value)
                found[value] = number
        return found

    def values(self, connection: Connection, numbers: Iterable[int]) -> dict[int, str]:
        """The value of each number that exists."""
        wanted = set(numbers)
        found = {number: self._values[number] for number in wanted if number in self._values}
        for number, value in look_up(connection, (names.c.id, names.c.value), names.c.id, wanted - found.keys()):
            self._remember(number, value)
            found[number] = value
        return found
