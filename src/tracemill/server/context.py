"""What handlers work with: the workspace, who is asking, and the way into the store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar, cast

import aiohttp
import anyio.to_thread
import msgspec
from fastapi import Request

from tracemill.capture.ingest import Reject
from tracemill.core.access import Scope
from tracemill.core.codec import encode
from tracemill.core.consent import marked, users_of
from tracemill.core.errors import RecordError, TracemillError
from tracemill.core.pseudonym import Pseudonymizer
from tracemill.core.records import AnyRecord, User
from tracemill.core.settings import Settings
from tracemill.server.committer import Committer
from tracemill.server.metrics import Metrics
from tracemill.server.observe import place_of
from tracemill.server.recorder import Recorder
from tracemill.store.base import Appended, Refusal
from tracemill.workspace import Workspace

logger = logging.getLogger("tracemill.server")
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking. ``project`` is the ``platform`` the key is bound to (None: any), ``user`` the person whose data may be
    read and deleted by somebody who is neither reviewer nor admin. ``name`` is for the log: a key's id, never its secret.
    ``private`` says that this request came with the signal Global Privacy Control.
    """

    name: str
    scopes: frozenset[Scope]
    project: str | None = None
    user: User | None = None
    private: bool = False

    def can(self, scope: Scope) -> bool:
        """Whether a scope is granted; an admin has all, a reviewer may do what a user may."""
        if "admin" in self.scopes or scope in self.scopes:
            return True
        return scope == "user" and "reviewer" in self.scopes

    @property
    def sees_everything(self) -> bool:
        """Whether records of all people (of the project) may be read."""
        return self.can("reviewer")


@dataclass
class Context:
    """One server process's parts. ``http`` is the client for upstream APIs, ``recorder`` what keeps their calls."""

    workspace: Workspace
    settings: Settings
    committer: Committer
    pseudonymizer: Pseudonymizer
    metrics: Metrics
    http: aiohttp.ClientSession
    recorder: Recorder

    async def take(self, records: Sequence[AnyRecord], principal: Principal, *, source: str) -> Appended:
        """Store records made of a request; returns after the commit.

        A principal that is bound to a project writes into it: a record that names no platform gets the project's name, one
        that names another is refused (``wrong_project``). Indexes of refusals are places in ``records``. What came with the
        signal Global Privacy Control is marked, and kept as consent of whom it names. Raises StoreError.
        """
        if principal.private:
            records = [marked(record) for record in records]
        items: list[bytes] = []
        indexes: list[int] = []
        refused: list[Refusal] = []
        rejects: list[Reject] = []
        for index, record in enumerate(records):
            bound = in_project(record, principal.project)
            if isinstance(bound, str):
                refused.append(Refusal(index, record.id, "wrong_project", bound))
                continue
            try:
                items.append(encode(bound))
                indexes.append(index)
            except RecordError as error:
                refused.append(Refusal(index, str(record.id), error.reason, error.message))
                rejects.append(Reject(str(record.id), error.reason, error.message, _shown(record)))
        await self.quarantine(rejects, source)
        result = await self.committer.append(items, source) if items else Appended(0, 0, ())
        if principal.private:
            await self.honour(principal, users_of(records))
        refused += [_moved(refusal, indexes[refusal.index]) for refusal in result.refused]
        self.metrics.count(source, result.stored, result.duplicates, refused)
        return Appended(result.stored, result.duplicates, tuple(sorted(refused, key=lambda refusal: refusal.index)))

    async def honour(self, principal: Principal, users: Iterable[User]) -> None:
        """Store the signal as the consent of some people. Where that fails, the mark is on the records, and the log says so."""
        for user in {one.pseudonym: one for one in users}.values():
            try:
                await self.run(
                    self.workspace.consenting.honour_gpc, user, principal.project, actor=principal.name or "gpc"
                )
            except (TracemillError, OSError) as error:
                self.metrics.capture_failures.labels("gpc").inc()
                logger.error("signal_not_stored", extra={"fields": {"place": place_of(error)}})

    async def quarantine(self, rejects: Sequence[Reject], source: str) -> None:
        """Keep what is no record, with the reasons; returns after the commit. Raises StoreError."""
        for reject in rejects:
            await self.run(self.workspace.store.quarantine, reject.raw, reject.reason, reject.message, source)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Blocking work in a thread."""
        return await anyio.to_thread.run_sync(partial(function, *args, **kwargs))


def _shown(record: AnyRecord) -> bytes:
    """What can be kept of a record that no encoding can hold."""
    try:
        return repr(record).encode("utf-8", "backslashreplace")
    except (RecursionError, ValueError):  # nested too deeply, or an integer too long to be written in decimals
        return f"{type(record).__name__} {record.id}".encode()


def _moved(refusal: Refusal, index: int) -> Refusal:
    """A refusal at another place."""
    return Refusal(index, refusal.id, refusal.reason, refusal.message)


def in_project(record: AnyRecord, project: str | None) -> AnyRecord | str:
    """The record as a principal bound to a project may write it, or why it may not."""
    named = record.platform
    if project is None or named == project:
        return record
    if named is None or named == "default":
        return msgspec.structs.replace(record, platform=project)
    return f"the key is bound to the project {project!r} and the record's platform is {named!r}"


def context_of(request: Request) -> Context:
    """The context of the server that got a request."""
    return cast("Context", request.app.state.context)
