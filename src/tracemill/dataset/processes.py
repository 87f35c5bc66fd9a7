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
from multiprocessing.connection import Connection, Pipe, wait
from types import TracebackType
from typing import Any, Self

from tracemill.core.errors import DatasetError
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
        try:
            self.channel.send_bytes(plan)
        except OSError as error:
            raise self.lost() from error

    def lost(self) -> DatasetError:
        """What to say when the process is gone."""
        self.process.kill()
        code = self.process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return DatasetError(
            f"a worker of the build {how}",
            hint="If memory ran out, set fewer workers. The build goes on where it stopped when it is run again.",
        )


class Processes:
    """A crew of processes. Use as a context manager: leaving it ends them all.

    ``hold`` are descriptors that the workers keep open as long as they live: the lock of the folder they write to.
    """

    def __init__(self, plan: Plan, size: int, *, hold: Sequence[int] = ()) -> None:
        self.size = size
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
        if self._life is None:
            raise RuntimeError("the crew is not at work")
        while len(self._workers) < min(self.size, len(arguments)):
            self._workers.append(_Worker(self._plan, self._life[0], self._hold))
        waiting = iter(enumerate(arguments))
        busy = {worker.channel: worker for worker in self._workers if _give(worker, part, waiting)}
        while busy:
            for channel in wait(list(busy)):
                assert isinstance(channel, Connection)
                worker = busy.pop(channel)
                place, result = worker.place, _take(worker)
                if _give(worker, part, waiting):
                    busy[channel] = worker
                yield place, result


def _give(worker: _Worker, part: Part, waiting: Iterator[tuple[int, Any]]) -> bool:
    """Send the next argument; False when there is none left."""
    following = next(waiting, None)
    if following is None:
        return False
    worker.place, argument = following
    try:
        worker.channel.send((part, argument))
    except OSError as error:
        raise worker.lost() from error
    return True


def _take(worker: _Worker) -> Any:
    """The result of the part it was at. Raises what that raised, DatasetError when the process is gone."""
    try:
        done, result = worker.channel.recv()
    except (EOFError, OSError) as error:
        raise worker.lost() from error
    if not done:
        raise result
    return result


def sendable(plan: Plan) -> bool:
    """Whether other processes can be told of the plan: not of steps that are lambdas or were defined in a script."""
    try:
        sent = pickle.dumps(plan)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return b"__main__" not in sent
