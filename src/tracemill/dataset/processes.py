"""Running the parts of a build in processes of this machine, one a core.

Processes are started afresh, not forked: a fork of a program with threads and open databases inherits locks that nobody
will release. They get their parts over a channel of their own, and end with the process that started them.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from types import TracebackType
from typing import Any, Self

from tracemill.dataset.dealing import Deal
from tracemill.dataset.site import Part, Plan


class _Worker:
    """One process and this side of its channel."""

    def __init__(self, plan: bytes, life: int, hold: Sequence[int]) -> None:
        ours, theirs = Pipe()
        self.channel: Connection[Any, Any] = ours
        passed = (theirs.fileno(), life)
        command = [sys.executable, "-m", "tracemill.dataset.worker", *map(str, passed)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
        self.process = subprocess.Popen(  # noqa: S603 - ourselves
            command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=(*passed, *hold), env=environment
        )
        theirs.close()
        self.place = -1
        with suppress(OSError):  # gone already: see `give`
            self.channel.send_bytes(plan)

    def give(self, part: Part, place: int, argument: Any) -> None:
        """Send a part. That the process is gone shows when its result is received, after what it may have said."""
        self.place = place
        with suppress(OSError):
            self.channel.send((part, argument))

    def end(self) -> str:
        """Make sure that the process is gone, and say how it ended."""
        self.process.kill()
        code = self.process.wait()
        self.channel.close()
        return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"


class Processes:
    """A crew of processes. Use as a context manager: leaving it ends them all.

    One that is killed is replaced, and its part given out again (:mod:`tracemill.dataset.dealing`); ``lost`` counts them.
    ``hold`` are descriptors that the workers keep open as long as they live: the lock of the folder they write to.
    """

    def __init__(self, plan: Plan, size: int, *, hold: Sequence[int] = ()) -> None:
        self.size = size
        self.lost = 0
        self._plan = pickle.dumps(plan)
        self._hold = tuple(hold)
        self._workers: list[_Worker] = []
        self._life: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        self._life = os.pipe()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            if kind is not None:
                worker.process.kill()
            worker.channel.close()
        for worker in self._workers:
            worker.process.wait()
        self._workers = []
        for descriptor in self._life or ():
            os.close(descriptor)
        self._life = None

    def run(self, part: Part, arguments: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """See :class:`tracemill.dataset.site.Crew`."""
        deal = Deal(part, arguments)
        free = list(self._workers)
        busy: dict[Connection[Any, Any], _Worker] = {}

        def give_out() -> None:
            while (free or len(self._workers) < self.size) and (place := deal.following()) is not None:
                worker = self._standing(free) or self._hire()
                worker.give(part, place, arguments[place])
                busy[worker.channel] = worker

        give_out()
        while busy:
            for channel in wait(list(busy)):
                assert isinstance(channel, Connection)
                worker = busy.pop(channel)
                try:
                    good, result = worker.channel.recv()
                except (EOFError, OSError):  # cut off
                    deal.lost(worker.place, self._dismiss(worker))
                    give_out()
                    continue
                if not good:
                    raise result
                place = worker.place
                deal.done(place)
                free.append(worker)
                give_out()
                yield place, result

    def _standing(self, free: list[_Worker]) -> _Worker | None:
        """One of those without a part that still lives. That others died at nothing says nothing of the next part."""
        while free:
            worker = free.pop()
            if worker.process.poll() is None:
                return worker
            self._dismiss(worker)
        return None

    def _dismiss(self, worker: _Worker) -> str:
        self._workers.remove(worker)
        self.lost += 1
        return worker.end()

    def _hire(self) -> _Worker:
        if self._life is None:
            raise RuntimeError("the crew is not at work")
        worker = _Worker(self._plan, self._life[0], self._hold)
        self._workers.append(worker)
        return worker


def sendable(plan: Plan) -> bool:
    """Whether other processes can be told of the plan: not of steps that are lambdas or were defined in a script."""
    try:
        sent = pickle.dumps(plan)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return b"__main__" not in sent
