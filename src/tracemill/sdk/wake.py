"""Waking a background thread from anywhere."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue


class Wake:
    """What ``threading.Event`` is for, where a signal handler may call :meth:`set` too.

    An Event takes a lock in ``set`` that is not re-entrant: a handler that interrupts its own thread in there and captures
    would wait for itself for ever. ``SimpleQueue.put`` is made to be re-entrant.
    """

    def __init__(self) -> None:
        self._box: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Let the waiting thread go on, or not wait the next time."""
        if self._box.empty():  # no flag of our own: an interrupt between a flag and the box would part them for ever
            self._box.put(None)

    def wait(self, timeout: float | None) -> None:
        """Wait until set, at most ``timeout`` seconds. One thread waits, and looks for work after it."""
        with suppress(Empty):
            self._box.get(timeout=timeout)
