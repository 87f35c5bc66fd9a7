"""Judgements by what was judged, in one SQLite file of the workspace: numbers, words of a fixed list, digests and record ids.

No content is in it. A digest still tells whether somebody said some very text, so what was judged of a record goes when the
record is erased.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from tracemill.core.errors import StoreError

FILE = "judge.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uses (record TEXT NOT NULL, key BLOB NOT NULL, PRIMARY KEY (record, key)) WITHOUT ROWID;
"""
_AT_ONCE = 500


class JudgeCache:
    """The cache of one workspace. Every answer is committed when it comes. Raises StoreError when the file cannot be used."""

    def __init__(self, workspace: Path) -> None:
        self.path = workspace / FILE
        try:
            self._connection = sqlite3.connect(self.path, isolation_level=None, timeout=30)
            self._connection.execute("PRAGMA secure_delete = ON")
            self._connection.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise StoreError(f"the judge's cache {self.path} cannot be opened: {error}") from error

    def get(self, key: bytes) -> bytes | None:
        """The answer to a question, if it was asked before."""
        found = self._connection.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return None if found is None else bytes(found[0])

    def put(self, key: bytes, answer: msgspec.Struct, records: Iterable[str]) -> None:
        """Remember an answer and the records whose content was asked about."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, msgspec.json.encode(answer)))
        self._connection.executemany("INSERT OR IGNORE INTO uses VALUES (?, ?)", [(record, key) for record in records])
        self._connection.execute("COMMIT")

    def use(self, key: bytes, records: Iterable[str]) -> None:
        """Remember that a known answer is about these records too."""
        self._connection.executemany("INSERT OR IGNORE INTO uses VALUES (?, ?)", [(record, key) for record in records])

    def count(self, records: Iterable[str]) -> int:
        """How many answers are about one of the records."""
        return len(self._keys(records))

    def forget(self, records: Iterable[str]) -> int:
        """Remove every answer about one of the records, for whomever else it was used; gives how many."""
        keys = self._keys(records)
        self._connection.execute("BEGIN IMMEDIATE")
        for table in ("answers", "uses"):
            self._connection.executemany(f"DELETE FROM {table} WHERE key = ?", [(key,) for key in keys])  # noqa: S608
        self._connection.execute("COMMIT")
        return len(keys)

    def _keys(self, records: Iterable[str]) -> set[bytes]:
        listed, found = list(records), set[bytes]()
        for start in range(0, len(listed), _AT_ONCE):
            part = listed[start : start + _AT_ONCE]
            marks = ",".join("?" * len(part))
            rows = self._connection.execute(f"SELECT key FROM uses WHERE record IN ({marks})", part)  # noqa: S608
            found.update(bytes(key) for (key,) in rows)
        return found

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
