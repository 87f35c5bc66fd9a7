"""The deliverer: takes what is in the spool to the store, and waits for it when it must."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from tracemill.core.errors import DeliveryError
from tracemill.core.ids import monotonic
from tracemill.sdk.background import State, where
from tracemill.sdk.delivery import Delivered, Delivery
from tracemill.sdk.segment import Segment, SegmentReader
from tracemill.sdk.spool import Batches, Drained, abandoned, deliver_folder
from tracemill.sdk.wake import Wake

logger = logging.getLogger("tracemill")
_LONGEST_BACKOFF = 30.0
_PATIENCE = 8
"""Failures in a row for no stated reason after which the record that causes them is looked for and set aside."""
_LOOK_FOR_ABANDONED = 5.0


class Deliverer:
    """Delivers a state's segments, and those that dead processes left, in a thread of its own."""

    def __init__(self, state: State, open_delivery: Callable[[], Delivery]) -> None:
        self.state = state
        self.wake = Wake()
        self.stop_at = float("inf")
        """When to give up, once the state is stopping."""
        self._open_delivery = open_delivery
        self._batches: Batches | None = None
        self._failing = False
        self._running = threading.Lock()
        self._look_again_at = float("-inf")

    def run(self) -> None:
        """Deliver until the state is stopping and there is no more, or no more time. Once: a second call returns."""
        if not self._running.acquire(blocking=False):
            return
        state, failures, surprises = self.state, 0, 0
        while not state.closed:
            moved, asked = 0, 0.0
            try:
                moved = self.deliver_once()
                failures = surprises = 0
                self._say(None)
            except DeliveryError as error:
                failures += 1
                asked = error.wait_seconds
                self._say(f"{error.message} {error.hint}".rstrip())
            except Exception as error:  # noqa: BLE001
                # The delivery is somebody else's code; the spool keeps the records.
                failures += 1
                surprises += 1
                if self._batches is not None and surprises >= _PATIENCE:
                    self._batches.distrust = True
                self._say(where(error))
            if state.stopping and (monotonic() > self.stop_at or (not failures and self._is_all())):
                break
            if not moved:
                self._wait(failures, asked)
        self._close()

    def _is_all(self) -> bool:
        state = self.state
        return not state.queue and state.in_hand is None and not state.spooled()

    def _wait(self, failures: int, asked: float) -> None:
        """Wait for the next turn. A pause the other side asked for is kept, however often there is something new."""
        until = monotonic() + asked
        self.wake.wait(max(self._pause(failures), 0.0 if self.state.stopping else asked))
        while not self.state.stopping and not self.state.closed and monotonic() < until:
            self.wake.wait(until - monotonic())

    def _pause(self, failures: int) -> float:
        pause = self.state.settings.delivery_interval_ms / 1000
        if failures:  # full jitter, so that many processes do not come back at the same moment
            pause = random.uniform(0, min(_LONGEST_BACKOFF, pause * 2 ** min(failures, 12)))
        return min(pause, 0.1) if self.state.stopping else pause

    def _close(self) -> None:
        if self._batches is not None:
            try:
                self._batches.delivery.close()
            except Exception as error:  # noqa: BLE001
                # It is somebody else's code.
                logger.warning("tracemill's delivery could not be closed (%s)", where(error))

    def _say(self, failure: str | None) -> None:
        if failure is not None and not self._failing:
            logger.warning("tracemill cannot deliver and keeps records in its spool: %s", failure)
        elif failure is None and self._failing:
            logger.warning("tracemill delivers again")
        self._failing = failure is not None

    def deliver_once(self) -> int:
        """Deliver what is there now; returns how many records moved. Raises what the delivery raises."""
        if self._batches is None:
            if not self.state.spooled():
                return 0
            self._batches = Batches(self.state.path, self._open_delivery(), self.state.settings.delivery_batch_records)
        moved = self._deliver_own(self._batches)
        if not moved:
            self._deliver_abandoned(self._batches)
        return moved

    def _deliver_own(self, batches: Batches) -> int:
        state, moved = self.state, 0
        while True:
            with state.lock:
                segment = state.segments[0] if state.segments else None
                if segment is None:
                    return moved
                finished, written, epoch = segment is not state.current, segment.written, segment.epoch
            if segment.delivered < written:
                moved += self._deliver_segment(batches, segment, written, epoch)
            if self._out_of_time() or not finished or not self._let_go(segment):
                return moved

    def _out_of_time(self) -> bool:
        return self.state.closed or (self.state.stopping and monotonic() > self.stop_at)

    def _deliver_segment(self, batches: Batches, segment: Segment, written: int, epoch: int) -> int:
        moved = 0
        reader = SegmentReader(segment.path)
        try:
            for items, end, _ in batches.of(reader, segment.delivered, written):
                result = batches.deliver(items, self.state.producer)
                if not self._note(segment, epoch, end, len(items), result):
                    return moved
                reader.set_delivered(end)
                moved += len(items)
                if self._out_of_time():
                    return moved
            if segment.delivered < written and self._note(segment, epoch, written, 0, Delivered(0)):
                reader.set_delivered(written)  # it ends in damage
        finally:
            reader.close()
        return moved

    def _note(self, segment: Segment, epoch: int, end: int, number: int, result: Delivered) -> bool:
        """Count a delivered batch. False when it is none of ours any more: closed, or written anew somewhere else."""
        state = self.state
        with state.lock:
            if state.closed or segment.epoch != epoch:
                return False
            state.ledger.add("stored", result.stored)
            state.ledger.add("dead_lettered", result.dead_lettered)
            state.ledger.drop("no_consent", result.no_consent)
            segment.delivered = end
            segment.delivered_frames += number
        return True

    def _let_go(self, segment: Segment) -> bool:
        """Remove a finished segment that was delivered to its end."""
        state = self.state
        with state.lock:
            if state.closed or segment.delivered < segment.written:
                return False
            if segment.delivered_frames < segment.appended:
                state.ledger.drop("damaged", segment.appended - segment.delivered_frames)
            state.segments.remove(segment)
            segment.removed = True
        segment.path.unlink(missing_ok=True)
        state.retired.append(segment)
        state.wake.set()
        return True

    def _deliver_abandoned(self, batches: Batches) -> None:
        """Deliver what processes that are gone left in the same workspace."""
        state = self.state
        if state.stopping or monotonic() < self._look_again_at:
            return
        self._look_again_at = monotonic() + _LOOK_FOR_ABANDONED
        for folder in abandoned(state.path):
            try:
                deliver_folder(state.path, folder, batches.delivery, Drained(), state.settings.delivery_batch_records)
            except OSError as error:
                logger.warning("tracemill leaves the spool of an ended process for later (%s)", where(error))
            finally:
                folder.close()
