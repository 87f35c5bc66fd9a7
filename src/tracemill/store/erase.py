"""Removing records from the hot store, with everything only they used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, select, update

from tracemill.core.ids import id_bytes
from tracemill.store.chains import key_of, rolling
from tracemill.store.names import CHUNK, column_text
from tracemill.store.parts import PartWriter, references, release
from tracemill.store.reader import Reader
from tracemill.store.rollups import Rollup, referenced
from tracemill.store.rows import named_columns
from tracemill.store.tables import chains, names, quarantine, records
from tracemill.store.writer import advance

_decode = msgspec.msgpack.decode
_encode = msgspec.msgpack.Encoder().encode
_NAME_COLUMNS = ("producer", "platform", "session", "conversation", "model", "person")


def erase_records(connection: Connection, reader: Reader, ids: Sequence[str], part_threshold: int) -> int:
    """Remove records in the transaction of ``connection``; returns how many were there.

    A record that continued an erased one gets back the messages it shared. Roll-ups, parts, names, chain links and
    quarantined bytes of the same id are corrected. Reads everything it removes, one chunk at a time.
    """
    removed = 0
    uses: Counter[int] = Counter()
    rollup = Rollup(sign=-1)
    gone_names: set[int] = set()
    for start in range(0, len(ids), CHUNK):
        chunk = [id_bytes(identity) for identity in ids[start : start + CHUNK]]
        # The newest first: a record that continues another is gone before that one is, and is not made whole in vain.
        newest_first = select(records).where(records.c.id.in_(chunk)).order_by(records.c.place.desc())
        rows = connection.execute(newest_first).all()
        values = reader.names.values(connection, {number for row in rows for number in named_columns(row)})
        for row in rows:
            gone_names.update(named_columns(row))
            _erase_one(connection, reader, row, values, rollup, uses, part_threshold)
            removed += 1
        texts = [column_text(identity) for identity in ids[start : start + CHUNK]]
        connection.execute(delete(quarantine).where(quarantine.c.record.in_(texts)))
    release(connection, uses)
    rollup.store(connection, reader.names.numbers(connection, rollup.texts(), create=True))
    _drop_names(connection, gone_names)
    advance(connection, "generation", 1)
    return removed


def _erase_one(
    connection: Connection,
    reader: Reader,
    row: Any,
    values: dict[int, str],
    rollup: Rollup,
    uses: Counter[int],
    part_threshold: int,
) -> None:
    raw = reader.unpack(connection, bytes(row.body))
    uses.update(references(raw))
    plain = _decode(reader.encoded(connection, row, values))
    own = reader.body(connection, row).get("messages", [])[already_counted(row) :]
    platform = values[row.platform] if row.platform is not None else ""
    rollup.add(plain, own, platform, row.time, row.raw_bytes, len(row.body))
    for child in connection.execute(select(records).where(records.c.parent == row.place)).all():
        uses.update(_reparent(connection, reader, row, child, rollup, part_threshold))
    if plain["record"] == "interaction":
        response = plain.get("response")
        digests = rolling([*plain.get("messages", ()), *([] if response is None else [response])])
        keys = [key_of(digest) for digest in digests[-1:]]
        connection.execute(delete(chains).where(chains.c.key.in_(keys), chains.c.record == row.place))
    connection.execute(delete(records).where(records.c.place == row.place))


def already_counted(row: Any) -> int:
    """How many of the messages in a row's own body an earlier record has counted: the one it continued is archived."""
    return (row.shared or 0) if row.parent is None else 0


def _reparent(
    connection: Connection, reader: Reader, row: Any, child: Any, rollup: Rollup, part_threshold: int
) -> Counter[int]:
    """Let a child continue what the erased row continued; returns the references its old body no longer holds.

    What the erased row had counted of the messages they shared is counted with the child from now on.
    """
    values = reader.names.values(connection, set(named_columns(child)))
    plain = _decode(reader.encoded(connection, child, values))
    shared = min(child.shared, row.shared or 0)
    parent = row.parent if shared else None
    inherited = reader.trajectory(connection, row.place)[: child.shared]
    old = reader.unpack(connection, bytes(child.body))
    body = reader.body(connection, child)
    own = body.get("messages", [])
    platform = values[child.platform] if child.platform is not None else ""
    rollup.take_over(plain, own, [*inherited[shared:], *own], platform, child.time)
    body["messages"] = [*inherited[shared if parent is not None else 0 :], *own]
    writer = PartWriter(part_threshold)
    taken = writer.collect(body, child.raw_bytes)
    writer.store(connection, reader.compressor)
    packed = reader.compressor.compress(_encode(writer.refer(taken)), delta=parent is not None)
    rollup.resized(plain, platform, child.time, len(packed) - len(child.body))
    values_now = {"parent": parent, "shared": shared or None, "body": packed}
    connection.execute(update(records).where(records.c.place == child.place).values(values_now))
    return references(old)


def _drop_names(connection: Connection, numbers: set[int]) -> None:
    """Remove the names that no row refers to any more."""
    left = numbers - set(referenced(connection))
    for column in _NAME_COLUMNS:
        wanted = sorted(left)
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            statement = select(records.c[column]).where(records.c[column].in_(chunk)).distinct()
            left -= {number for (number,) in connection.execute(statement)}
    connection.execute(delete(names).where(names.c.id.in_(sorted(left))))
