"""Whether what is stored is sound: the database itself, every record, every reference, every sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, select, text

from tracemill.core.errors import RecordError, StoreError
from tracemill.store.names import CHUNK
from tracemill.store.parts import references
from tracemill.store.reader import Reader
from tracemill.store.rows import TYPE_CODES, TYPE_TAGS, named_columns
from tracemill.store.tables import daily, parts, records

_MOST = 100


def find_problems(connection: Connection, reader: Reader, archived: Mapping[str, int]) -> list[str]:
    """One sentence for everything that is wrong, at most 100; empty when the store is sound.

    ``archived`` counts, by type, the records that lie in the archive: the roll-ups sum those too.
    """
    problems: list[str] = []
    if connection.dialect.name == "sqlite":
        answers = connection.execute(text("PRAGMA integrity_check(20)")).scalars()
        problems.extend(f"database: {answer}" for answer in answers if answer != "ok")
    uses: Counter[int] = Counter()
    last = 0
    while len(problems) < _MOST:
        statement = select(records).where(records.c.place > last).order_by(records.c.place).limit(CHUNK)
        rows = connection.execute(statement).all()
        if not rows:
            problems.extend(_check_uses(connection, uses))
            break
        last = rows[-1].place
        values = reader.names.values(connection, {number for row in rows for number in named_columns(row)})
        for row in rows:
            problems.extend(_check_row(connection, reader, row, values, uses))
    problems.extend(_check_sums(connection, archived))
    return problems[:_MOST]


def _check_row(
    connection: Connection, reader: Reader, row: Any, values: dict[int, str], uses: Counter[int]
) -> list[str]:
    name = f"record {bytes(row.id).hex()}"
    missing = [number for number in named_columns(row) if number not in values]
    if missing:
        return [f"{name} refers to names that are gone: {missing}"]
    try:
        record = reader.record(connection, row, values)
        uses.update(references(reader.unpack(connection, bytes(row.body))))
    except (StoreError, RecordError) as error:
        return [f"{name}: {error.message}"]
    return [] if record.id.replace("-", "") == bytes(row.id).hex() else [f"{name} holds another id: {record.id}"]


def _check_uses(connection: Connection, uses: Counter[int]) -> list[str]:
    problems = []
    for number, stated in connection.execute(select(parts.c.id, parts.c.uses)):
        if uses[number] != stated:
            problems.append(f"part {number} states {stated} uses and has {uses[number]}")
    return problems


def _check_sums(connection: Connection, archived: Mapping[str, int]) -> list[str]:
    counts = connection.execute(select(records.c.type, func.count()).group_by(records.c.type))
    sums = connection.execute(select(daily.c.type, func.sum(daily.c.records)).group_by(daily.c.type))
    counted = {TYPE_CODES[tag]: number for tag, number in archived.items()}
    for code, number in counts:
        counted[code] = counted.get(code, 0) + int(number)
    summed = {code: int(number) for code, number in sums}
    return [
        f"the daily roll-up counts {summed.get(code, 0)} of type {tag}, the store holds {counted.get(code, 0)}"
        for code, tag in TYPE_TAGS.items()
        if summed.get(code, 0) != counted.get(code, 0)
    ]
