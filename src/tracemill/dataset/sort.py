"""Sorting more than memory holds: runs that are sorted one by one, then merged.

An entry is a key of 16 bytes and a payload. Runs are files of entries; memory holds one run while it fills, and one entry
a run while they are merged.
"""

from __future__ import annotations

import heapq
import struct
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
_HEADER = struct.Struct("<16sQ")


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
    with WholeFile(path, sync=sync) as file:
        for key, payload in entries:
            file.write(_HEADER.pack(key, len(payload)))
            file.write(payload)


def read_run(path: Path) -> Iterator[Entry]:
    """The entries of one run. Raises DatasetError when it is cut off."""
    with path.open("rb", buffering=128 * 1024) as file:
        while header := file.read(_HEADER.size):
            if len(header) < _HEADER.size:
                raise DatasetError(f"{path.name} is cut off", hint="Remove the building folder and build again.")
            key, length = _HEADER.unpack(header)
            payload = file.read(length)
            if len(payload) < length:
                raise DatasetError(f"{path.name} is cut off", hint="Remove the building folder and build again.")
            yield key, payload


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
