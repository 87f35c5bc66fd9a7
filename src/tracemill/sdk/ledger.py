"""Counters of one producer that survive a kill -9: a mapped file, changed in place without a system call.

Everything captured must be somewhere: captured = queued + spooled + stored + dead-lettered + dropped (by reason). The
ledger holds what only grows; how many records are queued or spooled is counted where they are.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass, field
from pathlib import Path

from tracemill.core.owned import own, undivided

DROP_REASONS = (
    "queue_full",
    "spool_full",
    "disk_full",
    "spool_error",
    "too_large",
    "too_deep",
    "unencodable",
    "invalid",
    "damaged",
    "closed",
    "internal_error",
    "killed",
    "redaction_failed",
    "no_consent",
)
"""Why a record was not kept: ``damaged`` frames were lost by the device, ``killed`` records were still in the memory of a
process that was killed, ``no_consent`` were refused by the store, as the person does not allow that they are kept; all
others never reached the spool. New reasons go to the end, as their place is in files."""
_NAMES = ("captured", "appended", "stored", "dead_lettered", *(f"dropped_{reason}" for reason in DROP_REASONS))
_INDEX = {name: index for index, name in enumerate(_NAMES, start=1)}
CAPTURED, APPENDED = _INDEX["captured"], _INDEX["appended"]
_MAGIC = b"TMLEDGR1"
_BYTES = 8 + 8 * 64  # room for more counters than there are


@dataclass(frozen=True, slots=True)
class Counts:
    """Where everything captured is. ``dropped`` is by reason, without those that never happened."""

    captured: int = 0
    queued: int = 0
    spooled: int = 0
    stored: int = 0
    dead_lettered: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def unaccounted(self) -> int:
        """Captured records that are nowhere: 0, or what is in the memory of a process that we cannot look into."""
        known = self.queued + self.spooled + self.stored + self.dead_lettered + sum(self.dropped.values())
        return self.captured - known

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.captured + other.captured,
            self.queued + other.queued,
            self.spooled + other.spooled,
            self.stored + other.stored,
            self.dead_lettered + other.dead_lettered,
            {
                reason: self.dropped.get(reason, 0) + other.dropped.get(reason, 0)
                for reason in sorted(self.dropped.keys() | other.dropped.keys())
            },
        )


class Ledger:
    """The counters of one producer. Whoever changes one holds the producer's lock."""

    def __init__(self, path: Path | None = None) -> None:
        """Open or make the file; without a path the counters are in memory alone. Raises OSError."""
        with undivided():
            self._map = mmap.mmap(-1, _BYTES) if path is None else _mapped(path)
            self.words = memoryview(self._map).cast("Q")
            """The counters themselves, for whoever must not call a function; see CAPTURED and APPENDED."""
            if path is not None:
                own(self)

    def take_over(self, other: Ledger) -> None:
        """Add all that another ledger counted."""
        for name in _NAMES:
            self.add(name, other.get(name))

    def get(self, name: str) -> int:
        """The value of a counter."""
        return self.words[_INDEX[name]]

    def set(self, name: str, value: int) -> None:
        """Give a counter a value."""
        self.words[_INDEX[name]] = value

    def add(self, name: str, more: int = 1) -> None:
        """Add to a counter."""
        self.words[_INDEX[name]] += more

    def drop(self, reason: str, number: int = 1) -> None:
        """Count records that are not kept."""
        self.add(f"dropped_{reason}" if reason in DROP_REASONS else "dropped_internal_error", number)

    def counts(self, *, queued: int = 0, spooled: int = 0) -> Counts:
        """The counters with what was counted elsewhere."""
        dropped = {reason: number for reason in DROP_REASONS if (number := self.get(f"dropped_{reason}"))}
        return Counts(self.get("captured"), queued, spooled, self.get("stored"), self.get("dead_lettered"), dropped)

    def close(self) -> None:
        """Unmap; the file stays. Closing twice is fine."""
        with undivided():
            self.words.release()
            self._map.close()


def _mapped(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size < _BYTES:
            os.pwrite(descriptor, _MAGIC.ljust(_BYTES, b"\0"), 0)  # written, not truncated: room must exist
        return mmap.mmap(descriptor, _BYTES)
    finally:
        os.close(descriptor)  # the mapping lives without it
