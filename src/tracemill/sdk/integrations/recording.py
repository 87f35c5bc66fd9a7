"""What all integrations share: how a call of a client is recorded while it is made, streams included."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

from tracemill.sdk.collector import Collector
from tracemill.sdk.wrap import Call

_last: ContextVar[str | None] = ContextVar("tracemill_last_interaction", default=None)
_WRAPPED = "__tracemill_wrapped__"
Read = Callable[[Any], dict[str, Any]]


def last_interaction_id() -> str | None:
    """The id of the newest interaction an integration began in this thread or task; None when there was none.

    Callbacks that a framework runs in another thread are not seen here: their objects have ``last_interaction_id`` too.
    """
    return _last.get()


def note_interaction(interaction_id: str) -> None:
    """Remember an interaction as the newest one."""
    _last.set(interaction_id)


def plain(value: Any) -> Any:
    """A model of pydantic as plain values; anything else as it is."""
    dump = getattr(value, "model_dump", None)
    return dump(mode="json", exclude_none=True, warnings=False) if callable(dump) else value


class Recorder:
    """Records the calls of one method of a client.

    ``request`` gives the fields that the arguments tell, ``answer`` those of a whole answer, ``stream`` those of the pieces of
    a streamed one; all in plain values. None of them can fail the call.
    """

    def __init__(
        self, collector: Collector, request: Read, answer: Read, stream: Callable[[list[Any]], dict[str, Any]]
    ) -> None:
        self._collector = collector
        self._request = request
        self._answer = answer
        self._stream = stream

    def wrap(self, owner: Any, name: str) -> None:
        """Put a recording function in place of a method of an object. One that records already is left as it is."""
        method = getattr(owner, name)
        if getattr(method, _WRAPPED, False):
            return
        wrapped = self._async(method) if inspect.iscoroutinefunction(_innermost(method)) else self._sync(method)
        setattr(wrapped, _WRAPPED, True)
        setattr(owner, name, wrapped)

    def _begin(self, arguments: dict[str, Any]) -> Call:
        call = self._collector.interaction()
        call.begin()
        note_interaction(call.interaction_id)
        self._collector.attempt(lambda: call.set(**self._request(arguments)), None)
        return call

    def _sync(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def run(*positional: Any, **arguments: Any) -> Any:
            call = self._begin(arguments)
            try:
                result = method(*positional, **arguments)
            except BaseException as error:  # told of and passed on
                call.end(error)
                raise
            return self._finish(call, result)

        return run

    def _async(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        async def run(*positional: Any, **arguments: Any) -> Any:
            call = self._begin(arguments)
            try:
                result = await method(*positional, **arguments)
            except BaseException as error:  # told of and passed on
                call.end(error)
                raise
            return self._finish(call, result)

        return run

    def _finish(self, call: Call, result: Any) -> Any:
        """End the call, or let it end with its stream: the very same object, whose iterator reads along."""
        if not hasattr(result, "_iterator"):
            self._collector.attempt(lambda: call.set(**self._answer(plain(result))), None)
            call.end()
            return result
        self.follow(call, result)
        return result

    def follow(self, call: Call, stream: Any) -> None:
        """Record a stream of the clients made by Stainless while it is read, to its end or to where its reader left."""
        heard = _Heard(self._collector, call, self._stream)
        inner = stream._iterator
        stream._iterator = heard.along_async(inner) if hasattr(inner, "__anext__") else heard.along(inner)
        close = stream.close
        if inspect.iscoroutinefunction(close):

            async def closed_async() -> None:
                await close()
                heard.end(GeneratorExit())

            stream.close = closed_async
        else:

            def closed() -> None:
                close()
                heard.end(GeneratorExit())

            stream.close = closed


class _Heard:
    """What was read of a stream so far. Ends the call once: at the end, at an error, or when the reader leaves."""

    def __init__(self, collector: Collector, call: Call, read: Callable[[list[Any]], dict[str, Any]]) -> None:
        self._collector = collector
        self._call = call
        self._read = read
        self._pieces: list[Any] = []
        self._ended = False

    def along(self, inner: Iterator[Any]) -> Iterator[Any]:
        """The pieces as they come."""
        try:
            for piece in inner:
                self._pieces.append(piece)
                yield piece
        except BaseException as error:  # told of and passed on; GeneratorExit means that its reader left
            self.end(error)
            raise
        self.end(None)

    async def along_async(self, inner: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The same for an asynchronous stream."""
        try:
            async for piece in inner:
                self._pieces.append(piece)
                yield piece
        except BaseException as error:  # told of and passed on; GeneratorExit means that its reader left
            self.end(error)
            raise
        self.end(None)

    def end(self, error: BaseException | None) -> None:
        """End the call with what was read."""
        if self._ended:
            return
        self._ended = True
        pieces, self._pieces = self._pieces, []
        self._collector.attempt(lambda: self._call.set(**self._read([plain(piece) for piece in pieces])), None)
        self._call.end(error)


def _innermost(method: Any) -> Any:
    return inspect.unwrap(method)


def answered(fields: dict[str, Any], provider: str, configuration: dict[str, Any]) -> dict[str, Any]:
    """Fields of :mod:`tracemill.core.answers` as those of an Interaction."""
    found = {name: value for name, value in fields.items() if value is not None}
    extra = {name: found.pop(name) for name in ("choices", "embeddings", "stream_error") if name in found}
    name = found.pop("answered_by", None)
    if name is not None:
        found["model"] = {"provider": provider, "name": name, "configuration": configuration}
    if extra:
        found["extra"] = extra
    return found
