"""Running the parts of a build on a Ray cluster that is there already: nothing here ever starts one.

Workers are actors, each with the store opened and the working folder at hand. The folder must lie on storage that all
machines share, and the store must be one that all can open: PostgreSQL, or SQLite where all of Ray runs on one machine. Both
are checked before any part runs. Steps of one's own must be importable on every machine.
"""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from tracemill.core.errors import DatasetError, StoreError, TracemillError
from tracemill.core.ids import new_id
from tracemill.dataset.dealing import Deal
from tracemill.dataset.files import write_whole
from tracemill.dataset.site import Part, Plan, Site

_SAME_FOLDER = "cluster.check"
_START_SECONDS = 120.0
"""How long the cluster may take to start the workers."""
_ANSWER_SECONDS = 10.0
_MOST_LOST_STARTS = 5
"""How many new workers in a row may be lost before they say that they are there: Ray may not know yet that a machine is
gone, and start them on it."""
_LOST = (RayActorError, NodeDiedError, WorkerCrashedError, OutOfMemoryError, ObjectLostError)
"""What Ray raises when whoever had the work, or the machine that held the result, is gone."""


@dataclass(frozen=True)
class _Greeting:
    """What a worker finds where it runs. ``problem`` is empty when it can work; ``lost`` says that it is no more."""

    host: str
    problem: str = ""
    lost: bool = False


class _Worker:
    """One worker; Ray makes it on some machine of the cluster."""

    def __init__(self, plan: bytes) -> None:
        self._sent = plan
        self._site: Site | None = None

    def greet(self, token: str, version: str) -> _Greeting:
        """Open everything and say what is missing."""
        host = socket.gethostname()
        own = importlib.metadata.version("tracemill")
        if own != version:
            return _Greeting(host, f"tracemill is {own} there and {version} here")
        try:
            plan: Plan = pickle.loads(self._sent)  # noqa: S301 - from whoever began the build
        except (ImportError, AttributeError) as error:
            return _Greeting(host, f"a step of the recipe cannot be imported there: {error}")
        found = plan.work / _SAME_FOLDER
        try:
            seen = found.read_text()
        except OSError:
            seen = ""
        if seen != token:
            return _Greeting(
                host, f"the working folder {plan.work} is not the same there: it must be on shared storage"
            )
        site = Site.of(plan)
        try:
            known = site.store.watermark()
        except (StoreError, OSError) as error:
            return _Greeting(host, f"the store cannot be opened there: {error}")
        if known < plan.watermark:
            return _Greeting(host, f"the store there ends at {known}, and the build reads up to {plan.watermark}")
        self._site = site
        return _Greeting(host)

    def again(self) -> _Greeting:
        """Say that it still works, to whoever saw another one lost."""
        return _Greeting(socket.gethostname())

    def do(self, part: Part, argument: Any) -> tuple[bool, Any]:
        """Run one part; an error on purpose is a result, so that it comes back as it was."""
        assert self._site is not None
        try:
            return True, part(self._site, argument)
        except TracemillError as error:
            return False, error


