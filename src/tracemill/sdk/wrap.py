"""A context manager and a decorator around the application's own calls.

They time the call, keep its error (and let it pass), and gather steps and actions on the way. What is gathered is captured
when the call ends: the steps, then the interaction. The wrapped code behaves as if nothing were there.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from tracemill.core.ids import monotonic, new_id, now
from tracemill.core.records import Action, Failure, Model
from tracemill.sdk.events import to_messages
from tracemill.sdk.react import read_react

STREAM_CHARACTERS = 1_000_000
"""Text of a streamed answer that is kept; beyond it the interaction is marked as truncated."""
_current: contextvars.ContextVar[Call | None] = contextvars.ContextVar("tracemill_call", default=None)
_INTERRUPTIONS = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)


def current_call() -> Call | None:
    """The innermost call that is under way in this thread or task."""
    return _current.get()


class Log(Protocol):
    """What a call needs of the collector."""

    def log_interaction(self, **fields: Any) -> str:
        """Keep an interaction."""

    def log_step(self, **fields: Any) -> str:
        """Keep a step."""


class Call:
    """One call under way. ``interaction_id`` is its id from the beginning; feedback may refer to it at once."""

    def __init__(self, collector: Log, fields: Mapping[str, Any]) -> None:
        self._collector = collector
        self._fields = dict(fields)
        self.interaction_id = str(self._fields.pop("id", None) or new_id())
        self._steps: list[dict[str, Any]] = []
        self._token: contextvars.Token[Call | None] | None = None
        self._started = 0.0

    def __enter__(self) -> Self:
        outer = _current.get()
        if outer is not None:
            self._fields.setdefault("parent_id", outer.interaction_id)
        self._fields.setdefault("time", now())
        self._token = _current.set(self)
        self._started = monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)

    # -- what the application may say while the call is under way

    def message(self, message: Any) -> None:
        """Add a message (or an event of any shape) to the history."""
        self._fields.setdefault("messages", []).extend(to_messages([message]))

    def response(self, answer: Any) -> None:
        """What was answered: an assistant message, or its text."""
        self._fields["response"] = (
            dict(answer) if isinstance(answer, Mapping) else {"role": "assistant", "content": str(answer)}
        )

    def usage(
        self,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cost_usd: float | None = None,
        **details: Any,
    ) -> None:
        """Tokens and cost; further counts are kept under ``usage``."""
        given = {"input_tokens": input_tokens, "output_tokens": output_tokens, "cost_usd": cost_usd}
        self._fields.update({name: value for name, value in given.items() if value is not None})
        if details:
            self._fields["usage"] = {**self._fields.get("usage", {}), **details}

    def model(self, name: str, provider: str | None = None, **configuration: Any) -> None:
        """The model that answers."""
        self._fields["model"] = Model(name=name, provider=provider, configuration=configuration)

    def set(self, **fields: Any) -> None:
        """Any other fields of the interaction; unknown ones are kept under ``extra``."""
        self._fields.update(fields)

    def step(self, name: str | None = None, **fields: Any) -> StepCall:
        """A context manager around one step of the call."""
        return StepCall(self, {"name": name, **fields})

    def tool(self, tool: str, parameters: Any = None, **fields: Any) -> ToolCall:
        """A context manager around one tool call: a step with a single action."""
        return ToolCall(self, tool, parameters, fields)

    # -- the end

    def add_step(self, fields: dict[str, Any]) -> None:
        """Take a finished step."""
        self._steps.append({**fields, "index": len(self._steps)})

    def end(self, error: BaseException | None = None) -> None:
        """Capture what was gathered. Called once, by leaving the context."""
        if self._token is not None:
            with_token, self._token = self._token, None
            try:
                _current.reset(with_token)
            except ValueError:  # an async generator may be closed in another context than it began in
                _current.set(None)
        fields = self._fields
        fields.setdefault("duration_ms", (monotonic() - self._started) * 1000)
        status = "successful" if error is None else "interrupted" if isinstance(error, _INTERRUPTIONS) else "failed"
        fields.setdefault("completion_status", status)
        fields.setdefault("success", error is None)
        if error is not None:
            fields.setdefault("error", Failure(type=type(error).__name__, message=_text_of(error)))
        tools = [action.tool for step in self._steps for action in step.get("actions", ()) if action.tool]
        if tools:
            fields.setdefault("tools_used", list(dict.fromkeys(tools)))
            fields.setdefault("tool_call_count", len(tools))
        self._collector.log_interaction(id=self.interaction_id, **fields)
        for step in self._steps:
            self._collector.log_step(interaction_id=self.interaction_id, platform=fields.get("platform"), **step)

    def take_result(self, result: Any) -> None:
        """Make use of what the wrapped function returned, where the application has not said it itself."""
        react = read_react(result)
        if react is not None:
            for step in react.steps:
                self.add_step(step)
            texts = [value for value in react.outputs.values() if isinstance(value, str)]
            result = texts[0] if texts else None
            self._fields.setdefault("reasoning", react.reasoning)
            self._fields.setdefault("kind", "agent")
        if "response" in self._fields:
            return
        if isinstance(result, str) or (isinstance(result, Mapping) and result.get("role") == "assistant"):
            self.response(result)
        elif isinstance(result, Mapping):
            self._fields.setdefault("artifact", result)


class StepCall:
    """One step under way; what is set on it becomes the Step's fields."""

    def __init__(self, call: Call, fields: dict[str, Any]) -> None:
        self._call = call
        self.fields = fields
        self.actions: list[Action] = []
        self._started = 0.0

    def __enter__(self) -> Self:
        self.fields.setdefault("time", now())
        self._started = monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.fields.setdefault("duration_ms", (monotonic() - self._started) * 1000)
        self.fields.setdefault("success", error is None)
        if error is not None:
            self.fields.setdefault("error", Failure(type=type(error).__name__, message=_text_of(error)))
        self._call.add_step({**self.fields, "actions": self.actions})

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def set(self, **fields: Any) -> None:
        """Fields of the Step: reasoning, inputs, outputs, state_changes…"""
        self.fields.update(fields)

    def action(self, **fields: Any) -> None:
        """One action of the step, by the fields of :class:`~tracemill.core.records.Action`."""
        self.actions.append(Action(**fields))


