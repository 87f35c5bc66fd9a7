"""How well rows hide among each other by what they carry beside their content: k-anonymity.

Rows with equal values of the quasi-identifiers are a class. A table is k-anonymous when every class has at least k members
(Sweeney, k-anonymity: a model for protecting privacy, 2002, definition 3). Members are people where rows say whose they are:
ten rows of one person hide nobody, and neither does one row of ten people. l-diversity is not looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

_DIGEST = 16


@dataclass(frozen=True, slots=True)
class Anonymity:
    """What the classes are like.

    ``smallest`` is the number of members of the smallest class (0 without rows): the k the table has. ``below`` rows are in
    classes of fewer members than ``k``; ``unique`` classes have one. ``sizes`` counts classes by the powers of two their
    members reach: ``{1: 3, 4: 1}`` are three of 1 and one of 4 to 7. Of ``unresolved`` rows it is not known any more of whom
    they all are: they count as rows that name nobody, so that nothing can be said to hold.
    """

    k: int
    columns: tuple[str, ...]
    rows: int
    classes: int
    smallest: int
    below: int
    unique: int
    sizes: dict[int, int]
    unresolved: int = 0

    @property
    def holds(self) -> bool:
        """Whether the rows are k-anonymous."""
        return self.rows > 0 and self.smallest >= self.k and not self.unresolved


@dataclass
class Classes:
    """Rows by their quasi-identifiers. Memory: a digest of 16 bytes a class and a member, no values."""

    columns: tuple[str, ...]
    k: int = 5
    unresolved: int = 0
    _rows: dict[bytes, int] = field(default_factory=dict)
    _members: dict[bytes, set[bytes]] = field(default_factory=dict)
    _unknown: dict[bytes, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError("k is at least 1")

    def add(self, values: Sequence[Hashable], people: Sequence[bytes] = (), *, resolved: bool = True) -> None:
        """Add a row, with digests of the people it is of; one that names nobody counts as somebody by itself.

        Not ``resolved`` is one that may be of others, who are not known any more.
        """
        if len(values) != len(self.columns):
            raise ValueError(f"{len(values)} values for {len(self.columns)} columns")
        self.unresolved += not resolved
        key = hashlib.blake2b(repr(tuple(values)).encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()
        self._rows[key] = self._rows.get(key, 0) + 1
        if people:
            self._members.setdefault(key, set()).update(people)
        else:
            self._unknown[key] = self._unknown.get(key, 0) + 1

    def result(self) -> Anonymity:
        """The figures of all rows added."""
        members = {
            key: min(rows, len(self._members.get(key, ())) + self._unknown.get(key, 0))
            for key, rows in self._rows.items()
        }
        sizes: dict[int, int] = {}
        for number in members.values():
            bound = 1 << (number.bit_length() - 1)
            sizes[bound] = sizes.get(bound, 0) + 1
        return Anonymity(
            k=self.k,
            columns=self.columns,
            rows=sum(self._rows.values()),
            classes=len(self._rows),
            smallest=min(members.values(), default=0),
            below=sum(rows for key, rows in self._rows.items() if members[key] < self.k),
            unique=sum(number == 1 for number in members.values()),
            sizes=dict(sorted(sizes.items())),
            unresolved=self.unresolved,
        )
