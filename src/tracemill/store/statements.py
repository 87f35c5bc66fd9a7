"""Statements over many values: looked up, inserted, added to.

They are built by SQLAlchemy once and then run as text: its own handling of each parameter is passed by, since our values
(numbers, bytes, text) are what both drivers take as they are, and it costs as much as the statement itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Column, Connection, Dialect, Table, bindparam, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert


def _insert(connection: Connection, table: Table) -> Any:
    return (postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert)(table)


_SIZES = (10, 100, 900)
"""How many values one look-up takes: few sizes, so that few statements are built (SQLite's oldest limit is 999)."""


@cache
def _looking_up(
    dialect: Dialect, columns: tuple[Column[Any], ...], by: Column[Any], size: int
) -> tuple[str, list[str]]:
    names = [f"value_{number}" for number in range(size)]
    compiled = select(*columns).where(by.in_([bindparam(name) for name in names])).compile(dialect=dialect)
    return compiled.string, names


def look_up(
    connection: Connection, columns: Sequence[Column[Any]], by: Column[Any], values: Iterable[Any]
) -> Iterator[Any]:
    """The given columns of every row whose column ``by`` holds one of the values."""
    wanted = list(dict.fromkeys(values))
    while wanted:
        size = next((size for size in _SIZES if len(wanted) <= size), _SIZES[-1])
        taken, wanted = wanted[:size], wanted[size:]
        taken += [taken[-1]] * (size - len(taken))
        statement, names = _looking_up(connection.dialect, tuple(columns), by, size)
        named = connection.dialect.positional is False
        yield from connection.exec_driver_sql(
            statement, dict(zip(names, taken, strict=True)) if named else tuple(taken)
        )


@cache
def _compiled(table: Table, dialect: Dialect, ignore: bool) -> tuple[str, Callable[[dict[str, Any]], Any]]:
    inserting = (postgresql_insert if dialect.name == "postgresql" else sqlite_insert)(table)
    compiled = (inserting.on_conflict_do_nothing() if ignore else inserting).compile(dialect=dialect)
    if compiled.positiontup is None:  # psycopg takes parameters by name
        return compiled.string, dict
    return compiled.string, itemgetter(*compiled.positiontup)


def insert_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], *, ignore: bool = False) -> None:
    """Insert rows that give every column of the table. With ``ignore``, those whose key exists are left as they are."""
    if rows:
        statement, values = _compiled(table, connection.dialect, ignore)
        connection.exec_driver_sql(statement, [values(row) for row in rows])


def insert_or_ignore(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows; those whose key exists are left as they are."""
    if rows:
        connection.execute(_insert(connection, table).on_conflict_do_nothing(), rows)


@cache
def _adding(
    table: Table, dialect: Dialect, sums: tuple[str, ...], returned: str | None
) -> tuple[str, Callable[[dict[str, Any]], Any]]:
    inserting = (postgresql_insert if dialect.name == "postgresql" else sqlite_insert)(table)
    statement: Any = inserting.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={name: table.c[name] + inserting.excluded[name] for name in sums},
    )
    if returned is not None:
        statement = statement.returning(table.c[returned])
    compiled = statement.compile(dialect=dialect)
    if compiled.positiontup is None:
        return compiled.string, dict
    return compiled.string, itemgetter(*compiled.positiontup)


def insert_or_add(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], sums: Sequence[str]) -> None:
    """Insert rows that give every column; where the key exists, add the columns named in ``sums`` to what is there."""
    if rows:
        statement, values = _adding(table, connection.dialect, tuple(sums), None)
        connection.exec_driver_sql(statement, [values(row) for row in rows])


def add_to(connection: Connection, table: Table, row: dict[str, Any], column: str) -> int:
    """Insert a row, or add its number in a column to what is there; the new number."""
    statement, values = _adding(table, connection.dialect, (column,), column)
    return int(connection.exec_driver_sql(statement, values(row)).scalar_one())
