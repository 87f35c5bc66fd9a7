"""Group commit: requests that arrive together share one transaction, and each is answered after it.

A commit costs a sync of the device whatever it holds. One thread takes everything that waits, commits it once and tells each
request what became of its own records. When a shared batch fails for a reason that may lie in it, each request's records are
tried alone, so that no request fails for another's.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from tracemill.core.errors import StoreError, TracemillError
from tracemill.core.ids import monotonic
from tracemill.server.errors import ApiError
from tracemill.server.metrics import Metrics
from tracemill.store.base import Appended, Refusal, Store

_RECORDS_AT_ONCE = 2000


@dataclass(slots=True)
class _Job:
    items: Sequence[bytes]
    source: str
    size: int
    done: Callable[[Appended | BaseException], None]


class Committer:
    """The one writer of a server process. Starts a thread; :meth:`close` ends it after what waits is committed."""

    def __init__(self, store: Store, metrics: Metrics, max_bytes: int) -> None:
        self._store = store
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="tracemill-committer", daemon=True)
        self._thread.start()

    @property
    def closing(self) -> bool:
        """Whether the server is stopping and nothing more is taken."""
        return self._closing

    async def append(self, items: Sequence[bytes], source: str) -> Appended:
        """Commit encoded records and say what became of them.

        Raises StoreError when nothing was stored, and ApiError (503) when more is waiting than the server may hold.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Appended] = loop.create_future()

        def done(result: Appended | BaseException) -> None:
            loop.call_soon_threadsafe(_resolve, future, result)

        self._put(items, source, done)
        return await asyncio.shield(future)  # a client that goes away does not take back what it sent

    def append_now(self, items: Sequence[bytes], source: str) -> Appended:
        """The same for a thread that is not the event loop's."""
        future: Future[Appended] = Future()

        def done(result: Appended | BaseException) -> None:
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)

        self._put(items, source, done)
        return future.result()

    def _put(self, items: Sequence[bytes], source: str, done: Callable[[Appended | BaseException], None]) -> None:
        size = sum(map(len, items))
        with self._changed:
            if self._closing:
                raise ApiError(503, "stopping", "the server is stopping", headers={"Retry-After": "2"})
            if self._waiting and self._waiting + size > self._max_bytes:
                raise ApiError(
                    503,
                    "overloaded",
                    "more records are waiting for the store than the server may hold",
                    hint="Send them again after a pause; nothing of this request was taken.",
                    headers={"Retry-After": "1"},
                )
            self._waiting += size
            self._jobs.append(_Job(items, source, size, done))
            self._changed.notify()
        self._metrics.queue_bytes.set(self._waiting)

    def close(self) -> None:
        """Commit what waits, then stop. Closing twice is fine."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closing:
                    self._changed.wait()
                if not self._jobs:
                    return
                jobs = self._take()
            self._commit(jobs)
            with self._changed:
                self._waiting -= sum(job.size for job in jobs)
            self._metrics.queue_bytes.set(self._waiting)

    def _take(self) -> list[_Job]:
        """What is committed next: waiting jobs of one source, up to a number of records."""
        jobs = [self._jobs.popleft()]
        number = len(jobs[0].items)
        while self._jobs and self._jobs[0].source == jobs[0].source:
            number += len(self._jobs[0].items)
            if number > _RECORDS_AT_ONCE:
                break
            jobs.append(self._jobs.popleft())
        return jobs

    def _commit(self, jobs: list[_Job]) -> None:
        began = monotonic()
        try:
            whole = self._store.append_encoded([item for job in jobs for item in job.items], source=jobs[0].source)
        except Exception as error:  # noqa: BLE001
            # The writer's thread must outlive whatever a batch does to it; each request is told.
            if len(jobs) > 1 and not isinstance(error, StoreError):
                for job in jobs:
                    self._commit([job])
                return
            for job in jobs:
                job.done(error if isinstance(error, TracemillError) else StoreError("a batch could not be written"))
            return
        self._metrics.commit_seconds.observe(monotonic() - began)
        self._metrics.commit_records.observe(sum(len(job.items) for job in jobs))
        for job, result in zip(jobs, _shares(whole, [len(job.items) for job in jobs]), strict=True):
            job.done(result)


def _resolve(future: asyncio.Future[Appended], result: Appended | BaseException) -> None:
    if future.cancelled():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


def _shares(whole: Appended, sizes: Sequence[int]) -> list[Appended]:
    """What became of each part of a batch, given the parts' sizes."""
    if len(sizes) == 1:
        return [whole]
    shares, start = [], 0
    for size in sizes:
        end = start + size
        refused = tuple(
            Refusal(refusal.index - start, refusal.id, refusal.reason, refusal.message)
            for refusal in whole.refused
            if start <= refusal.index < end
        )
        repeated = tuple(index - start for index in whole.repeated if start <= index < end)
        shares.append(Appended(size - len(refused) - len(repeated), len(repeated), refused, repeated))
        start = end
    return shares
