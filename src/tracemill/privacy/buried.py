"""Tombstones kept a second time, beside the receipts: a database restored from a backup has lost the newest of them.

One line a tombstone in ``receipts/tombstones.log``: kind, digest in hex, time in microseconds. Nothing of what was erased.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard
from sqlalchemy import delete, select

from tracemill.core.codec import decode, to_plain
from tracemill.core.errors import RecordError
from tracemill.core.records import AnyRecord
from tracemill.privacy.lines import append_lines
from tracemill.store.engine import reading
from tracemill.store.hot import HotStore
from tracemill.store.tables import counters, quarantine
from tracemill.store.tombstones import Tombstones, erased, insert, known
from tracemill.store.writer import advance

LOG = "tombstones.log"
_AT_ONCE = 500
_BEGUN = "tombstones set again"
"""The counter that is there while tombstones were set and what they name was not removed yet."""


def append(folder: Path, stones: Tombstones) -> None:
    """Write tombstones down, on the device when this returns. Raises OSError."""
    if not stones:
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    append_lines(folder / LOG, "".join(f"{kind} {digest.hex()} {time}\n" for kind, digest, time in stones).encode())


def read(folder: Path) -> Tombstones:
    """Every tombstone that was written down; a line that a kill tore is left out: its erasure is still open."""
    path = folder / LOG
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, _, rest = line.partition(" ")
        digest, _, time = rest.partition(" ")
        if kind.isdecimal() and len(digest) == 32 and time.isdecimal():
            found.append((int(kind), bytes.fromhex(digest), int(time)))
    return found


def set_again(store: HotStore, folder: Path) -> list[str] | None:
    """Set the tombstones that the database has lost; the ids of records that it therefore must not have. None: nothing lost.

    Reads every record when, and only when, one was lost; and again until :func:`finished` was told that those records are
    gone. Raises StoreError, OSError.
    """
    stones = read(folder)
    with reading(store.engine) as connection:
        have = known(connection)
        begun = connection.execute(select(counters.c.value).where(counters.c.name == _BEGUN)).first() is not None
    lost = [stone for stone in stones if have.get(stone[:2], -1) < stone[2]]
    if not lost and not begun:
        return None
    with store.exclusive() as connection:
        insert(connection, lost)
        advance(connection, _BEGUN, 1)
    gone: list[str] = []
    for chunk in _chunks(store.scan()):
        with reading(store.engine) as connection:
            places = erased(connection, [to_plain(record) for record in chunk])
        gone += [chunk[place].id for place in places]
    return gone


def finished(store: HotStore) -> None:
    """What was lost is set, and what came back is gone. Raises StoreError."""
    with store.exclusive() as connection:
        connection.execute(delete(counters).where(counters.c.name == _BEGUN))


def refused_again(store: HotStore) -> int:
    """Remove from the quarantine the records that must not be there; how many. What is no record is left. Raises StoreError."""
    unpack, take_off = zstandard.ZstdDecompressor().decompress, store.gateway.veil.take_off
    gone = []
    with reading(store.engine) as connection:
        for row in connection.execute(select(quarantine.c.id, quarantine.c.raw)).all():
            try:
                plain = to_plain(decode(take_off(unpack(bytes(row.raw)))))
            except RecordError:
                continue
            if erased(connection, [plain]):
                gone.append(row.id)
    if gone:
        with store.exclusive() as connection:
            connection.execute(delete(quarantine).where(quarantine.c.id.in_(gone)))
    return len(gone)


def _chunks(records: Iterable[AnyRecord]) -> Iterator[list[AnyRecord]]:
    chunk: list[AnyRecord] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == _AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
