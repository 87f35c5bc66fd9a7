"""Leaks between splits: people, conversations, sessions and tasks that several have, and rows that say the same.

A version is built so that none of these happen; here they are looked for in what lies on disk. The rows' sources lead to
their interactions in the store; of records that are gone nothing is known, and they are counted. Held: a digest of 16 bytes
for each person, conversation, session, task and text, and for near duplicates the index of
:mod:`tracemill.quality.duplicates` (about 2.3 KB a row), which is left out beyond a number of rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tracemill.core.certificate import Check
from tracemill.core.examples import Example
from tracemill.core.records import AnyRecord, Interaction, User
from tracemill.dataset.checks import share, unknown
from tracemill.dataset.history import content_digest
from tracemill.dataset.parts import content

if TYPE_CHECKING:
    from tracemill.quality.duplicates import DuplicateIndex

SHARED = ("user", "conversation", "session", "task")
SIMILARITY = 0.8
MOST_COMPARED = 250_000
"""Rows up to which near duplicates are looked for."""


def people_of(records: list[AnyRecord]) -> list[bytes]:
    """Digests of the people whose interactions some records are; where none names anybody, of whom the records name."""
    users: list[User | None] = [record.user for record in records if isinstance(record, Interaction)]
    if not any(users):
        users = [getattr(record, "user", None) for record in records]
    return sorted({content_digest("user", user.key_id, user.pseudonym) for user in users if user is not None})


@dataclass
class Leaks:
    """Looks at rows one after another; memory as the module says."""

    most_compared: int = MOST_COMPARED
    rows: int = 0
    unresolved: int = 0
    _splits: dict[str, int] = field(default_factory=dict)
    _shared: dict[str, dict[bytes, int]] = field(default_factory=lambda: {kind: {} for kind in SHARED})
    _texts: dict[bytes, int] = field(default_factory=dict)
    _names: list[int] = field(default_factory=list)
    _index: DuplicateIndex | None = None
    _waiting: list[tuple[int, str]] = field(default_factory=list)

    def add(self, split: str, example: Example, sources: list[AnyRecord]) -> None:
        """Look at a row, given those of its sources that are stored."""
        bit = 1 << self._splits.setdefault(split, len(self._splits))
        if len(sources) < len(example.sources) or not any(isinstance(record, Interaction) for record in sources):
            self.unresolved += 1
        for kind, digest in _keys(example, sources):
            known = self._shared[kind]
            known[digest] = known.get(digest, 0) | bit
        said = content(example)
        digest = hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        self._texts[digest] = self._texts.get(digest, 0) | bit
        if self.rows < self.most_compared:
            self._waiting.append((self.rows, said))
            self._names.append(bit)
        self.rows += 1
        if len(self._waiting) >= 4096:
            self._compare()

    def _compare(self) -> None:
        from tracemill.quality.duplicates import Document, DuplicateIndex  # noqa: PLC0415 - heavy, and an optional part

        if self._index is None:
            self._index = DuplicateIndex(SIMILARITY)
        self._index.add(Document(str(number), said) for number, said in self._waiting)
        self._waiting.clear()

    def checks(self) -> list[Check]:
        """One check for each thing that splits may share."""
        found = []
        for kind in SHARED:
            known = self._shared[kind]
            crossing = sum(_several(mask) for mask in known.values())
            if self.unresolved:
                reason = f"sources of {self.unresolved} rows are not stored any more"
                check = share(f"split.shared_{kind}", crossing, len(known))
                found.append(check if check.state == "failed" else unknown(check.name, reason, shared=crossing))
            elif known:
                found.append(share(f"split.shared_{kind}", crossing, len(known)))
            else:
                found.append(_none(f"split.shared_{kind}", f"no row has a {kind}"))
        crossing = sum(_several(mask) for mask in self._texts.values())
        found.append(share("split.equal_content", crossing, len(self._texts)))
        found.append(self._near())
        return found

    def _near(self) -> Check:
        name = "split.near_duplicates"
        if self.rows > self.most_compared:
            return unknown(name, f"{self.rows} rows are more than the {self.most_compared} that are compared")
        if len(self._splits) < 2:
            return _none(name, "there is one split")
        try:
            self._compare()
        except ImportError as error:
            return unknown(name, f"{error.name} is not installed")
        assert self._index is not None
        crossing = clusters = 0
        for cluster in self._index.clusters():
            clusters += 1
            members = [cluster.kept, *(one.id for one in cluster.duplicates)]
            masks = [self._names[int(member)] for member in members]
            if len(set(masks)) > 1:
                crossing += len(members)
        return share(name, crossing, self.rows, clusters=clusters, similarity=SIMILARITY)


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


def _several(mask: int) -> bool:
    return mask & (mask - 1) != 0


def _none(name: str, reason: str) -> Check:
    """Passed, since there is nothing that could be shared."""
    return Check(name=name, state="passed", threshold=0.0, value=0.0, reason=reason)
