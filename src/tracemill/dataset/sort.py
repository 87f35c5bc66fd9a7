"""Sorting more than memory holds: runs that are sorted one by one, then merged.

An entry is a key of 16 bytes and a payload. Runs are files of entries; memory holds one run while it fills, and one entry
a run while they are merged. A run ends with some of its keys and where they stand, so that a range of keys can be read out
of it: ranges of all runs together (:func:`ranges`) can be sorted apart, by several workers.
"""

from __future__ import annotations

import heapq
import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias

from tracemill.core.errors import DatasetError
from tracemill.dataset.files import WholeFile

KEY_BYTES = 16
RUN_BYTES = 16 * 1024 * 1024
"""Size of the entries that one run collects in memory before it is written."""
FAN_IN = 128
"""Runs that are open at once."""
_ENTRY_BYTES = 180
"""What an entry takes in memory beside its payload."""
Entry: TypeAlias = tuple[bytes, bytes]
INDEX_EVERY = 16 * 1024
"""Bytes of entries after which a run's index names the next key."""
_HEADER = struct.Struct("<16sQ")
_PLACE = struct.Struct("<16sQ")
_FOOTER = struct.Struct("<Q8s")
_MAGIC = b"tmrun 1\n"


class RunWriter:
    """Writes entries as sorted runs named ``<stem>.<number>.run`` in a folder. :meth:`close` gives their paths."""

    def __init__(self, folder: Path, stem: str, *, run_bytes: int = RUN_BYTES, sync: bool = False) -> None:
        self._folder, self._stem, self._limit, self._sync = folder, stem, run_bytes, sync
        self._entries: list[Entry] = []
        self._size = 0
        self._paths: list[Path] = []

    def add(self, key: bytes, payload: bytes) -> None:
        """Add one entry, in any order."""
        self._entries.append((key, payload))
        self._size += len(payload) + _ENTRY_BYTES
        if self._size >= self._limit:
            self._spill()

    def close(self) -> list[Path]:
        """Write what is left. The runs together hold every entry once."""
        if self._entries:
            self._spill()
        return self._paths

    def _spill(self) -> None:
        self._entries.sort()
        path = self._folder / f"{self._stem}.{len(self._paths):04d}.run"
        _write_run(path, self._entries, sync=self._sync)
        self._paths.append(path)
        self._entries, self._size = [], 0


def _write_run(path: Path, entries: Iterable[Entry], *, sync: bool = False) -> None:
    index: list[bytes] = []
    due = 0
    with WholeFile(path, sync=sync) as file:
        for key, payload in entries:
            if file.bytes >= due:
                index.append(_PLACE.pack(key, file.bytes))
                due = file.bytes + INDEX_EVERY
            file.write(_HEADER.pack(key, len(payload)))
            file.write(payload)
        end = file.bytes
        file.write(b"".join(index))
        file.write(_FOOTER.pack(end, _MAGIC))


def _cut_off(path: Path) -> DatasetError:
    return DatasetError(f"{path.name} is cut off", hint="Remove the building folder and build again.")


def run_index(path: Path) -> tuple[list[tuple[bytes, int]], int]:
    """Some keys of a run with the places of their entries, and where the entries end. Raises DatasetError on damage."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < _FOOTER.size:
            raise _cut_off(path)
        file.seek(size - _FOOTER.size)
        end, magic = _FOOTER.unpack(file.read(_FOOTER.size))
        length = size - _FOOTER.size - end
        if magic != _MAGIC or length < 0 or length % _PLACE.size:
            raise _cut_off(path)
        file.seek(end)
        return list(_PLACE.iter_unpack(file.read(length))), end


def read_run(path: Path, low: bytes = b"", high: bytes | None = None) -> Iterator[Entry]:
    """The entries of one run, or those with keys from ``low`` (inclusive) up to ``high``. Raises DatasetError on damage."""
    index, end = run_index(path)
    at = max(0, bisect_left(index, (low, -1)) - 1)
    with path.open("rb", buffering=128 * 1024) as file:
        place = index[at][1] if index else end
        file.seek(place)
        while place < end:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise _cut_off(path)
            key, length = _HEADER.unpack(header)
            if high is not None and key >= high:
                return
            payload = file.read(length)
            place += _HEADER.size + length
            if len(payload) < length or place > end:
                raise _cut_off(path)
            if key >= low:
                yield key, payload


def ranges(runs: Sequence[Path], size: int) -> list[tuple[bytes, bytes | None]]:
    """Ranges of keys that together hold everything, each about ``size`` bytes of entries of all runs; at least one.

    A single key's entries are never parted, however many there are.
    """
    weights: list[tuple[bytes, int]] = []
    for path in runs:
        index, end = run_index(path)
        places = [place for _, place in index] + [end]
        weights.extend((key, after - place) for (key, place), after in zip(index, places[1:], strict=True))
    weights.sort()
    bounds: list[bytes] = []
    gathered = 0
    for key, weight in weights:
        if gathered >= size and (not bounds or key > bounds[-1]):
            bounds.append(key)
            gathered = 0
        gathered += weight
    return list(zip([b"", *bounds], [*bounds, None], strict=True))


def sorted_range(runs: Sequence[Path], low: bytes, high: bytes | None) -> list[Entry]:
    """All entries of all runs in a range of keys, sorted, in memory."""
    entries = [entry for path in runs for entry in read_run(path, low, high)]
    entries.sort()
    return entries


def merge_runs(runs: Sequence[Path], folder: Path, stem: str, *, fan_in: int = FAN_IN) -> Iterator[Entry]:
    """All entries of all runs, sorted. Runs beyond ``fan_in`` are merged into longer ones in ``folder`` first."""
    level = 0
    while len(runs) > fan_in:
        longer = []
        for start in range(0, len(runs), fan_in):
            path = folder / f"{stem}.{level}-{start // fan_in:04d}.merged"
            _write_run(path, heapq.merge(*map(read_run, runs[start : start + fan_in])))
            longer.append(path)
        runs, level = longer, level + 1
    return heapq.merge(*map(read_run, runs))


def grouped(entries: Iterable[Entry]) -> Iterator[tuple[bytes, list[bytes]]]:
    """Sorted entries by key: each key with all its payloads."""
    for key, group in groupby(entries, key=itemgetter(0)):
        yield key, [payload for _, payload in group]
