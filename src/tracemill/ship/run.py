"""`tracemill ship` as a process: once or at an interval, alone in its state folder, stopped without losing anything."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tracemill.core.errors import SettingError
from tracemill.core.ids import monotonic
from tracemill.core.owned import close_owned, open_owned
from tracemill.ship.cycle import run_cycle
from tracemill.ship.ledger import Ledger
from tracemill.ship.outbox import Outbox
from tracemill.ship.redaction import Redaction
from tracemill.ship.report import Report
from tracemill.ship.settings import ShipSettings
from tracemill.ship.tokens import Credentials

_FIRST_PAUSE = 1.0
_MOST_DOUBLINGS = 20


class Stop:
    """How a running `tracemill ship` is told to end.

    ``finish`` (SIGTERM): ship once more what is there, then end, since what a container held goes with it. ``now`` (Ctrl-C, or
    any second signal): end after the upload under way. What is left is where it was, or in the outbox.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.at_once = threading.Event()

    def finish(self) -> None:
        """Ask for a last cycle; asked twice, for the end."""
        if self.asked.is_set():
            self.at_once.set()
        self.asked.set()

    def now(self) -> None:
        """Ask for the end."""
        self.asked.set()
        self.at_once.set()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen to SIGTERM and SIGINT. For the main thread alone."""

        def heard(number: int, _frame: FrameType | None) -> None:
            (self.now if number == signal.SIGINT else self.finish)()

        before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold a state folder, which is made if need be. Raises SettingError while another process holds it."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = open_owned(state / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    except OSError as error:
        raise SettingError(
            f"the state folder {state} cannot be used: {error.strerror}", hint="Say another one with --state-dir."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingError(
                f"another `tracemill ship` works in {state}", hint="Stop it, or say another folder with --state-dir."
            ) from error
        yield
    finally:
        close_owned(descriptor)


def ship(
    settings: ShipSettings,
    credentials: Credentials,
    *,
    said: Callable[[Report], None],
    redaction: Redaction | None = None,
    stop: Stop | None = None,
) -> bool:
    """Ship once (``collection_interval`` 0) or until told to stop; whether the last cycle went well.

    Every cycle's report goes to ``said``. Raises SettingError when the state folder is in use, StoreError when its ledger
    cannot be opened.
    """
    stop = stop or Stop()
    with locked(settings.state):
        ledger = Ledger(settings.state / "ledger.db")
        try:
            outbox = Outbox(settings.state, ledger)

            def cycle() -> Report:
                report = run_cycle(
                    settings, credentials, ledger, outbox, redaction=redaction, stopping=stop.at_once.is_set
                )
                said(report)
                return report

            return (
                _once(settings, cycle, stop) if settings.collection_interval == 0 else _forever(settings, cycle, stop)
            )
        finally:
            ledger.close()


def _once(settings: ShipSettings, cycle: Callable[[], Report], stop: Stop) -> bool:
    """One cycle, and another when files were there that had just been written: nobody comes back for them."""
    report = cycle()
    if report.ok and report.skipped.get("not_quiet") and not stop.asked.wait(settings.quiet_seconds):
        report = cycle()
    return report.ok


def _forever(settings: ShipSettings, cycle: Callable[[], Report], stop: Stop) -> bool:
    """Cycles at a fixed rate, or after a pause that grows while they fail; a last one before the end."""
    failures = 0
    report = Report()
    while not stop.asked.is_set():
        begun = monotonic()
        report = cycle()
        failures = 0 if report.ok else failures + 1
        wait = settings.collection_interval - (monotonic() - begun) if report.ok else pause(settings, failures, report)
        stop.asked.wait(max(0.0, wait))
    if not stop.at_once.wait(settings.quiet_seconds):
        report = cycle()
    return report.ok


def pause(settings: ShipSettings, failures: int, report: Report) -> float:
    """Seconds after so many failed cycles: backoff with full jitter up to ``retry_interval``, or what the receiver asked.

    See "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): waits spread over the whole range burden a receiver
    that comes back the least.
    """
    most = min(settings.retry_interval, _FIRST_PAUSE * 2 ** min(failures, _MOST_DOUBLINGS))
    return max(report.wait_seconds, random.uniform(0.0, most))
