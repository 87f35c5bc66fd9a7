"""Execution traces, steps and decisions as agent frameworks write them, as the fields of records.

The vocabulary is LLMunix's (``step_name``, ``action_type``, ``claude_code_mapping``, ``available_options``, costs and
times as text) beside our own names. A text that stands for a number is kept under ``extra`` beside the number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracemill.core.records import Action, Failure, Option, Outcome
from tracemill.sdk.amounts import dollars, milliseconds
from tracemill.sdk.fit import time_of

LONGEST_MESSAGE = 10_000
"""Characters of an error's message that are kept."""


def failure_of(error: object) -> Failure | None:
    """An error of any form as data: an exception, a mapping with ``type`` (or ``code``) and ``message``, or text."""
    if error is None or isinstance(error, Failure):
        return error
    if isinstance(error, BaseException):
        return Failure(type=type(error).__name__, message=_text(error), detail=_cause(error))
    if isinstance(error, Mapping):
        left = {str(key): value for key, value in error.items()}
        kind = next((left.pop(key) for key in ("type", "code") if isinstance(left.get(key), str)), None)
        message = left.pop("message") if isinstance(left.get("message"), str) else ""
        return Failure(type=kind, message=message, detail=left or None)
    return Failure(message=_text(error))


def _text(value: object) -> str:
    try:
        return str(value)[:LONGEST_MESSAGE]
    except Exception:  # noqa: BLE001 - the __str__ of the host's own exception may raise anything
        return f"<{type(value).__name__} without a readable message>"


def _cause(error: BaseException) -> dict[str, str] | None:
    cause = error.__cause__
    return None if cause is None else {"cause": type(cause).__name__, "cause_message": _text(cause)}


def step_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Step of what an agent logged of it."""
    fields = dict(given)
    extra: dict[str, Any] = dict(fields.pop("extra", None) or {})
    if fields.get("name") is None and fields.get("step_name") is not None:
        fields["name"] = fields.pop("step_name")
    _take_times(fields, extra)
    if fields.get("error") is not None:
        fields["error"] = failure_of(fields["error"])
    given_actions = fields.pop("actions", None)
    if isinstance(given_actions, (list, tuple)):
        left: dict[str, Any] = {}
        fields["actions"] = []
        for index, item in enumerate(given_actions):
            action, rest = read_action(item)
            fields["actions"].append(action)
            if rest:
                left[str(index)] = rest
        if left:
            extra["actions"] = left
    elif given_actions is not None:
        extra["actions"] = given_actions
    return {**fields, "extra": extra} if extra else fields


def read_action(given: Any) -> tuple[Action, dict[str, Any]]:
    """An action of what an agent logged of it, and what of that has no field."""
    if isinstance(given, Action):
        return given, {}
    if not isinstance(given, Mapping):
        return Action(type="note", result=given), {}
    left = {str(key): value for key, value in given.items()}
    kind = _pop_text(left, "type", "action_type")
    tool = _pop_text(left, "tool", "tool_name")
    call_id = _pop_text(left, "call_id", "tool_call_id")
    parameters = _pop(left, "parameters", "arguments", "args")
    result, mapping = left.pop("result", None), _pop(left, "mapping", "claude_code_mapping")
    success = left.pop("success") if isinstance(left.get("success"), bool) else None
    if success is None and isinstance(result, Mapping) and isinstance(result.get("success"), bool):
        success = result["success"]
    duration = _duration(left)
    if duration is None and isinstance(mapping, Mapping):  # the tool's own runtime took the time
        duration = milliseconds(mapping.get("execution_time"))
    action = Action(
        type=kind or "tool_call",
        tool=tool,
        call_id=call_id,
        parameters=parameters,
        result=result,
        success=success,
        error=failure_of(left.pop("error", None)),
        mapping=mapping,
        duration_ms=duration,
    )
    return action, left


def decision_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Decision of what an agent logged of it."""
    fields = dict(given)
    inner = fields.pop("decision_trace", None)
    if isinstance(inner, Mapping):
        fields = {**inner, **{name: value for name, value in fields.items() if value is not None}}
    for ours, theirs in (("options", "available_options"), ("choice", "decision")):
        if fields.get(ours) is None:
            fields[ours] = fields.pop(theirs, None)
    options = fields.get("options")
    if isinstance(options, Mapping):  # {name: {pros, cons, …}}
        options = [{"name": name, **value} if isinstance(value, Mapping) else name for name, value in options.items()]
    if isinstance(options, (list, tuple)):
        fields["options"] = [_option(option) for option in options]
    if isinstance(fields.get("outcome"), Mapping):
        fields["outcome"] = _outcome(fields["outcome"])
    if isinstance(fields.get("choice"), Mapping):
        fields["choice"] = _option(fields["choice"]).name
    return fields


