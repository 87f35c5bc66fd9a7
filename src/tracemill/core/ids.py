"""The only place that makes an id or reads the clock.

Ids are UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits, so that they sort by
time and an index over them grows at one end. They are carried as the canonical 36-character text.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RANDOM_BLOCK = 4096
_COUNTER_BITS = 12
_COUNTER_MAX = (1 << _COUNTER_BITS) - 1


class _RandomPool:
    """Random bytes fetched from the kernel in blocks.

    One ``os.urandom`` call an id would release the interpreter lock in the caller's thread, and with a busy
    background thread getting it back costs up to five milliseconds. A forked child drops the block it inherited, or
    parent and child would hand out the same ids.
    """

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler may capture while its thread is in here
        self._block = b""
        self._offset = 0
        self._milliseconds = 0
        self._counter = 0

    def take(self, milliseconds: int) -> tuple[int, int, bytes]:
        """Milliseconds, a counter that grows within one millisecond, and eight random bytes."""
        with self._lock:
            if milliseconds > self._milliseconds:
                counter = 0
            else:  # same millisecond, or the clock went back: stay where we were and count on
                milliseconds, counter = self._milliseconds, self._counter + 1
                if counter > _COUNTER_MAX:
                    milliseconds, counter = milliseconds + 1, 0
            self._milliseconds, self._counter = milliseconds, counter
            if self._offset + 8 > len(self._block):
                self._block, self._offset = os.urandom(_RANDOM_BLOCK), 0
            self._offset += 8
            return milliseconds, counter, self._block[self._offset - 8 : self._offset]


_pool = _RandomPool()
os.register_at_fork(after_in_child=_pool.after_fork)


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def days_ago(days: int) -> datetime:
    """The moment so many days before now, or the first that a calendar has."""
    try:
        return now() - timedelta(days=days)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def monotonic() -> float:
    """Seconds from a clock that never goes back; only differences mean anything."""
    return time.perf_counter()


def microseconds(moment: datetime) -> int:
    """Whole microseconds from the Unix epoch to an aware moment, without rounding."""
    return (moment - EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """The aware UTC moment of a count of microseconds; inverse of :func:`microseconds`."""
    return EPOCH + timedelta(microseconds=value)


def _format(milliseconds: int, first: int, last: int) -> str:
    value = (milliseconds & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | (first & 0xFFF) << 64 | 0b10 << 62
    text = f"{value | last & 0x3FFFFFFFFFFFFFFF:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_id() -> str:
    """A new UUIDv7 of this moment, as canonical text.

    Ids of one process sort in the order they were made: a 12-bit counter stands behind the milliseconds (RFC 9562,
    section 6.2, method 1), and a clock that is set back does not take it back.
    """
    milliseconds, counter, random = _pool.take(time.time_ns() // 1_000_000)
    return _format(milliseconds, counter, int.from_bytes(random))


def derived_id(*parts: str | int, moment: datetime | None = None) -> str:
    """A UUIDv7-shaped id that is a pure function of its arguments, for records read from a file.

    Importing the same file twice gives the same ids, so a rerun stores nothing twice. ``moment`` is the time the
    source itself states; a source that states none gets the epoch in the timestamp bits, never the time of import.
    """
    identity = "".join(f"{type(part).__name__}:{len(str(part))}:{part}" for part in parts)
    bits = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()
    milliseconds = max(0, microseconds(moment) // 1000) if moment is not None else 0
    return _format(milliseconds, int.from_bytes(bits[:2]), int.from_bytes(bits[2:10]))


def id_bytes(text: str) -> bytes:
    """The 16 bytes of an id. Raises ValueError when the text is not a UUID."""
    raw = bytes.fromhex(text.replace("-", ""))
    if len(raw) != 16:
        raise ValueError(f"not a UUID: {text!r}")
    return raw


def is_id(text: str) -> bool:
    """Whether a text is a UUID, so that :func:`id_bytes` takes it."""
    try:
        return bool(id_bytes(text))
    except ValueError:
        return False


def id_text(raw: bytes) -> str:
    """The canonical text of 16 id bytes."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
