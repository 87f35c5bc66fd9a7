"""What happens behind a capture: the state of one process's client, and the spooler that writes what was handed over.

A :class:`State` belongs to one process; a forked child gets a new one. The application's threads use :meth:`State.write`
and :meth:`State.hand_over`, which touch memory only. Everything else runs in two daemon threads, the spooler here and the
deliverer in :mod:`tracemill.sdk.deliverer`; only the deliverer waits for the store, so one that hangs holds up nobody else.
"""

from __future__ import annotations

import errno
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tracemill.core.codec import encode
from tracemill.core.errors import RecordError, TracemillError
from tracemill.core.ids import monotonic, new_id
from tracemill.core.records import AnyRecord
from tracemill.core.settings import Settings
from tracemill.sdk.ledger import APPENDED, CAPTURED, Counts, Ledger
from tracemill.sdk.plain import Converter
from tracemill.sdk.segment import FRAME_BYTES, HEADER_BYTES, MARKER, Segment, checksum, frame_size
from tracemill.sdk.spool import ProducerFolder, bytes_used
from tracemill.sdk.wake import Wake

logger = logging.getLogger("tracemill")
SMALLEST_SEGMENT = 64 * 1024
SPARES = 2
"""Segments made ahead of need, from when the current one is a quarter full."""
ALONE_BYTES = 64 * 1024
"""A larger frame gets a segment of its own, so that nobody finds the lock taken while it is copied."""
_MOMENT = 0.0001
_MOMENTS = 20
_IMPATIENT = 1.0
_OPEN_AGAIN = 1.0
_LOOK_AT_LOSS = 0.5
_LONGEST_SYNC_PAUSE = 60.0
_BETWEEN_COMPLAINTS = 60.0
_QUIET = ("closed", "killed", "damaged")

Item: TypeAlias = tuple[int, AnyRecord | bytes, int]
"""What waits in memory: its sequence number, the record (or the bytes of one), and its estimated size."""

Redact: TypeAlias = Callable[[bytes], bytes]
"""Makes of an encoded record what may be written. Raises RecordError for one that may not."""
OpenRedaction: TypeAlias = Callable[[], Redact]