def trace_fields(trace: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The fields of an Interaction and of its Steps, of an execution trace (also wrapped in ``execution_trace``)."""
    inner = trace.get("execution_trace")
    fields = dict(inner if isinstance(inner, Mapping) else trace)
    extra: dict[str, Any] = dict(fields.pop("extra", None) or {})
    steps = fields.pop("steps", None)
    if fields.get("duration") is None and fields.get("total_duration") is not None:
        fields["duration"] = fields.pop("total_duration")
    _take_times(fields, extra)
    status = fields.get("completion_status")
    if fields.get("success") is None and isinstance(status, str):
        fields["success"] = {"successful": True, "success": True, "failed": False}.get(status.lower())
    read = [
        step_fields({"index": index, **step} if isinstance(step, Mapping) else {"index": index, "outputs": step})
        for index, step in enumerate(steps if isinstance(steps, (list, tuple)) else ())
    ]
    if steps is not None and not isinstance(steps, (list, tuple)):
        extra["steps"] = steps
    return {"kind": "agent", **fields, "extra": extra}, read


def _take_times(fields: dict[str, Any], extra: dict[str, Any]) -> None:
    """``time`` and ``duration_ms`` of ``start_time``, ``end_time`` and a written duration, which is kept as it stood."""
    start, end = time_of(fields.get("start_time")), time_of(fields.get("end_time"))
    if fields.get("time") is None and start is not None:
        fields["time"] = start
    written = fields.get("duration")
    if fields.get("duration_ms") is None:
        duration = milliseconds(written)
        if duration is None and start is not None and end is not None:
            duration = (end - start).total_seconds() * 1e3
        fields["duration_ms"] = duration
    for name in ("start_time", "end_time", "duration"):
        if fields.get(name) is not None:
            extra[name] = fields[name]
        fields.pop(name, None)


def _duration(left: dict[str, Any]) -> float | None:
    stated = left.pop("duration_ms", None)
    if isinstance(stated, (int, float)) and not isinstance(stated, bool):
        return float(stated)
    return next((milliseconds(left[key]) for key in ("duration", "execution_time") if left.get(key) is not None), None)


def _option(given: Any) -> Option:
    if isinstance(given, Option):
        return given
    left = _fields_or_name(given)
    name = _pop(left, "option", "name")
    cost, time = left.pop("estimated_cost_usd", None), left.pop("estimated_time_ms", None)
    return Option(
        name="" if name is None else str(name),
        pros=_texts(left, "pros"),
        cons=_texts(left, "cons"),
        estimated_cost_usd=dollars(left.get("estimated_cost")) if cost is None else dollars(cost),
        estimated_time_ms=milliseconds(left.get("estimated_time")) if time is None else _number(time),
        extra=left,
    )


def _outcome(given: Mapping[str, Any]) -> Outcome:
    left = {str(key): value for key, value in given.items()}
    cost, time = left.pop("actual_cost_usd", None), left.pop("actual_time_ms", None)
    success = left.pop("success") if isinstance(left.get("success"), bool) else None
    quality = _number(left.get("quality"))
    if quality is not None:
        del left["quality"]
    return Outcome(
        actual_cost_usd=dollars(left.get("actual_cost")) if cost is None else dollars(cost),
        actual_time_ms=milliseconds(left.get("actual_time")) if time is None else _number(time),
        success=success,
        quality=quality,
        extra=left,
    )


def _fields_or_name(given: Any) -> dict[str, Any]:
    """The fields of a mapping, or a mapping that has the value as its ``name``."""
    if isinstance(given, Mapping):
        return {str(key): value for key, value in given.items()}
    return {"name": given}


def _texts(left: dict[str, Any], name: str) -> list[str]:
    value = left.pop(name, None)
    if isinstance(value, str):
        return [value]
    return [str(item) for item in value] if isinstance(value, (list, tuple, set)) else []


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _pop(left: dict[str, Any], *names: str) -> Any:
    found = next((name for name in names if left.get(name) is not None), None)
    return left.pop(found) if found is not None else None


def _pop_text(left: dict[str, Any], *names: str) -> str | None:
    found = next((name for name in names if isinstance(left.get(name), str)), None)
    return str(left.pop(found)) if found is not None else None
