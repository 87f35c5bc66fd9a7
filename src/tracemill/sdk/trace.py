"""A decorator that makes an interaction of every call of a function.

The function stays what it was: its signature, what it returns and raises, and the whole protocol of generators (``send``,
``throw``, ``close``, the value they return). A generator is the current call only while it runs, not while whoever reads
it does something else.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from typing import Any

from tracemill.sdk.stream import Stream
from tracemill.sdk.wrap import Call, Log

_HISTORIES = ("messages", "history", "conversation", "events")
_QUESTIONS = ("question", "query", "prompt", "message", "user_message", "text", "input", "user_input", "request")


class Traced:
    """The decorator. ``fields`` are the Interaction's, the same for every call."""

    def __init__(self, log: Log, fields: Mapping[str, Any], *, capture_arguments: bool = False) -> None:
        self._log = log
        self._fields = fields
        self._capture_arguments = capture_arguments

    def __call__(self, function: Any) -> Any:
        """The wrapped function. Raises TypeError for a class and for what cannot be called."""
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(self(function.__func__))
        if isinstance(function, type) or not callable(function):
            raise TypeError(f"trace() decorates functions, not {function!r}")
        read = functools.partial(self._read_arguments, _signature(function))
        if inspect.isasyncgenfunction(function):
            return self._async_generator(function, read)
        if inspect.isgeneratorfunction(function):
            return self._generator(function, read)
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
            return self._coroutine(function, read)
        return self._plain(function, read)

    def _open(self, function: Any, read: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        call = Call(self._log, self._fields)
        call.begin()
        self._log.attempt(lambda: self._take_arguments(call, function, read(args, kwargs)), None)
        return call

    def _take_arguments(self, call: Call, function: Any, arguments: Mapping[str, Any]) -> None:
        names = (getattr(function, "__module__", None), getattr(function, "__qualname__", None))
        extra: dict[str, Any] = {"function": ".".join(str(name) for name in names if name)}
        if self._capture_arguments:
            extra["arguments"] = dict(arguments)
        call.set(extra=extra)
        if "messages" in self._fields:
            return
        history = next((name for name in _HISTORIES if _is_history(arguments.get(name))), None)
        question = next((name for name in _QUESTIONS if isinstance(arguments.get(name), str)), None)
        if history is not None:
            call.messages(arguments[history])
        if question is not None:
            call.message(arguments[question])

    @staticmethod
    def _read_arguments(
        signature: inspect.Signature | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Arguments by name, without ``self`` and ``cls``."""
        if signature is None:
            return dict(kwargs)
        try:
            bound = dict(signature.bind(*args, **kwargs).arguments)
        except TypeError:  # the call itself is wrong, and the function will say so
            return dict(kwargs)
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                bound.update(bound.pop(name, {}))
        return {name: value for name, value in bound.items() if name not in ("self", "cls")}

    def _plain(self, function: Callable[..., Any], read: Any) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            call = self._open(function, read, args, kwargs)
            try:
                with call.active():
                    result = function(*args, **kwargs)
            except BaseException as error:  # told of and passed on
                call.end(error)
                raise
            self._finish(call, result)
            return result

        return run

    def _coroutine(self, function: Callable[..., Any], read: Any) -> Callable[..., Any]:
        @functools.wraps(function)
        async def run(*args: Any, **kwargs: Any) -> Any:
            call = self._open(function, read, args, kwargs)
            try:
                with call.active():
                    result = await function(*args, **kwargs)
            except BaseException as error:  # told of and passed on
                call.end(error)
                raise
            self._finish(call, result)
            return result

        return run

    def _finish(self, call: Call, result: Any) -> None:
        self._log.attempt(lambda: call.take_result(result), None)
        call.end()

    def _finish_stream(self, call: Call, stream: Stream, error: BaseException | None) -> None:
        self._log.attempt(lambda: _take_stream(call, stream), None)
        call.end(error)

    def _generator(self, function: Callable[..., Any], read: Any) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            call, stream = self._open(function, read, args, kwargs), Stream()
            try:
                with call.active():
                    inner = function(*args, **kwargs)
                resume: Callable[[], Any] = functools.partial(next, inner)
                while True:
                    try:
                        with call.active():
                            item = resume()
                    except StopIteration as stop:
                        self._finish_stream(call, stream, None)
                        return stop.value
                    self._log.attempt(functools.partial(stream.take, item), None)
                    try:
                        resume = functools.partial(inner.send, (yield item))
                    except GeneratorExit:
                        with call.active():
                            inner.close()
                        raise
                    except BaseException as thrown:  # noqa: BLE001 - by whoever reads it, for the function to see
                        resume = functools.partial(inner.throw, thrown)
            except BaseException as error:  # told of and passed on
                self._finish_stream(call, stream, error)
                raise

        return run

    def _async_generator(self, function: Callable[..., Any], read: Any) -> Callable[..., Any]:
        @functools.wraps(function)
        async def run(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            call, stream = self._open(function, read, args, kwargs), Stream()
            try:
                with call.active():
                    inner = function(*args, **kwargs)
                resume: Callable[[], Any] = inner.__anext__
                while True:
                    try:
                        with call.active():
                            item = await resume()
                    except StopAsyncIteration:
                        self._finish_stream(call, stream, None)
                        return
                    self._log.attempt(functools.partial(stream.take, item), None)
                    try:
                        resume = functools.partial(inner.asend, (yield item))
                    except GeneratorExit:
                        with call.active():
                            await inner.aclose()
                        raise
                    except BaseException as thrown:  # noqa: BLE001 - by whoever reads it, for the function to see
                        resume = functools.partial(inner.athrow, thrown)
            except BaseException as error:  # told of and passed on
                self._finish_stream(call, stream, error)
                raise

        return run


def _take_stream(call: Call, stream: Stream) -> None:
    fields = stream.fields()
    if call.has_response:
        fields.pop("response", None)
    call.set(**fields)


def _signature(function: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # built-in functions have none
        return None


def _is_history(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and len(value) > 0