class State:
    """Everything a client of one process holds: queue, segments, counters. ``lock`` guards segments and counters.

    The lock is held for moments only and never while a system call is made. Whoever must not wait asks ``lock.locked()``
    first: a signal handler or a finalizer may run while its own thread is inside.
    """

    def __init__(self, path: Path, settings: Settings, open_redaction: OpenRedaction | None = None) -> None:
        self.path = path
        self.settings = settings
        self.open_redaction = open_redaction
        """Makes what records are redacted with before they are spooled; None where they are spooled as they come."""
        self.redact: Redact | None = None
        self.producer = new_id()
        self.folder: ProducerFolder | None = None
        self.ledger = Ledger()  # in memory until the folder is there
        self.lock = threading.Lock()
        self.at_work = threading.Lock()
        """Held by the spooler, or by a thread that does its work."""
        self.queue: deque[Item] = deque()
        self.queued_bytes = 0
        self.in_hand: Item | None = None
        """What the spooler took from the queue and has not written yet."""
        self.late: deque[tuple[int, int, str]] = deque()
        """What could not be counted at once: sequence number, bytes that joined the queue, why it was dropped if it was."""
        self.wake = Wake()
        self.stopping = False
        self.closed = False
        self._numbers = itertools.count()
        self.current: Segment | None = None
        self.spares: deque[Segment] = deque()
        self.segments: list[Segment] = []
        """Oldest first; all but the current one are finished. The spares are not among them."""
        self.retired: deque[Segment] = deque()
        """Delivered segments that the spooler has yet to close."""
        self.blocked: str | None = None
        """Why nothing more can be written, while that is so."""
        self.open_again_at = self.impatient_until = self.complained_at = float("-inf")
        self.loss = Loss()
        self.converter = Converter()
        self.sync_begun = self.sync_done = 0
        self.sync_failures = 0
        self.sync_again_at = float("-inf")

    # -- the application's threads: memory only

    def take_number(self) -> int:
        """The sequence number of the next record."""
        return next(self._numbers)  # one step of the interpreter, so threads never get the same

    def write(self, payload: bytes, number: int) -> bool:
        """Copy an encoded record into the current segment, or a spare one. False when that would mean to wait.

        Within the lock no function is called unless the segment is full: the interpreter hands over to another thread at
        calls, and this way hardly ever leaves somebody with the lock.
        """
        crc, length = checksum(payload), len(payload)
        if self.lock.locked():
            return False
        with self.lock:
            segment = self.current
            if segment is None:
                return False
            start = segment.written
            end = start + FRAME_BYTES + (length + 7 & -8)
            if end > segment.size:
                segment = self.take_spare(end - start + HEADER_BYTES)
                if segment is None:
                    return False
                start = segment.written
                end = start + FRAME_BYTES + (length + 7 & -8)
            words, counters = segment.words, self.ledger.words
            if number >= counters[CAPTURED]:
                counters[CAPTURED] = number + 1
            segment.map[start + FRAME_BYTES : start + FRAME_BYTES + length] = payload
            words[(start >> 3) + 1] = crc
            words[start >> 3] = length << 32 | MARKER
            segment.written = end
            segment.appended += 1
            counters[APPENDED] += 1
            wanted = end > segment.size >> 2 and len(self.spares) < SPARES
        if wanted:
            self.wake.set()
        return True

    def make_way(self, length: int) -> bool:
        """Let the other threads run for a moment, two milliseconds at most: one of them was interrupted while it held the
        lock, or is making segments. False when that did not help; then nobody waits again for a second.
        """
        if self.blocked or self.closed or monotonic() < self.impatient_until:
            return False
        for _ in range(_MOMENTS):
            time.sleep(_MOMENT)
            if not self.lock.locked() and (self.spares or (self.current is not None and self.current.room(length))):
                return True
        self.impatient_until = monotonic() + _IMPATIENT
        return False

    def take_spare(self, least: int) -> Segment | None:
        """Go on with a segment made ahead, if there is one large enough. The caller holds the lock; no system call."""
        if not self.spares or self.spares[0].size < least:
            return None
        self.current = self.spares.popleft()
        self.segments.append(self.current)
        return self.current

    def hand_over(self, number: int, item: AnyRecord | bytes, size: int) -> None:
        """Put a record into the queue for the spooler, or count it as dropped when there is no room."""
        if self.lock.locked():
            reason = self._no_room(size)
            self.late.append((number, 0 if reason else size, reason))
        else:
            with self.lock:
                reason = self._no_room(size)
                self._note(number, 0 if reason else size, reason)
        if not reason:
            self.queue.append((number, item, size))
        self.wake.set()

    def drop(self, number: int, reason: str) -> None:
        """Count a captured record that is not kept."""
        self.late.append((number, 0, reason))
        self.wake.set()

    def _no_room(self, size: int) -> str:
        if self.closed:
            return "closed"
        if size > self.settings.queue_max_bytes:
            return "too_large"
        if (
            len(self.queue) >= self.settings.queue_max_records
            or self.queued_bytes + size > self.settings.queue_max_bytes
        ):
            return self.blocked or "queue_full"
        return ""

    # -- counting, within the lock

    def _note(self, number: int, size: int, reason: str) -> None:
        self.queued_bytes += size
        if number >= self.ledger.words[CAPTURED]:
            self.ledger.words[CAPTURED] = number + 1
        if reason:
            self.ledger.drop(reason)

    def fold_late(self) -> None:
        """Count what could not be counted at once. The caller holds the lock."""
        while self.late:
            self._note(*self.late.popleft())

    def spooled(self) -> int:
        """Frames in our segments that are not delivered."""
        return sum(segment.appended - segment.delivered_frames for segment in list(self.segments))

    def counts(self) -> Counts:
        """Where everything captured is at this moment."""
        with self.lock:
            self.fold_late()
            waiting = len(self.queue) + (self.in_hand is not None)
            return self.ledger.counts(queued=waiting, spooled=self.spooled())

    # -- the spooler

    def open(self) -> None:
        """Make the producer's folder and its first segment. Does nothing when they are there. Raises no OSError."""
        if self.folder is not None or monotonic() < self.open_again_at:
            return
        try:
            folder = ProducerFolder.create(self.path, self.producer)
        except OSError as error:
            self.open_again_at = monotonic() + _OPEN_AGAIN
            self.blocked = reason_of(error)
            return
        with self.lock:
            folder.ledger.take_over(self.ledger)
            self.ledger, self.folder = folder.ledger, folder
        self.add_segment()

    def segment_bytes(self) -> int:
        """The size of an ordinary segment: a quarter of the spool at most, so that there is room for a few."""
        return max(SMALLEST_SEGMENT, min(self.settings.spool_segment_bytes, self.settings.spool_max_bytes // 4))

    def make_segment(self, least: int = 0, *, exact: bool = False) -> Segment | None:
        """A new segment with room for ``least`` bytes, smaller than usual if need be; None, and ``blocked`` says why."""
        if self.folder is None or self.closed:
            return None
        size = least if exact else max(self.segment_bytes(), least)
        try:
            left = self.settings.spool_max_bytes - bytes_used(self.path)
        except OSError as error:  # out of file descriptors, for one
            self.blocked = reason_of(error)
            return None
        while True:
            if size > left:
                reason = "spool_full"
            else:
                try:
                    segment = self.folder.new_segment(size)
                except OSError as error:
                    reason = reason_of(error)
                else:
                    self.blocked = None
                    return segment
            if size // 4 < max(least, SMALLEST_SEGMENT):
                self.blocked = reason
                return None
            size //= 4

    def add_segment(self, least: int = 0) -> bool:
        """Put a fresh segment in place of the current one. False when none can be had."""
        with self.lock:
            if self.take_spare(least) is not None:
                return True
        fresh = self.make_segment(least)
        if fresh is None:
            return False
        with self.lock:
            self.segments.append(fresh)
            self.current = fresh
        return True

    def put(self, payload: bytes) -> bool:
        """Write the record in hand, making room first. False when there is none (``blocked`` says why)."""
        needed = HEADER_BYTES + frame_size(len(payload))
        if needed > ALONE_BYTES:
            return self._put_alone(payload, needed)
        crc = checksum(payload)
        while True:
            with self.lock:
                if self.current is not None and self.current.room(len(payload)):
                    self.current.append(payload, crc)
                    self.ledger.words[APPENDED] += 1
                    self._done()
                    return True
            if not self.add_segment(needed):
                return False

    def _put_alone(self, payload: bytes, needed: int) -> bool:
        alone = self.make_segment(needed, exact=True)
        if alone is None:
            return False
        try:
            alone.append(payload)
        except OSError as error:
            alone.remove()
            self.blocked = reason_of(error)
            return False
        with self.lock:
            self.segments.insert(max(len(self.segments) - 1, 0), alone)  # the last one is being written
            self.ledger.words[APPENDED] += 1
            self._done()
        return True

    def _done(self) -> None:
        if self.in_hand is not None:
            self.queued_bytes = max(0, self.queued_bytes - self.in_hand[2])
            self.in_hand = None

    def take_item(self) -> Item | None:
        """The next record of the queue, which is in hand from now on; None when there is none."""
        with self.lock:
            self.fold_late()
            if not self.queue:
                self.queued_bytes = 0  # should an interrupt out of a capture have counted what never came
                return None
            self.in_hand = self.queue.popleft()
            return self.in_hand

    def put_back(self) -> None:
        """Let the record in hand wait in the queue again."""
        with self.lock:
            if self.in_hand is not None:
                self.queue.appendleft(self.in_hand)
                self.in_hand = None

    def lose(self, reason: str) -> None:
        """Count the record in hand as dropped."""
        with self.lock:
            self.ledger.drop(reason)
            self._done()

    def waits(self, before: int) -> bool:
        """Whether a record with a sequence number below ``before`` is still in memory."""
        with self.lock:
            waiting = [*self.queue, *([self.in_hand] if self.in_hand is not None else [])]
        return any(number < before for number, _, _ in waiting)

    def close_files(self) -> None:
        """Close everything; the files stay."""
        for segment in [*self.segments, *self.retired, *self.spares]:
            segment.close()
        if self.folder is not None:
            self.folder.close()


def reason_of(error: OSError) -> str:
    """The drop reason of an error of the file system."""
    return "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "spool_error"


class Loss:
    """Says in the log when records begin to be lost, and when that is over."""

    def __init__(self) -> None:
        self.going_on = False
        self._total = 0
        self._at_start = 0
        self._last = float("-inf")

    def look(self, counts: Counts, *, blocked: bool) -> None:
        """Compare with the last look."""
        total = sum(number for reason, number in counts.dropped.items() if reason not in _QUIET)
        if total > self._total:
            self._last = monotonic()
            if not self.going_on:
                self.going_on, self._at_start = True, self._total
                reasons = ", ".join(sorted(set(counts.dropped) - set(_QUIET)))
                logger.warning(
                    "tracemill is losing records (so far: %s). Your application is not affected; see `tracemill doctor`.",
                    reasons,
                )
        elif self.going_on and not blocked and monotonic() - self._last > 2 * _LOOK_AT_LOSS:
            self.going_on = False
            logger.warning("tracemill keeps all records again; %d were lost", total - self._at_start)
        self._total = total


def spool_forever(state: State) -> None:
    """The spooler: runs until the state is stopping and its queue is empty."""
    while True:
        state.wake.wait(_pause(state))
        with state.at_work:
            run_once(state)
        if state.stopping and (not state.queue or state.blocked):
            return


def _pause(state: State) -> float | None:
    if state.stopping:
        return 0.0
    if state.settings.durability == "power":
        return state.settings.sync_interval_ms / 1000
    return _LOOK_AT_LOSS if state.loss.going_on or state.blocked or state.folder is None else None


def run_once(state: State) -> None:
    """One round of the spooler, with ``at_work`` held: write what waits, have segments ready, sync, close what is done with."""
    try:
        state.open()
        write_queue(state)
        prepare_spare(state)
        if state.settings.durability == "power" and monotonic() >= state.sync_again_at:
            sync(state)
        close_finished(state)
        state.loss.look(state.counts(), blocked=state.blocked is not None)
    except Exception as error:  # noqa: BLE001
        # The thread must outlive any error of ours, or nothing is captured any more.
        if monotonic() - state.complained_at > _BETWEEN_COMPLAINTS:
            state.complained_at = monotonic()
            logger.warning("tracemill's spooler failed (%s); it goes on", where(error))
        if state.in_hand is not None:
            state.lose("internal_error")


def where(error: BaseException) -> str:
    """An error's type and the line that raised it; its message may hold what the application captured."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}{place}"


def write_queue(state: State) -> None:
    """Encode and write what callers handed over, in order, until the queue is empty or there is no room."""
    most = min(state.settings.record_max_bytes, state.settings.spool_max_bytes - 2 * HEADER_BYTES)
    while (taken := state.take_item()) is not None:
        item = taken[1]
        try:
            payload = item if isinstance(item, bytes) else encode_any(state, item)
            payload = redacted(state, payload)
        except RecordError as error:
            state.lose(error.reason)
            continue
        if len(payload) > most:
            state.lose("too_large")
        elif not state.put(payload):
            state.put_back()  # waits in memory, which is bounded, until there is room
            return


def encode_any(state: State, record: AnyRecord) -> bytes:
    """The record encoded, with values of the host made plain where need be. Raises RecordError."""
    try:
        return encode(record)
    except RecordError:
        return encode(state.converter.convert(record))
    except Exception as error:  # noqa: BLE001
        # Some dataclass of the host may raise anything when its fields are read.
        raise RecordError("unencodable", type(error).__name__) from None


def redacted(state: State, payload: bytes) -> bytes:
    """The record as it may be written; what cannot be redacted is lost, and counted. Raises RecordError."""
    if state.open_redaction is None:
        return payload
    try:
        if state.redact is None:
            state.redact = state.open_redaction()
        return state.redact(payload)
    except RecordError:
        raise
    except TracemillError as error:
        if monotonic() - state.complained_at > _BETWEEN_COMPLAINTS:
            state.complained_at = monotonic()
            logger.warning("tracemill cannot redact a record and does not keep it: %s", error.message)
        raise RecordError("redaction_failed", error.message) from error


def prepare_spare(state: State) -> None:
    """Have the next segments ready before the current one is full, so that no caller has to wait for them."""
    if state.current is None:
        state.add_segment()
    while len(state.spares) < SPARES and (current := state.current) is not None:
        if current.written <= current.size >> 2 and not state.blocked:
            return
        fresh = state.make_segment()
        if fresh is None:
            return
        state.spares.append(fresh)


def close_finished(state: State) -> None:
    """Close the files of segments nobody writes to any more: a spool that waits long must not use up descriptors."""
    while state.retired:
        state.retired.popleft().close()
    power = state.settings.durability == "power"
    for segment in list(state.segments):
        if segment is not state.current and (not power or segment.synced >= segment.appended):
            segment.close()


def sync(state: State) -> None:
    """Bring what was written since the last time to the device, all of it at once.

    After a failed sync the kernel may have dropped the pages, and a second sync of the same file would lie: what was not
    synced is written again, to a new segment.
    """
    state.sync_begun += 1
    mine = state.sync_begun
    with state.lock:
        marks = [(segment, segment.appended) for segment in state.segments if segment.appended > segment.synced]
    failed = False
    if state.folder is not None and any(segment.synced == 0 for segment, _ in marks):
        try:
            state.folder.sync()
        except OSError as error:
            failed = True
            logger.warning("tracemill could not sync its spool's folder (%s)", where(error))
    for segment, frames in marks:
        try:
            if segment.is_open and not segment.tainted:
                segment.sync()
                segment.synced = frames
        except OSError as error:
            segment.tainted = True
            logger.warning("tracemill could not sync its spool (%s); the records are written anew", where(error))
        if segment.tainted:
            failed = True
            _rewrite(state, segment)
    if failed:
        state.sync_failures += 1
        state.sync_again_at = monotonic() + min(_LONGEST_SYNC_PAUSE, 0.01 * 2**state.sync_failures)
    else:
        state.sync_failures = 0
        state.sync_done = mine


def _rewrite(state: State, segment: Segment) -> None:
    """Move the frames that may not be on the device from a segment whose sync failed to a new one."""
    fresh = state.make_segment(segment.size)
    if fresh is None:
        return  # no room now; tried again in the next round
    with state.lock:
        if state.current is segment:
            state.current = None
        frames = [frame for frame in segment.frames()[segment.synced :] if frame.start >= segment.delivered]
        for frame in frames:
            fresh.append(frame.payload)
        if frames:
            segment.forget_from(frames[0].start, len(frames))
        segment.synced = segment.appended
        segment.epoch += 1
        state.segments.append(fresh)
        if state.current is None:
            state.current = fresh
        else:  # stays in front of the current one
            state.segments.remove(state.current)
            state.segments.append(state.current)
