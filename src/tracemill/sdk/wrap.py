"""A context manager around the application's own calls, their steps and their tool calls.

It times the call, keeps its error (and lets it pass), and captures each step when it ends and the interaction when the call
ends. The wrapped code behaves as if nothing were there: whatever goes wrong in here goes through :meth:`Log.attempt`.
"""

from __future__ import annotations

import contextvars
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from tracemill.core.ids import monotonic, new_id, now
from tracemill.core.records import Failure, Interaction, Model
from tracemill.sdk.events import read_events
from tracemill.sdk.execution import failure_of
from tracemill.sdk.fit import fit
from tracemill.sdk.prediction import read_prediction, usage_fields

T = TypeVar("T")
_INHERITED = ("platform", "session_id", "conversation_id", "trace_id", "user_id", "user")
"""What a nested call takes from the one around it unless it says otherwise."""
MOST_TOOLS = 1000
"""Different tools of one call that are remembered by name."""


class Log(Protocol):
    """What a call needs of the collector."""

    def attempt(self, action: Callable[[], T], otherwise: T) -> T:
        """Do something of ours; what it raises must not reach the application."""

    def identify(self, raw_id: str | int) -> str:
        """What is written in place of a person's id."""

    def log_interaction(self, **fields: Any) -> str:
        """Keep an interaction."""

    def log_step(self, **fields: Any) -> str:
        """Keep a step."""


_current: contextvars.ContextVar[Call | StepCall | None] = contextvars.ContextVar("tracemill_call", default=None)


def current_call() -> Call | None:
    """The innermost call that is under way in this thread or task."""
    frame = _current.get()
    return frame.call if isinstance(frame, StepCall) else frame


class _Frame:
    """Something under way that what happens inside it belongs to."""

    def __init__(self) -> None:
        self._tokens: list[contextvars.Token[Call | StepCall | None]] = []
        self._started = 0.0

    def _enter(self) -> None:
        assert isinstance(self, (Call, StepCall))
        self._tokens.append(_current.set(self))

    def _leave(self) -> None:
        if self._tokens:
            # An async generator may be closed in another context than it began in: nothing is to be reset there.
            with suppress(ValueError):
                _current.reset(self._tokens.pop())

    def elapsed_ms(self) -> float:
        """Milliseconds since it began."""
        return (monotonic() - self._started) * 1e3


