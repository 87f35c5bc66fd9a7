"""Rows leave the database for the archive, or come back from it: in bulk, and without a change of any sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, delete, select, update

from tracemill.store.names import CHUNK
from tracemill.store.parts import PartWriter, references, release
from tracemill.store.reader import Reader
from tracemill.store.rollups import Rollup, referenced
from tracemill.store.rows import named_columns
from tracemill.store.tables import chains, counters, names, records
from tracemill.store.writer import advance

_encode = msgspec.msgpack.Encoder().encode
_OWN_NAMES = ("session", "conversation", "person")
"""Name columns with an index, and with names that are seldom needed again."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A row as it was when it was sealed: if any of this has changed, what was sealed is not what is stored."""

    place: int
    parent: int | None
    shared: int | None
    size: int
    chain_key: int | None


def unchanged(connection: Connection, seen: Sequence[Seen]) -> bool:
    """Whether every row is still there as it was sealed."""
    columns = (records.c.place, records.c.parent, records.c.shared, records.c.raw_bytes)
    for start in range(0, len(seen), CHUNK):
        chunk = seen[start : start + CHUNK]
        statement = select(*columns).where(records.c.place.in_([row.place for row in chunk]))
        found = {row.place: (row.parent, row.shared, row.raw_bytes) for row in connection.execute(statement)}
        if any(found.get(row.place) != (row.parent, row.shared, row.size) for row in chunk):
            return False
    return True


class Producers:
    """The numbers of all producers' names, which no index gives: read whole once, then only of newer rows.

    Rows come to older places only where the generation says so, and then all are read again.
    """

    def __init__(self) -> None:
        self._numbers: set[int] = set()
        self._generation, self._place = -1, 0

    def numbers(self, connection: Connection) -> set[int]:
        """As of this transaction, or some more: of rows that are gone."""
        generation = _counter(connection, "generation")
        if generation != self._generation:
            self._numbers, self._place, self._generation = set(), 0, generation
        newest = _counter(connection, "place")
        statement = select(records.c.producer).where(records.c.place > self._place).distinct()
        self._numbers.update(number for (number,) in connection.execute(statement))
        self._place = newest
        return self._numbers

    def left(self) -> None:
        """Rows left, and nothing else was changed: what is known stands."""
        self._generation += 1


def _counter(connection: Connection, name: str) -> int:
    return connection.execute(select(counters.c.value).where(counters.c.name == name)).scalar() or 0


def leave(
    connection: Connection, reader: Reader, seen: Sequence[Seen], part_threshold: int, producers: Producers
) -> None:
    """Take sealed rows out of the database in the transaction of ``connection``.

    A row that stays and continued one that goes gets the shared messages back; its ``shared`` goes on saying how many
    of them were counted with an earlier record.
    """
    going = {row.place for row in seen}
    uses: Counter[int] = Counter()
    numbers: set[int] = set()
    order = sorted(going)
    rollup = Rollup()
    for start in range(0, len(order), CHUNK):
        chunk = order[start : start + CHUNK]
        for child in connection.execute(select(records).where(records.c.parent.in_(chunk))).all():
            if child.place not in going:
                uses.update(_detach(connection, reader, child, rollup, part_threshold))
    rollup.store(connection, reader.names.numbers(connection, rollup.texts(), create=True))
    for start in range(0, len(order), CHUNK):
        chunk = order[start : start + CHUNK]
        columns = (records.c.body, *(records.c[name] for name in _OWN_NAMES))
        for body, *own in connection.execute(select(*columns).where(records.c.place.in_(chunk))):
            uses.update(references(reader.unpack(connection, bytes(body))))
            numbers.update(number for number in own if number is not None)
        connection.execute(delete(records).where(records.c.place.in_(chunk)))
    keys = [row.chain_key for row in seen if row.chain_key is not None]
    for start in range(0, len(keys), CHUNK):
        found = select(chains.c.key, chains.c.record).where(chains.c.key.in_(keys[start : start + CHUNK]))
        own_keys = [key for key, record in connection.execute(found) if record in going]
        connection.execute(delete(chains).where(chains.c.key.in_(own_keys)))
    release(connection, uses)
    _drop_names(connection, numbers, producers)
    advance(connection, "generation", 1)
    producers.left()


def _detach(connection: Connection, reader: Reader, child: Any, rollup: Rollup, part_threshold: int) -> Counter[int]:
    """Give a row the messages it shared, and no parent; returns the references its old body no longer holds."""
    inherited = reader.trajectory(connection, child.parent)[: child.shared]
    old = reader.unpack(connection, bytes(child.body))
    body = reader.body(connection, child)
    body["messages"] = [*inherited, *body.get("messages", ())]
    writer = PartWriter(part_threshold)
    taken = writer.collect(body, child.raw_bytes)
    writer.store(connection, reader.compressor)
    packed = reader.compressor.compress(_encode(writer.refer(taken)))
    values = reader.names.values(connection, set(named_columns(child)))
    plain = msgspec.msgpack.decode(reader.encoded(connection, child, values))
    platform = values[child.platform] if child.platform is not None else ""
    rollup.resized(plain, platform, child.time, len(packed) - len(child.body))
    statement = update(records).where(records.c.place == child.place)
    connection.execute(statement.values(parent=None, shared=child.shared, body=packed))
    return references(old)


def _drop_names(connection: Connection, numbers: set[int], producers: Producers) -> None:
    """Remove those names of people and conversations that nothing in the database refers to any more.

    The same text may name a platform or a model (the roll-ups know those) or a producer.
    """
    left = numbers - set(referenced(connection)) - producers.numbers(connection)
    for column in _OWN_NAMES:
        wanted = sorted(left)
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            statement = select(records.c[column]).where(records.c[column].in_(chunk)).distinct()
            left -= {number for (number,) in connection.execute(statement)}
    wanted = sorted(left)
    for start in range(0, len(wanted), CHUNK):
        connection.execute(delete(names).where(names.c.id.in_(wanted[start : start + CHUNK])))


def in_partition(platform: int | None, day: int, cutoff: int) -> Any:
    """The condition of the rows of one platform and day that are older than a moment."""
    same = records.c.platform.is_(None) if platform is None else records.c.platform == platform
    begin = day * 86_400_000_000
    return and_(same, records.c.time >= begin, records.c.time < min(begin + 86_400_000_000, cutoff))
