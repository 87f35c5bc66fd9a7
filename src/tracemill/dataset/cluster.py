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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from tracemill.core.errors import DatasetError, StoreError, TracemillError
from tracemill.core.ids import new_id
from tracemill.dataset.files import write_whole
from tracemill.dataset.site import Part, Plan, Site

_SAME_FOLDER = "cluster.check"
_START_SECONDS = 120.0
"""How long the cluster may take to start the workers."""
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class _Greeting:
    """What a worker finds where it runs. ``problem`` is empty when it can work."""

    host: str
    problem: str = ""


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
    no cluster at the address, or one of its workers cannot work.
    """

    def __init__(self, plan: Plan, address: str, workers: int) -> None:
        self.size = workers
        self._plan, self._address = plan, address
        self._actors: list[Any] = []
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
        waiting = iter(enumerate(arguments))
        busy: dict[Any, tuple[Any, int]] = {}
        for actor, (place, argument) in zip(self._actors, waiting, strict=False):
            busy[actor.do.remote(part, argument)] = actor, place
        given = len(busy)
        while busy:
            ready, _ = ray.wait(list(busy), num_returns=1)
            actor, place = busy.pop(ready[0])
            result = _result(ready[0])
            if given < len(arguments):
                busy[actor.do.remote(part, arguments[given])] = actor, given
                given += 1
            yield place, result

    def _join(self) -> None:
        """Become a part of the cluster. Ray starts one of its own where it is given no address: it is always given one."""
        address = self._address or os.environ.get("RAY_ADDRESS") or "auto"
        _check_answers(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            raise _no_cluster(address, error) from error
        self._joined = True

    def _start(self) -> None:
        token = new_id()
        write_whole(self._plan.work / _SAME_FOLDER, token.encode())
        sent = pickle.dumps(self._plan)
        made = ray.remote(num_cpus=1, max_restarts=0, scheduling_strategy="SPREAD")(_Worker)
        self._actors = [made.remote(sent) for _ in range(self.size)]
        version = importlib.metadata.version("tracemill")
        asked = [actor.greet.remote(token, version) for actor in self._actors]
        ready, late = ray.wait(asked, num_returns=len(asked), timeout=_START_SECONDS)
        if late:
            raise DatasetError(
                f"the cluster started {len(ready)} of {len(asked)} workers in {_START_SECONDS:.0f} s",
                hint="Set fewer workers, or wait until others have left the cluster.",
            )
        greetings: list[_Greeting] = [_result(one) for one in ready]
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
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
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
    """What a call gave. Raises what the part raised, DatasetError when the worker is gone."""
    try:
        result = ray.get(reference)
    except RayActorError as error:
        raise DatasetError(
            f"a worker of the build was lost: {str(error).splitlines()[0]}",
            hint="If memory ran out, set fewer workers. The build goes on where it stopped when it is run again.",
        ) from error
    except RayTaskError as error:
        cause = error.cause
        raise DatasetError(f"a worker of the build failed: {type(cause).__name__}: {cause}") from error
    if isinstance(result, tuple):
        done, result = result
        if not done:
            raise result
    return result
