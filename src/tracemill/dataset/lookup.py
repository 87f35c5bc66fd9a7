"""What workers of the merge look up about interactions, in files: ids, what fell, splits. A few bytes each, mapped."""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from tracemill.dataset.files import WholeFile
from tracemill.dataset.id_list import IdList
from tracemill.dataset.ledger import Ledger

_NONE = 255
_FILE = "standing"
_WORD = 8
"""Columns begin at multiples of this."""


class Standing(Protocol):
    """What the merge asks about interactions: of the ledger, or of the files it was written to."""

    @property
    def ids(self) -> Sequence[bytes]:
        """The id of each interaction, by number."""

    @property
    def superseded(self) -> Sequence[int]:
        """Whether a later call repeats it."""

    @property
    def duplicate(self) -> Sequence[int]:
        """Whether a better one stands for it."""

    @property
    def compared(self) -> Sequence[int]:
        """Whether its answer was compared with another."""

    @property
    def times(self) -> Sequence[int]:
        """When it was, in microseconds since the epoch."""

    @property
    def newest(self) -> int:
        """The last of these times; 0 where there are none."""

    def number(self, owner: tuple[int, int]) -> int:
        """The number of an interaction that a draft names by shard and place."""

    def split(self, number: int) -> str | None:
        """The split of an interaction's group; None where it is in none."""


def write_standing(work: Path, ledger: Ledger) -> None:
    """Leave what the merge asks of a ledger, whose splits are drawn, in the working folder."""
    drawn = [ledger.split(number) if kept else None for number, kept in enumerate(ledger.selected)]
    names = sorted({name for name in drawn if name is not None})
    codes: dict[str | None, int] = {None: _NONE, **{name: code for code, name in enumerate(names)}}
    columns: dict[str, bytes | bytearray] = {
        "ids": bytes(ledger.ids.content),
        "superseded": ledger.superseded,
        "duplicate": ledger.duplicate,
        "compared": ledger.compared,
        "times": ledger.times.tobytes(),
        "splits": bytes(codes[name] for name in drawn),
        "bases": array("q", ledger.bases).tobytes(),
        "names": "\n".join(names).encode(),
    }
    lengths = {name: len(content) for name, content in columns.items()}
    with WholeFile(work / _FILE, sync=False) as file:
        for content in columns.values():
            file.write(bytes(content))
            file.write(bytes(-len(content) % _WORD))
        head = msgspec.json.encode(lengths)
        file.write(head + len(head).to_bytes(_WORD, "big"))


class StandingFile:
    """What :func:`write_standing` left, read as it is asked for; see :class:`Standing`."""

    def __init__(self, work: Path) -> None:
        with (work / _FILE).open("rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        end = len(whole) - _WORD
        lengths = msgspec.json.decode(whole[end - int.from_bytes(whole[end:], "big") : end], type=dict[str, int])
        columns: dict[str, memoryview] = {}
        at = 0
        for name, length in lengths.items():
            columns[name] = whole[at : at + length]
            at += length + -length % _WORD
        self.ids: Sequence[bytes] = IdList(columns["ids"])
        self.superseded: Sequence[int] = columns["superseded"]
        self.duplicate: Sequence[int] = columns["duplicate"]
        self.compared: Sequence[int] = columns["compared"]
        self.times: Sequence[int] = columns["times"].cast("q")
        self.newest = max(self.times, default=0)
        self._splits = columns["splits"]
        self._bases = columns["bases"].cast("q")
        self._names = bytes(columns["names"]).decode().split("\n")

    def number(self, owner: tuple[int, int]) -> int:
        """The number of an interaction that a draft names by shard and place."""
        shard, place = owner
        return self._bases[shard] + place

    def split(self, number: int) -> str | None:
        """The split of an interaction's group; None where it is in none, or was not selected."""
        code = self._splits[number]
        return None if code == _NONE else self._names[code]
