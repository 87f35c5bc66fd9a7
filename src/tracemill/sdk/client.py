"""Capture: a record from the application's thread into the spool, in microseconds and without a system call.

Small records are encoded at once and copied into the mapped spool segment, so they survive a kill -9 from the moment
capture returns. Large ones, odd ones, and those of a burst that fills segments faster than they are made, are handed over
by reference to a bounded queue that a background thread writes; ``flush`` waits for it.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tracemill.core import codec
from tracemill.core.errors import RecordError, SpoolError
from tracemill.core.ids import monotonic, new_id, now
from tracemill.core.records import SCHEMA_VERSION, AnyRecord
from tracemill.core.settings import Settings
from tracemill.sdk.background import SPARES, State, deliver_forever, finish, spool_forever
from tracemill.sdk.delivery import Delivery
from tracemill.sdk.estimate import LARGE, estimate, rough_size, snapshot
from tracemill.sdk.ledger import Counts
from tracemill.sdk.segment import HEADER_BYTES, frame_size

logger = logging.getLogger("tracemill")
_LOCK_PATIENCE = 0.002
"""Seconds capture waits for the segment at most. It must not wait for ever: a signal handler may capture while its own
thread holds the lock."""
_BETWEEN_COMPLAINTS = 60.0
_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_inherited: list[Any] = []


class Client:
    """Captures records of one application into the spool of a workspace.

    Safe for threads, asyncio and signal handlers, and across fork: a child becomes a producer of its own. ``open_delivery``
    is called in a background thread when there is something to deliver for the first time; without it records stay in the
    spool until somebody drains it.
    """

    def __init__(self, path: Path, settings: Settings, open_delivery: Callable[[], Delivery] | None = None) -> None:
        """Raises nothing: a workspace that cannot be written is complained of in the log and counted as loss."""
        self.path = path
        self.settings = settings
        self._open_delivery = open_delivery
        self._start_lock = threading.RLock()
        self._state: State | None = None
        self._closed = False
        self._outside: Counts = Counts()
        self._complained_at = float("-inf")
        self._retry_at = 0.0
        if settings.enabled:
            self._guarded(self._start)
        _clients.add(self)

    # -- the application's side

    @property
    def raises(self) -> bool:
        """Whether our own errors reach the caller: under pytest by default, so that tests find them."""
        setting = self.settings.raise_errors
        return setting == "always" or (setting == "auto" and "PYTEST_CURRENT_TEST" in os.environ)

    @property
    def producer(self) -> str:
        """The id of this process's producer; empty while there is none."""
        return self._state.folder.producer if self._state is not None else ""

    def capture(self, record_type: type[AnyRecord], fields: Mapping[str, Any]) -> str:
        """Capture one record and return its id; the empty string when capturing is off.

        ``id``, ``time``, ``schema_version``, ``producer`` and ``sequence`` are filled in unless given. Never raises into
        the application except where :attr:`raises` says so; what cannot be kept is counted.
        """
        if not self.settings.enabled:
            return ""
        state = self._state
        if state is None or self._closed:
            state = self._start_again()
        if state is None:
            self._count_outside("closed" if self._closed else "spool_error")
            return str(fields.get("id") or new_id())
        sequence = state.take_number()
        try:
            return self._capture(state, sequence, record_type, fields)
        except Exception as error:  # the host must never fail because of us
            state.drops.append("internal_error")
            self._complain(error)
            if self.raises:
                raise
            return ""

    def note_failure(self, error: BaseException) -> None:
        """Count a record that could not be built, and say so in the log, at most once a minute."""
        self._count_outside("internal_error")
        self._complain(error)

    def _capture(self, state: State, sequence: int, record_type: type[AnyRecord], fields: Mapping[str, Any]) -> str:
        size = estimate(fields)
        kept = fields if size < LARGE else snapshot(fields)
        record = record_type(
            **{
                "id": fields.get("id") or new_id(),
                "time": fields.get("time") or now(),
                "schema_version": SCHEMA_VERSION,
                "producer": state.folder.producer,
                "sequence": sequence,
                **{name: value for name, value in kept.items() if value is not None},
            }
        )
        if self.raises:
            _check(record)
        if size >= LARGE or not self._write(state, record):
            self._hand_over(state, record, size)
        return record.id

    def _write(self, state: State, record: AnyRecord) -> bool:
        """Encode and copy into the segment, if that takes no waiting."""
        try:
            payload = codec.encode_fast(record)
        except codec.NOT_FAST:
            return False
        lock, thread = state.lock, threading.get_ident()
        if state.writer == thread:
            return False  # a signal handler has interrupted this very function
        if not (lock.acquire(blocking=False) or lock.acquire(timeout=_LOCK_PATIENCE)):
            return False
        state.writer = thread
        try:
            segment, length = state.current, len(payload)
            if length > self.settings.record_max_bytes:
                return False
            if segment is None or not segment.room(length):
                if not state.take_spare(HEADER_BYTES + frame_size(length)):
                    return False
                segment = state.current
            assert segment is not None
            # Counted first: killed in between, a record nobody was promised counts as lost; the other way round one
            # would be stored that was never counted.
            state.folder.ledger.set("captured", state.captured)
            state.folder.ledger.add("appended")
            segment.append(payload)
            wanted = len(state.spares) < SPARES and segment.written > segment.size // 4
        finally:
            state.writer = 0
            lock.release()
        if wanted:
            state.wake.set()
        return True

    def _hand_over(self, state: State, record: AnyRecord, size: int) -> None:
        """Put the record into the queue, or count it as dropped when that is full."""
        if size >= LARGE:
            size = sum(rough_size(getattr(record, name), 1 << 30) for name in ("extra", *record.__struct_fields__))
        settings = self.settings
        if len(state.queue) >= settings.queue_max_records or state.queued_bytes + size > settings.queue_max_bytes:
            state.drops.append(state.blocked or "queue_full")
        else:
            state.queued_bytes += size
            state.queue.append((record, size))
        state.wake.set()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything captured so far is in the spool (with durability ``power``: on the device)."""
        return self._wait(timeout, lambda state: not state.queue and not state.in_hand and self._synced(state))

    def deliver(self, timeout: float | None = None) -> bool:
        """Wait until everything captured so far has been delivered. False at once when there is no delivery."""
        if self._open_delivery is None or not self.flush(timeout):
            return False
        return self._wait(timeout, lambda state: not state.spooled() and not state.queue)

    def counts(self) -> Counts:
        """Where everything captured by this process is."""
        return (self._state.counts() if self._state is not None else Counts()) + self._outside

    def close(self, timeout: float | None = None) -> None:
        """Stop capturing, write out the queue, deliver for up to ``timeout`` seconds (``exit_timeout_seconds``).

        What is not delivered by then stays in the spool for the next run. Closing twice is fine.
        """
        with self._start_lock:
            state, self._closed = self._state, True
            if state is None:
                return
            self._outside, self._state = Counts(), None
        limit = self.settings.exit_timeout_seconds if timeout is None else timeout
        state.stop_delivery_at = monotonic() + limit
        state.stopping = True
        state.wake.set()
        state.delivery_wake.set()
        for thread, patience in zip(state.threads, (30.0, limit + 0.5), strict=False):
            thread.join(patience)
        state.fold_drops()
        self._outside = self._closing_counts(state)
        if not any(thread.is_alive() for thread in state.threads):
            if state.delivery is not None:
                state.delivery.close()
            finish(state)

    def _closing_counts(self, state: State) -> Counts:
        for _ in range(len(state.queue)):
            state.drop(state.blocked or "closed")
            state.queue.pop()
        return state.counts()

    # -- our side

    def _start(self) -> None:
        with self._start_lock:
            if self._state is not None or self._closed:
                return
            state = State(self.path, self.settings, self._open_delivery)
            targets = [spool_forever] if self._open_delivery is None else [spool_forever, deliver_forever]
            for target in targets:
                thread = threading.Thread(
                    target=target, args=(state,), name=f"tracemill-{target.__name__}", daemon=True
                )
                thread.start()
                state.threads.append(thread)
            self._state = state

    def _start_again(self) -> State | None:
        """After a fork, or when the workspace could not be written before. At most once a second."""
        if not self._closed and monotonic() >= self._retry_at:
            self._retry_at = monotonic() + 1.0
            self._guarded(self._start)
        return self._state

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (OSError, SpoolError, RuntimeError) as error:  # RuntimeError: no more threads at interpreter exit
            self._complain(error)

    def _complain(self, error: BaseException) -> None:
        if monotonic() - self._complained_at > _BETWEEN_COMPLAINTS:
            self._complained_at = monotonic()
            logger.warning(
                "tracemill could not capture (%s: %s). Your application is not affected; run `tracemill doctor`.",
                type(error).__name__,
                error,
            )

    def _count_outside(self, reason: str) -> None:
        self._outside = self._outside + Counts(captured=1, dropped={reason: 1})

    def _synced(self, state: State) -> bool:
        if self.settings.durability != "power":
            return True
        return all(segment.synced >= segment.appended for segment in list(state.segments))

    def _wait(self, timeout: float | None, done: Callable[[State], bool]) -> bool:
        state = self._state
        limit = float("inf") if timeout is None else monotonic() + timeout
        while state is not None and not done(state):
            if monotonic() >= limit or (state.blocked and state.queue and timeout is None):
                return False
            state.wake.set()
            state.delivery_wake.set()
            time.sleep(0.002)
        return state is not None

    def _after_fork(self) -> None:
        """In a child: leave the parent's files alone, and be a new producer when something is captured."""
        _inherited.append(self._state)  # kept, so that nothing of the parent's is closed or unmapped by us
        if self._state is not None:
            self._state.folder.let_go()
        self._state = None
        self._start_lock = threading.RLock()
        self._outside = Counts()
        self._retry_at = 0.0


def _check(record: AnyRecord) -> None:
    """Under pytest, a field of the wrong type is an error at once, not a quarantined record later."""
    try:
        payload = codec.encode_fast(record)
    except codec.NOT_FAST:
        return  # an odd value, made plain in the background
    try:
        codec.decode(payload)
    except RecordError as error:
        raise TypeError(f"this record would be refused: {error.message}") from error


def _forked() -> None:
    for client in list(_clients):
        client._after_fork()


def _close_all() -> None:
    for client in list(_clients):
        client.close()


os.register_at_fork(after_in_child=_forked)
atexit.register(_close_all)
