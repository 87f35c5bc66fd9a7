"""Capture: a record from the application's thread into the spool, in microseconds and without a system call.

Small records are encoded at once and copied into the mapped spool segment, so they survive a kill -9 from the moment
capture returns. Large ones, odd ones, and those of a burst that fills segments faster than they are made, are handed over
by reference to a bounded queue that a background thread writes; ``flush`` waits for it.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tracemill.core import codec
from tracemill.core.errors import RecordError
from tracemill.core.ids import monotonic, new_id, now
from tracemill.core.records import SCHEMA_VERSION, AnyRecord
from tracemill.core.settings import Settings
from tracemill.sdk.background import OpenRedaction, State, run_once, spool_forever, where
from tracemill.sdk.deliverer import Deliverer
from tracemill.sdk.delivery import Delivery
from tracemill.sdk.estimate import LARGE, estimate, snapshot
from tracemill.sdk.ledger import Counts, Ledger
from tracemill.sdk.spool import fold, settle

logger = logging.getLogger("tracemill")
_BETWEEN_COMPLAINTS = 60.0
_SPOOLER_GRACE = 5.0
"""Seconds that closing waits for the spooler beyond its limit: the local disk is rarely slower."""
_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_inherited: list[Any] = []


class Client:
    """Captures records of one application into the spool of a workspace.

    Safe for threads, asyncio and signal handlers, and across fork: a child becomes a producer of its own. Two daemon
    threads are started with the first capture. ``open_delivery`` is called in one of them when there is something to
    deliver for the first time; without it records stay in the spool until somebody drains it. With ``open_redaction``, which
    is called in one of them too, every record waits in memory until it is redacted there, and only then is spooled.
    """

    def __init__(
        self,
        path: Path,
        settings: Settings,
        open_delivery: Callable[[], Delivery] | None = None,
        open_redaction: OpenRedaction | None = None,
    ) -> None:
        """Makes the producer's folder. Raises nothing: in a workspace that cannot be written records wait in memory, and
        are counted as lost when there are too many.
        """
        self.path = path
        self.settings = settings
        self._open_delivery = open_delivery
        self._open_redaction = open_redaction
        self._start_lock = threading.RLock()
        self._state: State | None = None
        self._deliverer: Deliverer | None = None
        self._threads: list[threading.Thread] = []
        self._wanted = 1 if open_delivery is None else 2
        self._threads_at = float("-inf")
        self._closed = Counts()
        """What was counted where there is no state: after closing."""
        self._complained_at = float("-inf")
        if settings.enabled:
            self._state = State(path, settings, open_redaction)
            self._state.open()
            _clients.add(self)

    # -- the application's side

    @property
    def raises(self) -> bool:
        """Whether our own errors reach the caller: under pytest by default, so that tests find them."""
        setting = self.settings.raise_errors
        return setting == "always" or (
            setting == "auto" and "pytest" in sys.modules and "PYTEST_CURRENT_TEST" in os.environ
        )

    @property
    def producer(self) -> str:
        """The id of this process's producer; empty while there is none."""
        return self._state.producer if self._state is not None else ""

    def capture(self, record_type: type[AnyRecord], fields: Mapping[str, Any]) -> str:
        """Capture one record and return its id; the empty string when capturing is off.

        ``id``, ``time``, ``schema_version``, ``producer`` and ``sequence`` are filled in unless given. Never raises into
        the application except where :attr:`raises` says so; what cannot be kept is counted.
        """
        state = self._state
        if state is None:
            if not self.settings.enabled:
                return ""
            self._closed += Counts(captured=1, dropped={"closed": 1})
            return str(fields.get("id") or new_id())
        number = state.take_number()
        try:
            return self._capture(state, number, record_type, fields)
        except Exception as error:  # the host must never fail because of us
            state.drop(number, "internal_error")
            self._complain(error)
            if self.raises:
                raise
            return ""

    def note_failure(self, error: BaseException) -> None:
        """Count a record that could not be built, and say so in the log, at most once a minute."""
        if self._state is not None:
            self._state.drop(self._state.take_number(), "internal_error")
        self._complain(error)

    def _capture(self, state: State, number: int, record_type: type[AnyRecord], fields: Mapping[str, Any]) -> str:
        if len(self._threads) < self._wanted:
            self._start_threads(state)
        size = estimate(fields)
        if size < LARGE:
            record = self._stamp(state, number, record_type, fields)
            try:
                payload = codec.encode_fast(record)
            except codec.NOT_FAST:
                pass  # an odd value, made plain in the background
            else:
                if self.raises:
                    _check(payload)
                if len(payload) > self.settings.record_max_bytes:
                    state.drop(number, "too_large")
                elif self._open_redaction is not None or not (
                    state.write(payload, number) or (state.make_way(len(payload)) and state.write(payload, number))
                ):
                    state.hand_over(number, payload, len(payload))
                return record.id
        kept, size = snapshot(fields)
        record = self._stamp(state, number, record_type, kept)
        if self.raises:
            _check_if_plain(record)
        state.hand_over(number, record, size)
        return record.id

    def _stamp(self, state: State, number: int, record_type: type[AnyRecord], fields: Mapping[str, Any]) -> AnyRecord:
        values: dict[str, Any] = {
            "id": None,
            "time": None,
            "schema_version": SCHEMA_VERSION,
            "producer": state.producer,
            "sequence": number,
            **{name: value for name, value in fields.items() if value is not None},
        }
        values["id"] = values["id"] or new_id()
        values["time"] = values["time"] or now()
        return record_type(**values)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything captured so far is in the spool (with durability ``power``: on the device).

        False when that did not come about in ``timeout`` seconds, and, without a timeout, when nothing can be written.
        """
        state = self._state
        if state is None:
            return False
        limit = float("inf") if timeout is None else monotonic() + timeout
        with state.lock:
            state.fold_late()
            before = state.ledger.get("captured")
        patient = timeout is not None
        if not self._wait(limit, lambda: not state.waits(before) or (bool(state.blocked) and not patient)):
            return False
        if state.waits(before):
            return False
        wanted = state.sync_begun + 1
        return self.settings.durability != "power" or self._wait(limit, lambda: state.sync_done >= wanted)

    def deliver(self, timeout: float | None = None) -> bool:
        """Wait until everything captured so far has been delivered. False at once when there is no delivery."""
        limit = float("inf") if timeout is None else monotonic() + timeout
        if self._state is None or self._open_delivery is None or not self.flush(timeout):
            return False
        with self._state.lock:
            marks = [(segment, segment.written) for segment in self._state.segments]
        # A mark beyond what is written now was taken before a failed sync moved the frames behind it elsewhere.
        return self._wait(
            limit,
            lambda: all(segment.removed or segment.delivered >= min(mark, segment.written) for segment, mark in marks),
        )

    def counts(self) -> Counts:
        """Where everything captured by this process is."""
        state = self._state
        return self._closed if state is None else state.counts() + self._closed

    def close(self, timeout: float | None = None) -> None:
        """Stop capturing, write out the queue, deliver for up to ``timeout`` seconds (``exit_timeout_seconds``).

        What is not delivered by then stays in the spool for the next run. Closing twice is fine.
        """
        with self._start_lock:
            state, self._state = self._state, None
        if state is None:
            return
        limit = self.settings.exit_timeout_seconds if timeout is None else timeout
        state.stopping = True
        if self._deliverer is not None:
            self._deliverer.stop_at = monotonic() + limit
            self._deliverer.wake.set()
        state.wake.set()
        ends = monotonic() + limit
        for thread in self._threads:
            thread.join(max(0.0, ends - monotonic()) + (_SPOOLER_GRACE if thread is self._threads[0] else 0.5))
        if not self._threads or not self._threads[0].is_alive():
            with state.at_work:
                run_once(state)  # what came after the last round, or everything when there never was a thread
        self._closed += _finish(state)
        self._threads = []

    # -- our side

    def _start_threads(self, state: State) -> None:
        """Start the two threads, once; when the interpreter starts no more of them, flushing does their work."""
        with self._start_lock:
            if state is not self._state or monotonic() < self._threads_at:
                return
            if self._open_delivery is not None and self._deliverer is None:
                self._deliverer = Deliverer(state, self._open_delivery)
            try:
                # An interrupt may come between start and append. A second spooler takes turns with the first, a second
                # deliverer ends.
                if not self._threads:
                    self._threads.append(_started("tracemill-spooler", lambda: spool_forever(state)))
                if self._deliverer is not None and len(self._threads) == 1:
                    self._threads.append(_started("tracemill-deliverer", self._deliverer.run))
            except RuntimeError as error:
                self._threads_at = monotonic() + 1.0
                self._complain(error)

    def _wait(self, limit: float, done: Callable[[], bool]) -> bool:
        state, pause = self._state, 0.0005
        while state is not None and not done():
            if monotonic() >= limit or state is not self._state:
                return False
            if self._threads:
                state.wake.set()
            else:
                with state.at_work:
                    run_once(state)
            if self._deliverer is not None:
                self._deliverer.wake.set()
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)
        return state is not None

    def _complain(self, error: BaseException) -> None:
        if monotonic() - self._complained_at > _BETWEEN_COMPLAINTS:
            self._complained_at = monotonic()
            logger.warning(
                "tracemill could not keep a record (%s). Your application is not affected; see `tracemill doctor`.",
                where(error),
            )

    def _after_fork(self) -> None:
        """In a child: leave the parent's files alone, and be a new producer when something is captured."""
        state, self._state = self._state, None
        _inherited.append(self._deliverer)  # its store is the parent's, and must not be closed by being forgotten
        self._deliverer = None
        self._threads = []
        self._threads_at = float("-inf")
        self._start_lock = threading.RLock()
        self._closed = Counts()
        if state is not None:
            self._state = State(self.path, self.settings, self._open_redaction)  # its spooler makes the folder


