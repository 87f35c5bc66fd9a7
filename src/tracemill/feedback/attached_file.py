"""What was said of interactions, in a file: what many workers look up without any of them holding all of it."""

from __future__ import annotations

import pickle
import sqlite3
import weakref
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tracemill.feedback.attach import Attachments

T = TypeVar("T")


class AttachedFile(Mapping[str, T]):
    """A mapping from ids of interactions to what was said of them, in a SQLite file that is only read. Sent as its path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    @classmethod
    def write(cls, path: Path, entries: Mapping[str, T]) -> AttachedFile[T]:
        """The file of some entries, in place of one that is there."""
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=OFF")
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("CREATE TABLE said (id TEXT PRIMARY KEY, entries BLOB NOT NULL) WITHOUT ROWID")
            rows = ((key, pickle.dumps(entries[key])) for key in sorted(entries))
            connection.executemany("INSERT INTO said VALUES (?, ?)", rows)
            connection.commit()
        return cls(path)

    def __getstate__(self) -> Path:
        return self._path

    def __setstate__(self, path: Path) -> None:
        self._path, self._connection = path, None

    def __getitem__(self, key: str) -> T:
        row = self._open().execute("SELECT entries FROM said WHERE id = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        found: T = pickle.loads(row[0])  # noqa: S301 - our own, see write
        return found

    def __iter__(self) -> Iterator[str]:
        for (key,) in self._open().execute("SELECT id FROM said ORDER BY id"):
            yield key

    def __len__(self) -> int:
        return int(self._open().execute("SELECT count(*) FROM said").fetchone()[0])

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?immutable=1", uri=True)
            weakref.finalize(self, self._connection.close)
        return self._connection


def on_disk(attachments: Attachments, path: Path) -> Attachments:
    """The same attachments with what was said of interactions in a file, out of memory."""
    file = AttachedFile.write(path, attachments._by_interaction)
    return replace(attachments, _by_interaction=file)  # type: ignore[arg-type]  # nothing is added any more
