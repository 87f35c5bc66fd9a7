"""What was erased and must not come back: digests that every new record is held against.

An erased record is known by its id. An erased person or conversation is known by a digest of their pseudonym or id: what
a late spool, a resend or a restored backup still has of them is refused, whatever id it bears. A person may come back as
a user: only records of a time up to their erasure are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Connection, delete, select

from tracemill.core.ids import microseconds
from tracemill.store.statements import insert_or_ignore, look_up
from tracemill.store.tables import tombstones

RECORD, PERSON, CONVERSATION = 1, 2, 3
Tombstones: TypeAlias = list[tuple[int, bytes, int]]
"""Kind, digest and time of each."""
ALWAYS = 2**62
"""The time of a tombstone that holds for records of any time."""
_LINKS = ("id", "interaction_id", "parent_id", "step_id")


def digest_of(kind: int, value: str) -> bytes:
    """The 16 bytes a tombstone knows a value by: nothing of the value itself stays."""
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16, person=bytes([kind])).digest()


def stones_of(kind: int, values: Iterable[str], time: int = ALWAYS) -> Tombstones:
    """The tombstones of some values, for records of a time up to ``time`` (microseconds)."""
    return [(kind, digest_of(kind, value), time) for value in values]


def insert(connection: Connection, stones: Tombstones) -> None:
    """Set tombstones; of two of one value the later time holds."""
    for kind, digest, time in stones:
        if time < ALWAYS:
            older = (tombstones.c.kind == kind) & (tombstones.c.digest == digest) & (tombstones.c.time < time)
            connection.execute(delete(tombstones).where(older))
    rows = [{"kind": kind, "digest": digest, "time": time} for kind, digest, time in stones]
    insert_or_ignore(connection, tombstones, rows)


def known(connection: Connection) -> dict[tuple[int, bytes], int]:
    """The time of every tombstone, by kind and digest."""
    found = connection.execute(select(tombstones.c.kind, tombstones.c.digest, tombstones.c.time))
    return {(int(kind), bytes(digest)): int(time) for kind, digest, time in found}


def any_set(connection: Connection) -> bool:
    """Whether there is any tombstone at all."""
    return connection.execute(select(tombstones.c.kind).limit(1)).first() is not None


def erased(connection: Connection, plains: Sequence[dict[str, Any]]) -> set[int]:
    """The places, in a batch of plain records, of those that must not come back."""
    named: list[list[tuple[int, bytes]]] = [_names(plain) for plain in plains]
    wanted = {digest for names in named for _, digest in names}
    columns = (tombstones.c.kind, tombstones.c.digest, tombstones.c.time)
    found: dict[tuple[int, bytes], int] = {}
    for kind, digest, time in look_up(connection, columns, tombstones.c.digest, wanted):
        found[kind, bytes(digest)] = max(time, found.get((kind, bytes(digest)), -ALWAYS))
    return {
        index
        for index, (plain, names) in enumerate(zip(plains, named, strict=True))
        if any(found.get(name, -ALWAYS) >= microseconds(plain["time"]) for name in names)
    }


def _names(plain: dict[str, Any]) -> list[tuple[int, bytes]]:
    names = [(RECORD, digest_of(RECORD, plain[link])) for link in _LINKS if isinstance(plain.get(link), str)]
    if isinstance(user := plain.get("user"), dict):
        names.append((PERSON, digest_of(PERSON, user["pseudonym"])))
    if isinstance(conversation := plain.get("conversation_id"), str):
        names.append((CONVERSATION, digest_of(CONVERSATION, conversation)))
    return names