def _started(name: str, target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def _finish(state: State) -> Counts:
    """Close the files of a state whose threads have ended, or hang. What was delivered wholly leaves nothing behind."""
    with state.lock:
        state.closed = True
        state.fold_late()
        waiting = len(state.queue) + (state.in_hand is not None)
        for _ in range(waiting):
            state.ledger.drop(state.blocked or "closed")
        state.queue.clear()
        state.in_hand = state.current = None
        counts = state.ledger.counts(spooled=state.spooled())
        ledger, state.ledger = state.ledger, Ledger()  # for whoever is in the middle of a capture
    state.converter.close()
    for segment in state.segments:
        segment.close()
        if segment.delivered_frames == segment.appended:
            segment.path.unlink(missing_ok=True)
        else:
            os.truncate(segment.path, segment.written)
    for spare in state.spares:
        spare.remove()
    if state.folder is not None and not counts.spooled:
        try:
            settle(ledger)
            fold(state.path, state.folder)
        except OSError as error:
            logger.warning("tracemill leaves its counters to be added up by the next run (%s)", where(error))
    state.close_files()
    ledger.close()
    return counts


def _check(payload: bytes) -> None:
    """Under pytest, a field of the wrong type is an error at once, not a quarantined record later."""
    try:
        codec.decode(payload)
    except RecordError as error:
        raise TypeError(f"this record would be refused: {error.message}") from error


def _check_if_plain(record: AnyRecord) -> None:
    try:
        payload = codec.encode_fast(record)
    except codec.NOT_FAST:
        return  # an odd value, made plain in the background
    _check(payload)


def _forked() -> None:
    for client in list(_clients):
        client._after_fork()


def _close_all() -> None:
    for client in list(_clients):
        client.close()


os.register_at_fork(after_in_child=_forked)
atexit.register(_close_all)
