"""Waking a background thread from anywhere."""

from __future__ import annotations

from queue import Empty, SimpleQueue


class Wake:
    """What ``threading.Event`` is for, where a signal handler may call :meth:`set` too.

    An Event takes a lock in ``set`` that is not re-entrant: a handler that interrupts its own thread in there and captures
    would wait for itself for ever. ``SimpleQueue.put`` is made to be re-entrant.
    """

    def __init__(self) -> None:
        self._box: SimpleQueue[None] = SimpleQueue()
        self._is_set = False

    def set(self) -> None:
        """Let the waiting thread go on, or not wait the next time."""
        if not self._is_set:
            self._is_set = True
            self._box.put(None)

    def wait(self, timeout: float | None) -> None:
        """Wait until set, at most ``timeout`` seconds, and forget that it was. One thread waits."""
        try:
            self._box.get(timeout=timeout)
        except Empty:
            return
        # A set that comes before this line is swallowed; the caller looks for work after it, and finds what it was for.
        self._is_set = False