class ToolCall(StepCall):
    """One tool call under way; ``result`` is what the tool gave."""

    def __init__(self, call: Call, tool: str, parameters: Any, fields: dict[str, Any]) -> None:
        super().__init__(call, {"name": tool, "kind": "tool", **fields})
        self._tool = tool
        self._parameters = parameters
        self.result: Any = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failure = None if error is None else Failure(type=type(error).__name__, message=_text_of(error))
        self.actions.append(
            Action(
                tool=self._tool,
                parameters=self._parameters,
                result=self.result,
                success=error is None,
                error=failure,
                duration_ms=(monotonic() - self._started) * 1000,
            )
        )
        super().__exit__(kind, error, trace)


class Traced:
    """The decorator: wraps a function of any kind so that each call is an interaction."""

    def __init__(self, collector: Log, fields: Mapping[str, Any]) -> None:
        self._collector = collector
        self._fields = fields

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isasyncgenfunction(function):
            return self._async_generator(function)
        if inspect.isgeneratorfunction(function):
            return self._generator(function)
        if inspect.iscoroutinefunction(function):
            return self._coroutine(function)
        return self._plain(function)

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        fields = dict(self._fields)
        fields.setdefault("scenario", getattr(function, "__qualname__", None))
        if "messages" not in fields:
            texts = [value for value in (*args, *kwargs.values()) if isinstance(value, str)]
            found = next((value for value in (*args, *kwargs.values()) if _is_history(value)), None)
            fields["messages"] = to_messages(found if found is not None else texts[:1])
        return Call(self._collector, fields)

    def _plain(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self._call(function, args, kwargs) as call:
                result = function(*args, **kwargs)
                call.take_result(result)
                return result

        return run

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def run(*args: Any, **kwargs: Any) -> Any:
            async with self._call(function, args, kwargs) as call:
                result = await function(*args, **kwargs)
                call.take_result(result)
                return result

        return run

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            stream = _Stream()
            with self._call(function, args, kwargs) as call:
                try:
                    # `yield from` hands send, throw and close through to the wrapped generator.
                    return (yield from _watched(function(*args, **kwargs), stream))
                finally:
                    stream.finish(call)

        return run

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def run(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            stream = _Stream()
            async with self._call(function, args, kwargs) as call:
                inner = function(*args, **kwargs)
                sent: Any = None
                thrown: BaseException | None = None
                try:
                    while True:
                        try:
                            item = await (inner.athrow(thrown) if thrown is not None else inner.asend(sent))
                        except StopAsyncIteration:
                            return
                        stream.take(item)
                        thrown = None
                        try:
                            sent = yield item
                        except GeneratorExit:
                            await inner.aclose()
                            raise
                        except BaseException as error:  # noqa: BLE001 - thrown in by the caller, for the wrapped generator
                            thrown = error
                finally:
                    stream.finish(call)

        return run


def _watched(inner: Generator[Any, Any, Any], stream: _Stream) -> Generator[Any, Any, Any]:
    """The wrapped generator with every item it gives noted."""
    sent: Any = None
    thrown: BaseException | None = None
    while True:
        try:
            item = inner.throw(thrown) if thrown is not None else inner.send(sent)
        except StopIteration as stop:
            return stop.value
        stream.take(item)
        thrown = None
        try:
            sent = yield item
        except GeneratorExit:
            inner.close()
            raise
        except BaseException as error:  # noqa: BLE001 - thrown in by the caller, for the wrapped generator
            thrown = error


class _Stream:
    """The text of what a generator gave, as far as it is kept."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self._items = 0

    def take(self, item: Any) -> None:
        self._items += 1
        piece = item if isinstance(item, str) else item.get("content") if isinstance(item, Mapping) else None
        if isinstance(piece, str) and self._length < STREAM_CHARACTERS:
            self._pieces.append(piece[: STREAM_CHARACTERS - self._length])
        if isinstance(piece, str):
            self._length += len(piece)

    def finish(self, call: Call) -> None:
        if self._pieces:
            call.take_result("".join(self._pieces))
        if self._length > STREAM_CHARACTERS:
            call.set(truncated=True)
        call.set(streamed_items=self._items)


def _is_history(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) and "role" in item for item in value)
    )


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[:2000]
    except Exception:  # noqa: BLE001 - the __str__ of somebody's exception may raise anything
        return f"<{type(error).__name__} without a readable message>"
