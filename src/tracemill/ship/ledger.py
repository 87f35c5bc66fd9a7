"""What was packed and what was acknowledged, in one SQLite file, so that nothing is sent twice and nothing unsent is deleted.

A package is ``pending`` from the moment its bytes are fixed, ``sent`` once the receiver has acknowledged it, ``set_aside``
when the receiver says that it can never take it, ``replaced`` when smaller ones took its place. A file is known by the SHA-256
of its name and content, in whatever package its content went (in several, when it was cut); its state is that of its packages
together.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from tracemill.core.errors import StoreError
from tracemill.core.ids import microseconds, now
from tracemill.ship.packing import Package
from tracemill.ship.scanning import Found

State: TypeAlias = Literal["pending", "sent", "set_aside", "replaced"]
_VERSION = 1
_SCHEMA = """
CREATE TABLE packages (
    sha256 TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'set_aside', 'replaced')),
    size INTEGER NOT NULL,
    made INTEGER NOT NULL,      -- microseconds since the epoch
    sent INTEGER,
    request_id TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX packages_by_state ON packages (state, made, sha256);
CREATE TABLE members (
    package TEXT NOT NULL REFERENCES packages (sha256),
    member TEXT NOT NULL,       -- what it is called in the package
    key BLOB NOT NULL,          -- SHA-256 of the file's name, NUL, and SHA-256 of its content
    name TEXT NOT NULL,         -- the file under the data folder
    sha256 TEXT NOT NULL,       -- of its content, before anything was redacted
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    size INTEGER NOT NULL,
    modified INTEGER NOT NULL,  -- nanoseconds since the epoch
    PRIMARY KEY (package, member, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_key ON members (key);
CREATE INDEX members_by_name ON members (name);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of a package and the file it comes from; ``sha256`` (hex) is that of the file's whole content."""

    member: str
    found: Found
    sha256: str

    @property
    def key(self) -> bytes:
        """What the file is known by."""
        return key_of(self.found.name, self.sha256)


def key_of(name: str, sha256: str) -> bytes:
    """What a file of this name with content of this hex SHA-256 is known by."""
    return hashlib.sha256(name.encode() + b"\0" + sha256.encode()).digest()


class Ledger:
    """The ledger of one state folder; used by one process, which holds the folder's lock."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError when the file is no ledger of ours or cannot be opened."""
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        except sqlite3.Error as error:
            raise StoreError(f"the ledger of what was sent ({path}) cannot be opened: {error}") from error
        if version > _VERSION:
            self.close()
            raise StoreError(f"the ledger {path} was written by a newer tracemill", hint="Upgrade this one.")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:  # whatever it was, no transaction stays open
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"the ledger of what was sent cannot be written: {error}") from error

    def record(self, packages: Iterable[tuple[Package, Sequence[Entry]]]) -> None:
        """Note packages that are about to stand in the outbox, all of them or none. One that is known keeps its state."""
        with self._transaction() as connection:
            self._insert(connection, packages)

    def _insert(self, connection: sqlite3.Connection, packages: Iterable[tuple[Package, Sequence[Entry]]]) -> None:
        for package, entries in packages:
            connection.execute(
                "INSERT INTO packages (sha256, state, size, made) VALUES (?, 'pending', ?, ?)"
                " ON CONFLICT (sha256) DO UPDATE SET state = 'pending' WHERE state = 'replaced'",
                (package.sha256, package.size, microseconds(now())),
            )
            connection.executemany(
                "INSERT INTO members VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (_row(package, entry) for entry in entries),
            )

    def replace(self, sha256: str, packages: Sequence[tuple[Package, Sequence[Entry]]]) -> None:
        """Put packages in the place of one that was too large, all at once."""
        with self._transaction() as connection:
            self._insert(connection, packages)
            connection.execute("UPDATE packages SET state = 'replaced' WHERE sha256 = ?", (sha256,))
            connection.execute("DELETE FROM members WHERE package = ?", (sha256,))

    def forget(self, sha256: str) -> None:
        """Take a package that was never sent out of the ledger, so that its files are new again."""
        with self._transaction() as connection:
            self._forget(connection, sha256)

    def _forget(self, connection: sqlite3.Connection, sha256: str) -> None:
        if connection.execute("DELETE FROM packages WHERE sha256 = ? AND state = 'pending'", (sha256,)).rowcount:
            connection.execute("DELETE FROM members WHERE package = ?", (sha256,))

    def acknowledge(self, sha256: str, request_id: str) -> None:
        """Note that the receiver has a package."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE packages SET state = 'sent', sent = ?, request_id = ? WHERE sha256 = ?",
                (microseconds(now()), request_id, sha256),
            )

    def set_aside(self, sha256: str) -> None:
        """Note that the receiver never takes a package."""
        with self._transaction() as connection:
            connection.execute("UPDATE packages SET state = 'set_aside' WHERE sha256 = ?", (sha256,))

    def reopen(self, sha256: str) -> None:
        """Let a package that was set aside wait again."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE packages SET state = 'pending' WHERE sha256 = ? AND state = 'set_aside'", (sha256,)
            )

    def pending(self) -> list[Package]:
        """Packages that wait for their acknowledgement, oldest first."""
        rows = self._connection.execute(
            "SELECT sha256, size FROM packages WHERE state = 'pending' ORDER BY made, sha256"
        )
        return [Package(*row) for row in rows]

    def package_state(self, sha256: str) -> State | None:
        """The state of a package, None for one that is not known."""
        row = self._connection.execute("SELECT state FROM packages WHERE sha256 = ?", (sha256,)).fetchone()
        return row[0] if row else None

    def request_id(self, sha256: str) -> str | None:
        """What the receiver called a package that it acknowledged."""
        row = self._connection.execute("SELECT request_id FROM packages WHERE sha256 = ?", (sha256,)).fetchone()
        return row[0] if row else None

    def entries(self, sha256: str) -> list[Entry]:
        """The members of a package, by their names."""
        rows = self._connection.execute(
            "SELECT member, name, device, inode, size, modified, sha256 FROM members WHERE package = ? ORDER BY member",
            (sha256,),
        )
        return [Entry(row[0], Found(*row[1:6]), row[6]) for row in rows]

    def known(self, found: Found) -> str | None:
        """The hex SHA-256 of a file that was packed and has not been touched since; None for any other."""
        row = self._connection.execute(
            "SELECT sha256 FROM members WHERE name = ? AND device = ? AND inode = ? AND size = ? AND modified = ?",
            (found.name, found.device, found.inode, found.size, found.modified),
        ).fetchone()
        return row[0] if row else None

    def packages_of(self, name: str, sha256: str) -> list[Package]:
        """The packages that a file's content is in."""
        rows = self._connection.execute(
            "SELECT DISTINCT packages.sha256, packages.size FROM members"
            " JOIN packages ON packages.sha256 = members.package WHERE key = ?",
            (key_of(name, sha256),),
        )
        return [Package(*row) for row in rows]

    def state(self, name: str, sha256: str) -> State | None:
        """The state of a file's content: ``sent`` only when all packages it is in are; None when it is in none."""
        rows = self._connection.execute(
            "SELECT DISTINCT state FROM members JOIN packages ON packages.sha256 = members.package WHERE key = ?",
            (key_of(name, sha256),),
        )
        states: set[State] = {row[0] for row in rows}
        order: tuple[State, ...] = ("pending", "set_aside", "sent")
        return next((state for state in order if state in states), None)


def _row(package: Package, entry: Entry) -> tuple[object, ...]:
    found = entry.found
    file = (found.name, entry.sha256, found.device, found.inode, found.size, found.modified)
    return (package.sha256, entry.member, entry.key, *file)