class Call(_Frame):
    """One call under way. ``interaction_id`` is its id from the beginning: feedback may refer to it at once."""

    def __init__(self, log: Log, fields: Mapping[str, Any]) -> None:
        super().__init__()
        self.log = log
        self._fields: dict[str, Any] = {}
        self._indexes = itertools.count()
        self._tools: dict[str, None] = {}
        self._tool_calls = 0
        self._ended = False
        self._given = dict(fields)
        identity = {"id": self._given.pop("id", None)}
        fitted: dict[str, Any] = self.log.attempt(lambda: fit(Interaction, identity), {})
        self.interaction_id: str = fitted.pop("id", None) or new_id()
        self._fields.update(fitted)  # an id that is none of ours is kept under `extra`

    # -- begin and end

    def begin(self) -> None:
        """Take note of the time and of the call around this one."""
        self._started = monotonic()
        self._fields["time"] = now()
        outer = current_call()
        if outer is not None and outer is not self:
            self._fields["parent_id"] = outer.interaction_id
            self._fields.update({name: outer._fields[name] for name in _INHERITED if name in outer._fields})
        self.log.attempt(lambda: self._set(self._given), None)

    def end(self, error: BaseException | None = None) -> None:
        """Capture the interaction. Whatever comes after the first time does nothing."""
        if not self._ended:
            self._ended = True
            self.log.attempt(lambda: self._capture(error), None)

    def _capture(self, error: BaseException | None) -> None:
        fields = self._fields
        fields.setdefault("duration_ms", self.elapsed_ms())
        if error is not None:
            fields.setdefault("error", failure_of(error))
        if not isinstance(error, Exception) and error is not None:
            # Cancellation, Ctrl-C, exit and a closed generator are no failures, and no successes either.
            status, success = "interrupted", None
        else:
            success = error is None and fields.get("error") is None
            status = "successful" if fields.get("success", success) else "failed"
        fields.setdefault("success", success)
        fields.setdefault("completion_status", status)
        if self._tool_calls:
            fields.setdefault("tools_used", list(self._tools))
            fields.setdefault("tool_call_count", self._tool_calls)
        self.log.log_interaction(id=self.interaction_id, **fields)

    @contextmanager
    def active(self) -> Iterator[None]:
        """What runs inside belongs to this call. For generators, which must not be current while they wait."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def __enter__(self) -> Self:
        self.begin()
        self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        self.end(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    # -- what the application may say while the call is under way

    def message(self, message: Any) -> None:
        """Add a message (or an event of any shape) to the history."""
        self.log.attempt(lambda: self._add_messages([message]), None)

    def messages(self, messages: Any) -> None:
        """Add messages (or events) to the history."""
        self.log.attempt(lambda: self._add_messages(messages), None)

    def response(self, answer: T) -> T:
        """What was answered: text, an assistant message, a chat completion, a DSPy Prediction. Gives it back as it is."""
        self.log.attempt(lambda: self._take(answer), None)
        return answer

    def usage(
        self,
        input_tokens: Any = None,
        output_tokens: int | None = None,
        cost_usd: float | None = None,
        **details: Any,
    ) -> None:
        """Tokens and cost; further counts are kept under ``usage``. Also takes a response's usage object alone."""
        given = {"input_tokens": input_tokens, "output_tokens": output_tokens, "cost_usd": cost_usd}

        def take() -> None:
            known = usage_fields(input_tokens)
            if known:
                del given["input_tokens"]
            counts = {**known.pop("usage", {}), **details}
            self._fields.update({**known, **{name: value for name, value in given.items() if value is not None}})
            if counts:
                self._fields["usage"] = {**self._fields.get("usage", {}), **counts}

        self.log.attempt(take, None)

    def model(self, name: str, provider: str | None = None, **configuration: Any) -> None:
        """The model that answers, with its sampling settings."""
        self._fields["model"] = Model(name=name, provider=provider, configuration=configuration)

    def set(self, **fields: Any) -> None:
        """Any other fields of the interaction; unknown ones are kept under ``extra``."""
        self.log.attempt(lambda: self._set(fields), None)

    def fail(self, error: object) -> None:
        """Say that the call failed though nothing was raised."""
        self.log.attempt(lambda: self._set({"error": failure_of(error)}), None)

    def step(self, name: str | None = None, **fields: Any) -> StepCall:
        """A context manager around one step of the call; inside another step it is part of that one."""
        return StepCall(self, {"name": name, **fields})

    def tool(self, tool: str, parameters: Any = None, **fields: Any) -> ToolCall:
        """A context manager around one tool call: an action of the step under way, or a step of its own where there is none.

        ``fields`` are those of an Action: ``call_id``, ``mapping``, ``type``.
        """
        frame = _current.get()
        step = frame if isinstance(frame, StepCall) and frame.call is self else None
        return ToolCall(self, step, {"tool": tool, "parameters": parameters, **fields})

    # -- what its steps say

    def next_index(self) -> int:
        """The place of the next step."""
        return next(self._indexes)

    def count_tool(self, tool: str | None) -> None:
        """Take note of a tool that was called."""
        self._tool_calls += 1
        if tool is not None and len(self._tools) < MOST_TOOLS:
            self._tools[tool] = None

    def capture_step(self, fields: Mapping[str, Any]) -> str:
        """Capture a finished step of this call; returns its id."""
        return self.log.log_step(
            **{"interaction_id": self.interaction_id, "platform": self._fields.get("platform"), **fields}
        )

    def _set(self, fields: Mapping[str, Any]) -> None:
        given = dict(fields)
        if "messages" in given:
            self._add_messages(given.pop("messages"))
        if "response" in given:
            self._take(given.pop("response"))
        if isinstance(given.get("extra"), Mapping):
            self._add_extra(given.pop("extra"))
        self._fields.update(given)

    def _add_messages(self, messages: Any) -> None:
        history = self._fields.setdefault("messages", [])
        read = read_events(messages, self.log.identify, start=len(history))
        history.extend(read.messages)
        if read.about:
            self._fields.setdefault("extra", {}).setdefault("events", []).extend(read.about)

    def _take(self, answer: Any) -> None:
        read = read_prediction(answer)
        extra = read.fields.pop("extra", None)
        if extra:
            self._add_extra(extra)
        self._fields.update({name: value for name, value in read.fields.items() if value is not None})
        for step in read.steps:
            self.capture_step({"time": self._fields.get("time"), **step, "index": self.next_index()})

    def _add_extra(self, extra: Mapping[str, Any]) -> None:
        self._fields["extra"] = {**self._fields.get("extra", {}), **extra}

    @property
    def has_response(self) -> bool:
        """Whether it was said what was answered."""
        return "response" in self._fields

    def take_result(self, result: Any) -> None:
        """Make use of what the wrapped function returned, where the application has not said itself what was answered."""
        if result is None or self.has_response:
            return
        if isinstance(result, Mapping) and not _PREDICTION_KEYS & result.keys():
            self._fields.setdefault("artifact", result)  # what it made: a workflow, a document
        elif isinstance(result, (list, tuple)):
            self._fields.setdefault("artifact", list(result))
        else:
            self._take(result)


