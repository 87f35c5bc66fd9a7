"""What happens behind a capture: the spooler writes what the caller handed over, the deliverer takes the spool away.

Both are daemon threads of one :class:`State`, which belongs to one process: a forked child gets a new one. Only the
deliverer waits for the store, so that a store that hangs holds up nobody else.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import random
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from tracemill.core.codec import encode
from tracemill.core.errors import DeliveryError, RecordError
from tracemill.core.ids import monotonic
from tracemill.core.records import AnyRecord
from tracemill.core.settings import Settings
from tracemill.sdk.delivery import Delivery
from tracemill.sdk.ledger import Counts
from tracemill.sdk.plain import to_plain
from tracemill.sdk.segment import HEADER_BYTES, Segment, frame_size
from tracemill.sdk.spool import (
    Batches,
    Drained,
    ProducerFolder,
    abandoned,
    bytes_used,
    deliver_folder,
    fold,
    note_delivered,
    settle_damage,
)

logger = logging.getLogger("tracemill")
SMALLEST_SEGMENT = 64 * 1024
SPARES = 2
_LONGEST_BACKOFF = 30.0
_PATIENCE = 8
"""Failures in a row for no stated reason after which the record that causes them is looked for and set aside."""
_POLL = 0.05


class State:
    """Everything a client of one process holds: queue, segments, counters, threads."""

    def __init__(self, path: Path, settings: Settings, open_delivery: Callable[[], Delivery] | None) -> None:
        self.path = path
        self.settings = settings
        self.open_delivery = open_delivery
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.writer = 0
        """The thread that is copying a record in, so that a signal handler in it does not wait for itself."""
        self.queue: deque[tuple[AnyRecord, int]] = deque()
        self.queued_bytes = 0
        self.drops: deque[str] = deque()
        self.in_hand = 0
        self.wake = threading.Event()
        self.stopping = False
        self.stop_delivery_at = float("inf")
        self._numbers = itertools.count()
        self.captured = 0
        self.current: Segment | None = None
        self.spares: deque[Segment] = deque()
        """Segments made ahead of need; the caller of capture takes the next one itself when the current one is full."""
        self.segments: list[Segment] = []
        self.blocked: str | None = None
        self.losing = False
        self.delivery: Delivery | None = None
        self.folder = ProducerFolder.create(path)
        self.threads: list[threading.Thread] = []
        self.delivery_failed = False
        self.delivery_wake = threading.Event()
        self.look_again_at = 0.0
        self.add_segment()

    def take_number(self) -> int:
        """The sequence number of the next record."""
        number = next(self._numbers)  # one step of the interpreter, so threads never get the same
        self.captured = max(self.captured, number + 1)
        return number

    # -- segments

    def segment_bytes(self) -> int:
        """The size of an ordinary segment: a quarter of the spool at most, so that there is room for a few."""
        return max(SMALLEST_SEGMENT, min(self.settings.spool_segment_bytes, self.settings.spool_max_bytes // 4))

    def make_segment(self, least: int = 0) -> Segment | None:
        """A new segment with room for a frame of ``least`` bytes, smaller than usual if need be; None and why otherwise."""
        size = max(self.segment_bytes(), least)
        left = self.settings.spool_max_bytes - bytes_used(self.path)
        while True:
            if size > left:
                reason = "spool_full"
            else:
                try:
                    segment = self.folder.new_segment(size)
                except OSError as error:
                    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
                    reason = "disk_full" if full else "spool_error"
                else:
                    self.blocked = None
                    return segment
            if size // 4 < max(least, SMALLEST_SEGMENT):
                self.blocked = reason
                return None
            size //= 4

    def add_segment(self, least: int = 0) -> bool:
        """Put a fresh segment in place of the current one. Takes the lock."""
        with self.lock:
            if self.take_spare(least):
                return True
        fresh = self.make_segment(least)
        if fresh is None:
            return False
        with self.lock:
            self.segments.append(fresh)
            self.current = fresh
        return True

    def take_spare(self, least: int) -> bool:
        """Go on with a segment made ahead, if there is one large enough. The caller holds the lock; no system call."""
        if not self.spares or self.spares[0].size < least:
            return False
        self.current = self.spares.popleft()
        self.segments.append(self.current)
        return True

    def put(self, payload: bytes) -> bool:
        """Append a payload, making room first. False when there is none (``blocked`` says why). Spooler only."""
        full = self.current is None or not self.current.room(len(payload))
        if full and not self.add_segment(HEADER_BYTES + frame_size(len(payload))):
            return False
        with self.lock:
            assert self.current is not None
            if not self.current.room(len(payload)):  # a caller was faster; the next round makes room again
                return False
            self.folder.ledger.set("captured", self.captured)
            self.folder.ledger.add("appended")
            self.current.append(payload)
        return True

    # -- counting

    def drop(self, reason: str, number: int = 1) -> None:
        """Count records that are not kept, and say once that records are being lost. Spooler, or under no lock."""
        with self.lock:
            self.folder.ledger.drop(reason, number)
        if not self.losing:
            self.losing = True
            logger.warning("tracemill cannot keep up and drops records (%s); counting them", reason)

    def fold_drops(self) -> None:
        """Move what callers dropped to the ledger."""
        while self.drops:
            self.drop(self.drops.popleft())

    def note_captured(self) -> None:
        """Write down how many records were captured."""
        with self.lock:
            self.folder.ledger.set("captured", self.captured)

    def spooled(self) -> int:
        """Frames in our segments that are not delivered."""
        return sum(segment.appended - segment.delivered_frames for segment in self.segments)

    def counts(self) -> Counts:
        """Where everything captured is at this moment."""
        with self.lock:
            ledger = self.folder.ledger
            ledger.set("captured", self.captured)
            found = ledger.counts(queued=len(self.queue) + self.in_hand, spooled=self.spooled())
            waiting = list(self.drops)
        dropped = dict(found.dropped)
        for reason in waiting:
            dropped[reason] = dropped.get(reason, 0) + 1
        return Counts(found.captured, found.queued, found.spooled, found.stored, found.dead_lettered, dropped)


def spool_forever(state: State) -> None:
    """The spooler: runs until the state is stopping and its queue is empty."""
    pause = min(_POLL, state.settings.sync_interval_ms / 1000)
    while True:
        state.wake.wait(pause)
        state.wake.clear()
        try:
            write_queue(state)
            prepare_spare(state)
            state.fold_drops()
            state.note_captured()
            if state.settings.durability == "power":
                sync(state)
        except Exception:  # the thread must outlive any error of ours, or nothing is captured any more
            logger.exception("tracemill's spooler failed; it goes on")
            state.drops.append("internal_error")
        if state.stopping and (not state.queue or state.blocked):
            return


def write_queue(state: State) -> None:
    """Encode and write what callers handed over, in order, until the queue is empty or there is no room."""
    while state.queue:
        state.in_hand = 1
        record, size = state.queue.popleft()
        payload = encode_or_drop(state, record)
        if payload is not None and not (state.put(payload) or state.put(payload)):
            if frame_size(len(payload)) > state.settings.spool_max_bytes - HEADER_BYTES:
                state.drops.append("too_large")
            else:
                state.queue.appendleft((record, size))  # waits in memory, which is bounded, until there is room
                state.in_hand = 0
                return
        state.queued_bytes -= size
        state.in_hand = 0
        if payload is not None and state.losing and not state.drops:
            state.losing = False
            logger.warning("tracemill keeps records again; %s", state.counts().dropped)


def encode_or_drop(state: State, record: AnyRecord) -> bytes | None:
    """The record encoded, with values of the host made plain where need be; None, counted, when it cannot be kept."""
    try:
        try:
            payload = encode(record)
        except RecordError:
            payload = encode(to_plain(record))
    except RecordError as error:
        state.drops.append(error.reason)
        return None
    except Exception:  # noqa: BLE001 - host objects may raise anything when they are touched
        state.drops.append("unencodable")
        return None
    if len(payload) > state.settings.record_max_bytes:
        state.drops.append("too_large")
        return None
    return payload


def prepare_spare(state: State) -> None:
    """Have the next segments ready before the current one is full, so that no caller has to wait for one."""
    if state.current is None:
        state.add_segment()
    while state.current is not None and len(state.spares) < SPARES:
        if state.current.written < state.current.size // 4 and state.spares:
            return  # there is time: the second is made when the current one is a quarter full
        spare = state.make_segment()
        if spare is None:
            return
        state.spares.append(spare)


def sync(state: State) -> None:
    """Bring what was written since the last time to the device, all of it at once.

    After a failed sync the kernel may have dropped the pages, and a second sync of the same file would lie: what was not
    synced is written again, to a new segment.
    """
    with state.lock:
        pending = [segment for segment in state.segments if segment.appended > segment.synced]
        marks = [(segment, segment.appended) for segment in pending]
    for segment, frames in marks:
        try:
            segment.sync()
        except OSError as error:
            logger.warning("tracemill could not sync a spool segment (%s); its records are written anew", error)
            _rewrite(state, segment)
            continue
        segment.synced = frames


def _rewrite(state: State, segment: Segment) -> None:
    with state.lock:
        if state.current is segment:
            state.current = None
    if not state.add_segment():
        return
    with state.lock:
        first = max(segment.synced, segment.delivered_frames)
        whole = [found for found in segment.frames(HEADER_BYTES) if not isinstance(found, int)]
        again = whole[first:]
        if again:
            segment.forget_from(again[0].start, len(again))
            state.folder.ledger.set("appended", state.folder.ledger.get("appended") - len(again))
        segment.synced = segment.appended
    for frame in again:
        if not (state.put(frame.payload) or state.put(frame.payload)):
            state.drop(state.blocked or "spool_error")


def deliver_forever(state: State) -> None:
    """The deliverer: takes segments to the store in order, backing off while it fails, until told to stop."""
    failures = 0
    batches: Batches | None = None
    while True:
        try:
            if batches is None and state.spooled() and state.open_delivery is not None:
                state.delivery = state.open_delivery()
                batches = Batches(state.path, state.delivery, state.settings.delivery_batch_records)
            moved = deliver_own(state, batches) if batches is not None else 0
            if batches is not None and not moved:
                deliver_abandoned(state, batches)
            failures = 0
            _say_delivery(state, None)
        except DeliveryError as error:
            failures += 1
            moved = 0
            _say_delivery(state, error.message)
        except Exception as error:  # noqa: BLE001 - a delivery is somebody else's code; the spool keeps the records
            failures += 1
            moved = 0
            if batches is not None and failures >= _PATIENCE:
                batches.distrust = True
            _say_delivery(state, f"{type(error).__name__}: {error}")
        if state.stopping and (monotonic() > state.stop_delivery_at or (not failures and not state.spooled())):
            return
        if not moved:
            pause = state.settings.delivery_interval_ms / 1000
            if failures:
                pause = random.uniform(pause / 2, min(_LONGEST_BACKOFF, pause * 2 ** min(failures, 10)))
            state.delivery_wake.wait(min(pause, 0.1) if state.stopping else pause)
            state.delivery_wake.clear()


def _say_delivery(state: State, failure: str | None) -> None:
    if failure is not None and not state.delivery_failed:
        logger.warning("tracemill cannot deliver and keeps records in its spool: %s", failure)
    elif failure is None and state.delivery_failed:
        logger.warning("tracemill delivers again")
    state.delivery_failed = failure is not None


def deliver_own(state: State, batches: Batches) -> int:
    """Deliver what is in our own segments now; finished ones are removed. Returns how many records moved."""
    moved = 0
    while True:
        with state.lock:
            segment = state.segments[0] if state.segments else None
            written = segment.written if segment is not None else 0
            frames = segment.appended if segment is not None else 0
            finished = segment is not None and segment is not state.current
        if segment is None:
            return moved
        for items, end, _damaged in batches.of(segment, segment.delivered, written):
            result = batches.deliver(items, state.folder.producer)
            with state.lock:
                note_delivered(state.folder.ledger, segment, end, result)
                segment.delivered_frames += len(items)
            moved += len(items)
            if state.stopping and monotonic() > state.stop_delivery_at:
                return moved
        if not finished:
            return moved
        with state.lock:
            if segment.delivered_frames < frames:
                state.folder.ledger.drop("damaged", frames - segment.delivered_frames)
            state.segments.remove(segment)
        segment.remove()


def deliver_abandoned(state: State, batches: Batches) -> None:
    """Deliver what processes that are gone left in the same workspace."""
    if state.stopping or monotonic() < state.look_again_at:
        return
    state.look_again_at = monotonic() + 5.0
    for folder in abandoned(state.path):
        try:
            deliver_folder(state.path, folder, batches.delivery, Drained(), state.settings.delivery_batch_records)
        finally:
            folder.close()


def finish(state: State) -> None:
    """Close files. A folder with nothing left to deliver is folded into the summary; another waits for the next run."""
    with state.lock:
        state.current = None
        left = state.spooled()
        segments, state.segments = state.segments, []
        segments.extend(state.spares)
        state.spares.clear()
    for segment in segments:
        if segment.appended == segment.delivered_frames:
            segment.remove()
        else:
            segment.close()
    if not left:
        settle_damage(state.folder)
        fold(state.path, state.folder)
    state.folder.close()
