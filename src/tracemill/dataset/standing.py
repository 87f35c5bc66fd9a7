"""What workers of the merge look up about interactions, in files: ids, what fell, splits. A few bytes each, mapped."""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from tracemill.dataset.files import WholeFile, write_whole
from tracemill.dataset.ledger import Ledger
from tracemill.dataset.sort import KEY_BYTES

_NONE = 255
_STEM = "standing"


def write_standing(work: Path, ledger: Ledger) -> None:
    """Leave what the merge asks of a ledger, whose splits are drawn, in the working folder."""
    names = sorted({ledger.split(number) for number, kept in enumerate(ledger.selected) if kept})
    codes = {name: code for code, name in enumerate(names)}
    splits = bytes(codes[ledger.split(number)] if kept else _NONE for number, kept in enumerate(ledger.selected))
    columns = {
        "superseded": ledger.superseded,
        "duplicate": ledger.duplicate,
        "splits": splits,
        "bases": array("q", ledger.bases).tobytes(),
        "names": "\n".join(names).encode(),
    }
    for name, content in columns.items():
        write_whole(work / f"{_STEM}.{name}", bytes(content))
    with WholeFile(work / f"{_STEM}.ids", sync=False) as file:
        for raw in ledger.ids:
            file.write(raw)


class Ids(Sequence[bytes]):
    """Ids that lie one after another, 16 bytes each."""

    def __init__(self, content: bytes | mmap.mmap) -> None:
        self._content = content

    def __len__(self) -> int:
        return len(self._content) // KEY_BYTES

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[bytes]: ...
    def __getitem__(self, place: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        return self._content[place * KEY_BYTES : (place + 1) * KEY_BYTES]

    def __iter__(self) -> Iterator[bytes]:
        return (self[at] for at in range(len(self)))


class StandingFile:
    """What :func:`write_standing` left, read as it is asked for; see :class:`tracemill.dataset.merge.Standing`."""

    def __init__(self, work: Path) -> None:
        self.ids = Ids(_mapped(work / f"{_STEM}.ids"))
        self.superseded = _mapped(work / f"{_STEM}.superseded")
        self.duplicate = _mapped(work / f"{_STEM}.duplicate")
        self._splits = _mapped(work / f"{_STEM}.splits")
        self._bases = array("q", (work / f"{_STEM}.bases").read_bytes())
        self._names = (work / f"{_STEM}.names").read_text().split("\n")

    def number(self, owner: tuple[int, int]) -> int:
        """The number of an interaction that a draft names by shard and place."""
        shard, place = owner
        return self._bases[shard] + place

    def split(self, number: int) -> str:
        """The split of an interaction's group."""
        return self._names[self._splits[number]]


def _mapped(path: Path) -> mmap.mmap | bytes:
    """A file's content, not read into memory; nothing can be mapped of an empty one."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