class Cluster:
    """A crew of Ray actors. Use as a context manager: leaving it ends them.

    ``size`` is the number of workers, by default one for each processor of the cluster. Raises DatasetError when there is
    no cluster at the address, or one of its workers cannot work. Of those that are lost later on, alone or with their
    machine, ``lost`` counts how many: the cluster is asked for others, and what they were at is given out again
    (:mod:`tracemill.dataset.dealing`). The build goes on with whoever is left.
    """

    def __init__(self, plan: Plan, address: str, workers: int) -> None:
        self.size, self.lost = workers, 0
        self._plan, self._sent, self._address = plan, pickle.dumps(plan), address
        self._actors: list[Any] = []
        self._asked: dict[Any, Any] = {}
        self._token, self._problem = new_id(), ""
        self._lost_starts = 0
        self._joined = False

    def __enter__(self) -> Self:
        if not ray.is_initialized():
            self._join()
        try:
            self.size = self.size or max(1, int(ray.cluster_resources().get("CPU", 1)))
            self._start()
        except BaseException:  # whatever it was, no actor stays behind on the cluster
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, part: Part, arguments: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """See :class:`tracemill.dataset.site.Crew`."""
        deal = Deal(part, arguments)
        free = [actor for actor in self._actors if actor not in self._asked.values()]
        busy: dict[Any, tuple[Any, int]] = {}

        def give_out() -> None:
            while free and (place := deal.following()) is not None:
                actor = free.pop()
                busy[actor.do.remote(part, arguments[place])] = actor, place

        give_out()
        while not deal.finished:
            reference = self._next(busy)
            if reference in self._asked:
                free += self._answered(reference)
                give_out()
                continue
            actor, place = busy.pop(reference)
            try:
                good, result = _result(reference)
            except _LOST as error:
                deal.lost(place, _how(error))
                self._replace(actor)
                self._ask_again(free)
                continue
            if not good:
                raise result
            deal.done(place)
            free.append(actor)
            give_out()
            yield place, result

    def _next(self, busy: Mapping[Any, Any]) -> Any:
        """A call that ended. Raises DatasetError when there is nobody left to work, and nobody comes."""
        calls = [*busy, *self._asked]
        timeout = None if busy else _START_SECONDS
        ready = ray.wait(calls, num_returns=1, timeout=timeout)[0] if calls else []
        if not ready:
            why = self._problem or f"the cluster started no other in {_START_SECONDS:.0f} s"
            raise DatasetError(
                f"all workers of the build were lost: {why}",
                hint="The build goes on where it stopped when it is run again.",
            )
        return ready[0]

    def _replace(self, actor: Any) -> None:
        """Ask the cluster for a worker in the place of one that was lost."""
        ray.kill(actor)  # it may only be out of reach
        self._actors.remove(actor)
        self.lost += 1
        self._greet(self._make())

    def _ask_again(self, free: list[Any]) -> None:
        """Have those without work say that they are there before they get some: they may be lost with the same machine."""
        while free:
            actor = free.pop()
            self._asked[actor.again.remote()] = actor

    def _answered(self, reference: Any) -> list[Any]:
        """The worker that a greeting is of, if it can work. A new one that cannot is not replaced, unless it was lost."""
        actor = self._asked.pop(reference)
        greeting = _greeting(reference)
        if not greeting.problem:
            self._lost_starts = 0
            if actor not in self._actors:
                self._actors.append(actor)
            return [actor]
        if actor in self._actors:
            self._replace(actor)
            return []
        ray.kill(actor)
        if greeting.lost and self._lost_starts < _MOST_LOST_STARTS:
            self._lost_starts += 1
            self._greet(self._make())
        else:
            self._problem = f"a worker on {greeting.host} cannot work: {greeting.problem}"
        return []

    def _join(self) -> None:
        """Become a part of the cluster. Ray starts one of its own where it is given no address: it is always given one."""
        address = self._address or os.environ.get("RAY_ADDRESS") or "auto"
        _check_answers(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            raise _no_cluster(address, error) from error
        self._joined = True

    def _make(self) -> Any:
        return ray.remote(num_cpus=1, max_restarts=0, scheduling_strategy="SPREAD")(_Worker).remote(self._sent)

    def _greet(self, actor: Any) -> Any:
        """Have a new worker look around; its answer is waited for with the results."""
        reference = actor.greet.remote(self._token, importlib.metadata.version("tracemill"))
        self._asked[reference] = actor
        return reference

    def _start(self) -> None:
        write_whole(self._plan.work / _SAME_FOLDER, self._token.encode())
        asked = [self._greet(self._make()) for _ in range(self.size)]
        ready, late = ray.wait(asked, num_returns=len(asked), timeout=_START_SECONDS)
        if late:
            raise DatasetError(
                f"the cluster started {len(ready)} of {len(asked)} workers in {_START_SECONDS:.0f} s",
                hint="Set fewer workers, or wait until others have left the cluster.",
            )
        self._actors = [self._asked.pop(one) for one in ready]
        greetings = [_greeting(one) for one in ready]
        for greeting in greetings:
            if greeting.problem:
                raise DatasetError(
                    f"a worker on {greeting.host} cannot work: {greeting.problem}", hint="See docs/scale.md."
                )
        hosts = {greeting.host for greeting in greetings} | {socket.gethostname()}
        if len(hosts) > 1 and self._plan.settings.database.startswith("sqlite"):
            raise DatasetError(
                f"the workers are on {len(hosts)} machines, and SQLite can be read from one only",
                hint="Move the store to PostgreSQL (docs/storage.md), or build with engine native.",
            )

    def _end(self) -> None:
        for actor in {*self._actors, *self._asked.values()}:
            ray.kill(actor)
        self._actors, self._asked = [], {}
        (self._plan.work / _SAME_FOLDER).unlink(missing_ok=True)
        if self._joined:
            ray.shutdown()
            self._joined = False


def _no_cluster(address: str, error: Exception) -> DatasetError:
    return DatasetError(
        f"there is no Ray cluster at {address}: {(str(error) or type(error).__name__).splitlines()[0]}",
        hint="Start one with `ray start --head`, and give its address as ray_address.",
    )


def _check_answers(address: str) -> None:
    """Raise DatasetError when nobody listens at an address: Ray itself would go on trying for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
        except OSError as error:
            raise _no_cluster(address, error) from error


def _result(reference: Any) -> Any:
    """What a call gave. Raises what Ray raises when the worker is gone, DatasetError for an error that is no result."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        cause = error.cause
        raise DatasetError(f"a worker of the build failed: {type(cause).__name__}: {cause}") from error


def _greeting(reference: Any) -> _Greeting:
    """What a worker found where it runs; one that was lost or failed there has a problem."""
    try:
        greeting: _Greeting = _result(reference)
    except _LOST as error:
        return _Greeting("the cluster", f"it {_how(error)}", lost=True)
    except DatasetError as error:
        return _Greeting("the cluster", error.message)
    return greeting


def _how(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"was lost: {lines[0] if lines else type(error).__name__}"
