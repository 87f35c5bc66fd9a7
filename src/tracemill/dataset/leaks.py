"""Leaks between splits: people, conversations, sessions and tasks that several have, and rows that say the same.

A version is built so that none of these happen; here they are looked for in what lies on disk. The rows' sources lead to
their interactions in the store; of records that are gone nothing is known, and they are counted.

However many rows there are, all of them are looked at. What they have of people, conversations, sessions, tasks and texts
is sorted on disk, a digest of 16 bytes each. Near duplicates are those of :mod:`tracemill.dataset.near`, as in a build: the
texts lie compressed in a working folder, and in memory are 52 bytes a row, one shard's band keys and the candidates.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from tracemill.core.certificate import Check
from tracemill.core.examples import Example
from tracemill.core.records import AnyRecord, Interaction, User
from tracemill.core.steps import Progress
from tracemill.dataset.checks import share, unknown
from tracemill.dataset.history import content_digest
from tracemill.dataset.near import Comparison, clusters
from tracemill.dataset.parts import content, content_digest_of
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.site import Alone, Site
from tracemill.dataset.sort import RUN_BYTES, RunWriter, merge_runs
from tracemill.dataset.texts import Pattern, TextFiles, TextWriter

SHARED = ("user", "conversation", "session", "task")
SIMILARITY = 0.8
SHARD_ROWS = 50_000
"""Rows whose texts stand in one file, and whose band keys are in memory together."""
SHARD_BYTES = 64 * 1024 * 1024
"""Characters of texts after which the next file begins."""
_TEXT = len(SHARED)


def people_of(records: list[AnyRecord]) -> list[bytes]:
    """Digests of the people whose interactions some records are; where none names anybody, of whom the records name."""
    users: list[User | None] = [record.user for record in records if isinstance(record, Interaction)]
    if not any(users):
        users = [getattr(record, "user", None) for record in records]
    return sorted({content_digest("user", user.key_id, user.pseudonym) for user in users if user is not None})


class _Texts:
    """The texts of rows in a working folder, in files that are read one at a time."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._writer: TextWriter | None = None
        self._here = self._bytes = self._total = 0
        self.files: list[TextFiles] = []

    def add(self, said: str) -> None:
        """Append one row's text."""
        if self._writer is None:
            self._writer = TextWriter(*self._paths()).__enter__()
        self._writer.add(Pattern(self._here, 0.0, said))
        self._here += 1
        self._bytes += len(said)
        if self._here >= SHARD_ROWS or self._bytes >= SHARD_BYTES:
            self.close()

    def close(self) -> None:
        """Finish the file that is open."""
        if self._writer is None:
            return
        self._writer.__exit__(None, None, None)
        texts, narrow = self._paths()
        self.files.append(TextFiles(texts, narrow, self._total, b"\x01" * self._here))
        self._total += self._here
        self._writer, self._here, self._bytes = None, 0, 0

    def abandon(self) -> None:
        """Leave the file that is open unwritten."""
        if self._writer is not None:
            self._writer.__exit__(GeneratorExit, GeneratorExit(), None)
            self._writer = None

    def _paths(self) -> tuple[Path, Path]:
        number = len(self.files)
        return self._work / f"rows-{number:06d}.texts", self._work / f"rows-{number:06d}.narrow"


class Leaks:
    """Looks at rows one after another; memory as the module says. Use as a context manager, around an empty folder ``work``.

    The folder holds texts of the rows, and is the caller's to remove. ``run_bytes`` of what rows have are sorted at a time.
    """

    def __init__(self, work: Path, *, run_bytes: int = RUN_BYTES) -> None:
        self.rows = self.unresolved = 0
        self._work = work
        self._splits: dict[str, int] = {}
        self._split_of = array("I")
        self._seen = RunWriter(work, "seen", run_bytes=run_bytes)
        self._texts = _Texts(work)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._texts.abandon()

    def add(self, split: str, example: Example, sources: list[AnyRecord]) -> None:
        """Look at a row, given those of its sources that are stored."""
        number = self._splits.setdefault(split, len(self._splits))
        if len(sources) < len(example.sources) or not any(isinstance(record, Interaction) for record in sources):
            self.unresolved += 1
        where = number.to_bytes(4, "big")
        for kind, digest in set(_keys(example, sources)):
            self._seen.add(digest, bytes([SHARED.index(kind)]) + where)
        said = content(example)
        self._seen.add(content_digest_of(said), bytes([_TEXT]) + where)
        self._texts.add(said)
        self._split_of.append(number)
        self.rows += 1

    def checks(self, progress: Progress | None = None) -> list[Check]:
        """One check for each thing that splits may share. Once, when every row was added."""
        self._texts.close()
        total, crossing = _counted(merge_runs(self._seen.close(), self._work, "seen"))
        found = []
        for at, kind in enumerate(SHARED):
            name = f"split.shared_{kind}"
            check = share(name, crossing[at], total[at])
            if self.unresolved:
                reason = f"sources of {self.unresolved} rows are not stored any more"
                found.append(check if check.state == "failed" else unknown(name, reason, shared=crossing[at]))
            else:
                found.append(check if total[at] else _none(name, f"no row has a {kind}"))
        found.append(share("split.equal_content", crossing[_TEXT], total[_TEXT]))
        found.append(self._near(progress))
        return found

    def _near(self, progress: Progress | None) -> Check:
        name = "split.near_duplicates"
        if len(self._splits) < 2:
            return _none(name, "there is one split")
        crew = Alone(Site(self._work, Recipe(), 0))
        splits = np.frombuffer(self._split_of, np.uint32)
        how = Comparison(SIMILARITY)
        found = clusters(crew, self._work, self._texts.files, how, lambda row: row.to_bytes(8, "big"), progress)
        crossing = sum(len(one.numbers) for one in found if len(np.unique(splits[list(one.numbers)])) > 1)
        return share(name, crossing, self.rows, clusters=len(found), similarity=SIMILARITY)


def _counted(entries: Iterable[tuple[bytes, bytes]]) -> tuple[Sequence[int], Sequence[int]]:
    """By kind, how many different things the rows have, and how many of them stand in several splits."""
    total, crossing = [0] * (_TEXT + 1), [0] * (_TEXT + 1)
    for (_, kind), group in groupby(entries, key=lambda entry: (entry[0], entry[1][0])):
        splits = {payload for _, payload in group}
        total[kind] += 1
        crossing[kind] += len(splits) > 1
    return total, crossing


def _keys(example: Example, sources: list[AnyRecord]) -> list[tuple[str, bytes]]:
    found = [("user", digest) for digest in people_of([one for one in sources if isinstance(one, Interaction)])]
    for record in sources:
        if isinstance(record, Interaction):
            values: Mapping[str, Any] = {
                "conversation": record.conversation_id,
                "session": record.session_id,
                "task": record.task_id,
            }
            found += [
                (kind, content_digest(kind, record.platform, value))
                for kind, value in values.items()
                if value is not None
            ]
    if not sources and example.task_id is not None:
        found.append(("task", content_digest("task", example.platform, example.task_id)))
    return found


def _none(name: str, reason: str) -> Check:
    """Passed, since there is nothing that could be shared."""
    return Check(name=name, state="passed", threshold=0.0, value=0.0, reason=reason)
