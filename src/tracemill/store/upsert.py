"""Inserts: many rows at once, and the two that SQLite and PostgreSQL spell alike and SQLAlchemy keeps apart by dialect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert


def _insert(connection: Connection, table: Table) -> Any:
    return (postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert)(table)


@cache
def _compiled(table: Table, dialect: Dialect, ignore: bool) -> tuple[str, Callable[[dict[str, Any]], Any]]:
    inserting = (postgresql_insert if dialect.name == "postgresql" else sqlite_insert)(table)
    compiled = (inserting.on_conflict_do_nothing() if ignore else inserting).compile(dialect=dialect)
    if compiled.positiontup is None:  # psycopg takes parameters by name
        return compiled.string, dict
    return compiled.string, itemgetter(*compiled.positiontup)


def insert_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], *, ignore: bool = False) -> None:
    """Insert rows that give every column of the table. With ``ignore``, those whose key exists are left as they are.

    The statement is SQLAlchemy's; its own handling of each parameter is passed by, since our values are what both
    drivers take as they are, and it costs as much as the insert itself.
    """
    if rows:
        statement, values = _compiled(table, connection.dialect, ignore)
        connection.exec_driver_sql(statement, [values(row) for row in rows])


def insert_or_ignore(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows; those whose key exists are left as they are."""
    if rows:
        connection.execute(_insert(connection, table).on_conflict_do_nothing(), rows)


def insert_or_add(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], sums: Sequence[str]) -> None:
    """Insert rows; where the key exists, add the columns named in ``sums`` to what is there."""
    if not rows:
        return
    statement = _insert(connection, table)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={name: table.c[name] + statement.excluded[name] for name in sums},
        ),
        rows,
    )