_PREDICTION_KEYS = {"role", "choices", "trajectory", "response", "answer", "content"}


class StepCall(_Frame):
    """One step under way; what is set on it becomes the Step's fields."""

    def __init__(self, call: Call, fields: Mapping[str, Any]) -> None:
        super().__init__()
        self.call = call
        self.id = new_id()
        self._fields = dict(fields)
        self._actions: list[Any] = []

    def __enter__(self) -> Self:
        self._started = monotonic()
        frame = _current.get()
        if isinstance(frame, StepCall) and frame.call is self.call:
            self._fields.setdefault("parent_id", frame.id)
        self._fields = {"time": now(), "index": self.call.next_index(), **self._fields}
        self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        self.call.log.attempt(lambda: self._capture(error), "")

    def _capture(self, error: BaseException | None) -> str:
        fields = self._fields
        fields.setdefault("duration_ms", self.elapsed_ms())
        if error is not None:
            fields.setdefault("error", failure_of(error))
        if error is None or isinstance(error, Exception):
            fields.setdefault("success", error is None and fields.get("error") is None)
        return self.call.capture_step({"id": self.id, **fields, "actions": self._actions})

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def set(self, **fields: Any) -> None:
        """Fields of the Step: reasoning, inputs, outputs, state_changes…; unknown ones are kept under ``extra``."""
        self._fields.update(fields)

    def fail(self, error: object) -> None:
        """Say that the step failed though nothing was raised."""
        self._fields["error"] = self.call.log.attempt(lambda: failure_of(error), None)

    def action(self, **fields: Any) -> None:
        """One action of the step, by the fields of :class:`~tracemill.core.records.Action`."""

        def take() -> None:
            self._actions.append(fields)
            if fields.get("tool") is not None and fields.get("type", "tool_call") == "tool_call":
                self.call.count_tool(str(fields["tool"]))

        self.call.log.attempt(take, None)

    def step(self, name: str | None = None, **fields: Any) -> StepCall:
        """A step that is part of this one."""
        return StepCall(self.call, {"name": name, "parent_id": self.id, **fields})

    def tool(self, tool: str, parameters: Any = None, **fields: Any) -> ToolCall:
        """A context manager around one tool call, as an action of this step."""
        return ToolCall(self.call, self, {"tool": tool, "parameters": parameters, **fields})


class ToolCall(_Frame):
    """One tool call under way. Set ``result`` to what the tool gave, or return it through :meth:`give`."""

    def __init__(self, call: Call, step: StepCall | None, action: dict[str, Any]) -> None:
        super().__init__()
        self._call = call
        self._own = step is None
        self._step = step if step is not None else StepCall(call, {"name": action["tool"], "kind": "tool"})
        self._action = action
        self._failure: Failure | None = None
        self.result: Any = None

    def give(self, result: T) -> T:
        """Keep what the tool gave, and give it back."""
        self.result = result
        return result

    def fail(self, error: object) -> None:
        """Say that the tool failed though nothing was raised."""
        self._failure = self._call.log.attempt(lambda: failure_of(error), None)

    def set(self, **fields: Any) -> None:
        """Further fields of the action, such as ``mapping``; unknown ones are kept under the step's ``extra``."""
        self._action.update(fields)

    def __enter__(self) -> Self:
        self._started = monotonic()
        if self._own:
            self._step.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failure = self._failure or self._call.log.attempt(lambda: failure_of(error), None)
        interrupted = error is not None and not isinstance(error, Exception)
        self._step.action(
            **{
                "result": self.result,
                "success": None if interrupted else failure is None,
                "error": failure,
                "duration_ms": self.elapsed_ms(),
                **self._action,
            }
        )
        if self._own:
            if failure is not None:
                self._step.fail(failure)
            self._step.__exit__(kind, error, trace)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
