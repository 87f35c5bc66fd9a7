"""The archive's catalogue in the database: which objects there are, and whose rows each holds.

An entry changes only from a status it is known to have (compare and swap), in the transaction that also takes the rows out
of the database or another object: a row is in exactly one place, whoever else archives at the same time or was stopped
and goes on later.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import Connection, and_, delete, insert, select, update

from tracemill.core.archive import ArchivedFile, ArchiveStatus
from tracemill.core.ids import microseconds, now
from tracemill.store.tables import archive_metadata, counters
from tracemill.store.writer import advance

_IDENTITY = "archive identity"
_decode = msgspec.msgpack.Decoder(ArchivedFile).decode
_encode = msgspec.msgpack.Encoder().encode
VERSION = "archive"
"""The counter that grows with every change of what is live: readers look at nothing else."""


def version(connection: Connection) -> int:
    """A number that grows with every change of what is live."""
    return int(connection.execute(select(counters.c.value).where(counters.c.name == VERSION)).scalar() or 0)


def identity(connection: Connection) -> int:
    """A number that no other database has, made when it is asked for first."""
    stored = connection.execute(select(counters.c.value).where(counters.c.name == _IDENTITY)).scalar()
    return int(stored) if stored is not None else advance(connection, _IDENTITY, secrets.randbits(62))


def entries(connection: Connection, statuses: Iterable[ArchiveStatus] = ("live",)) -> list[ArchivedFile]:
    """The objects of some statuses, in the order of the first record they hold."""
    statement = select(archive_metadata.c.body).where(archive_metadata.c.status.in_(list(statuses)))
    found = [_decode(bytes(body)) for (body,) in connection.execute(statement)]
    return sorted(found, key=lambda file: (file.first_place, file.id))


def add(connection: Connection, file: ArchivedFile) -> None:
    """Enter a new object."""
    connection.execute(insert(archive_metadata).values(id=file.id, **_columns(file)))
    if file.status == "live":
        advance(connection, VERSION, 1)


def change(connection: Connection, file: ArchivedFile, known: ArchiveStatus) -> bool:
    """Put an entry in place of the one of its id, if that has the status it is known to have. False when it has not."""
    entry = and_(archive_metadata.c.id == file.id, archive_metadata.c.status == known)
    changed = connection.execute(update(archive_metadata).where(entry).values(**_columns(file))).rowcount == 1
    if changed and "live" in (known, file.status):
        advance(connection, VERSION, 1)
    return changed


def remove(connection: Connection, identity: str, known: ArchiveStatus) -> None:
    """Remove the entry of an object that is deleted."""
    entry = and_(archive_metadata.c.id == identity, archive_metadata.c.status == known)
    connection.execute(delete(archive_metadata).where(entry))


def retire(connection: Connection, files: Sequence[ArchivedFile]) -> bool:
    """Retire live objects whose rows are elsewhere now; False when one of them is live no longer."""
    changed = [change(connection, msgspec.structs.replace(file, status="retired"), "live") for file in files]
    return all(changed)


def _columns(file: ArchivedFile) -> dict[str, object]:
    return {
        "status": file.status,
        "platform": file.platform,
        "day": file.day,
        "changed": microseconds(now()),
        "body": _encode(file),
    }


def owner() -> str:
    """Who writes: this host and process."""
    return f"{socket.gethostname()}/{os.getpid()}"


def abandoned(file: ArchivedFile) -> bool:
    """Whether nobody may write this pending object any more: its lease is over, or its process is gone."""
    host, _, process = file.owner.rpartition("/")
    if file.lease < microseconds(now()):
        return True
    if host != socket.gethostname() or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
