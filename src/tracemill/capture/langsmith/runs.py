"""A LangSmith run as a record: the root of a trace its Interaction, calls of models Interactions of their own, all else Steps.

Each record is a function of its own run alone, and its id of the run's id, so that neither order nor batches matter. What
LangSmith's clients send was read off ``langsmith`` 0.14.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tracemill.capture.langsmith.messages import answer_of, message_of, messages_of
from tracemill.capture.langsmith.multipart import canonical_id
from tracemill.capture.otlp.messages import split_response
from tracemill.core.foreign import run_record_id
from tracemill.core.ids import EPOCH
from tracemill.core.messages import tool_calls
from tracemill.core.records import (
    SCHEMA_VERSION,
    Action,
    CompletionStatus,
    Failure,
    Interaction,
    Message,
    Model,
    Step,
    User,
)

Pseudonymize = Callable[[str], User]
_CONVERSATION = ("session_id", "thread_id", "conversation_id")
_PERSON = ("user_id", "ls_user_id")
_SECONDS = 1e11
"""Numbers below are seconds: as such they reach beyond the year 5000, as milliseconds to 1973."""
_EXCEPTION = re.compile(r"([A-Za-z_][\w.]{0,200})\((.*)\)\Z", re.DOTALL)
_GIVEN = ("messages", "input", "model", "tools", "instructions", "system", "prompts", "functions", "_type")
"""What a call was given that stands in fields of its own, and not in the model's configuration."""
_READ = frozenset({"id", "trace_id", "inputs", "outputs", "error", "start_time", "tags", "extra", "attachments"})


def record_of(
    run: dict[str, Any],
    parts: list[str],
    status: CompletionStatus | None,
    moment: datetime,
    pseudonymize: Pseudonymize,
    platform: str | None,
) -> Interaction | Step:
    """The record of a run whose parts were merged.

    ``parts`` are the digests of what it was made of, ``status`` what is known of its end (None: it ended), ``moment`` stands
    in for the time of a run that states none. ``platform`` is the name the sender is bound to, else the run's project.
    """
    trace = trace_of(run)
    extra = run["extra"] if isinstance(run.get("extra"), dict) else {}
    metadata = extra["metadata"] if isinstance(extra.get("metadata"), dict) else {}
    failure = _failure(run.get("error"))
    base: dict[str, Any] = {
        "id": run_record_id(run["id"]),
        "time": _started(run) or moment,
        "schema_version": SCHEMA_VERSION,
        "producer": "langsmith",
        "sequence": 0,
        "platform": platform or _text(run.get("session_name")) or "default",
        "trace_id": trace,
        "error": failure,
        "success": None if status and failure is None else failure is None,
        "duration_ms": _duration(run),
        "extra": _extra(run, extra, metadata, parts),
    }
    if run["id"] == trace or not run.get("parent_run_id") or run.get("run_type") == "llm":
        return _interaction(run, trace, base, extra, metadata, status, pseudonymize)
    return _step(run, trace, base, extra, status)


def trace_of(run: dict[str, Any]) -> str:
    """The id of the root run: stated, or the beginning of ``dotted_order``, or the parent as the best that is known."""
    order = run.get("dotted_order")
    first = order.partition(".")[0] if isinstance(order, str) else ""
    for value in (run.get("trace_id"), first.partition("Z")[2], run.get("parent_run_id")):
        try:
            return canonical_id(value)
        except ValueError:
            continue
    return str(run["id"])


def moment_of(value: Any) -> datetime | None:
    """A time as clients send it: ISO 8601, in UTC where it says nothing, or milliseconds or (LiteLLM) seconds since 1970."""
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return EPOCH + (timedelta(seconds=value) if abs(value) < _SECONDS else timedelta(milliseconds=value))
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None


def _started(run: dict[str, Any]) -> datetime | None:
    """When a run began: stated, or as the last entry of ``dotted_order`` has it."""
    found = moment_of(run.get("start_time"))
    order = run.get("dotted_order")
    if found is not None or not isinstance(order, str):
        return found
    stamp = order.rpartition(".")[2].partition("Z")[0]
    return moment_of(f"{stamp[:15]}.{stamp[15:]}+00:00") if len(stamp) == 21 else None


def _duration(run: dict[str, Any]) -> float | None:
    start, end = _started(run), moment_of(run.get("end_time"))
    return None if start is None or end is None or end < start else (end - start) / timedelta(milliseconds=1)


def _failure(error: Any) -> Failure | None:
    """An error as the clients write it: ``repr`` of the exception, then perhaps its traceback."""
    if not error:
        return None
    if not isinstance(error, str):
        return Failure(message=str(error)[:2000], detail=error)
    head, _, rest = error.partition("\n\n")
    found = _EXCEPTION.match(head.strip())
    if found is None:
        return Failure(message=head.strip(), detail=rest or None)
    message = found[2].strip()
    if len(message) > 1 and message[0] == message[-1] and message[0] in "'\"":
        message = message[1:-1]
    return Failure(type=found[1], message=message, detail=rest or None)


def _extra(run: dict[str, Any], extra: dict[str, Any], metadata: dict[str, Any], parts: list[str]) -> dict[str, Any]:
    """Everything no field of a record names, so that nothing is lost; the person only as a pseudonym, elsewhere."""
    kept = {name: value for name, value in metadata.items() if name not in _PERSON}
    others = {name: value for name, value in run.items() if name not in _READ and value not in (None, [], {})}
    more = {name: value for name, value in extra.items() if name != "metadata" and value is not None}
    found: dict[str, Any] = {"run_id": run["id"], **others, "parts": parts}
    if kept:
        found["metadata"] = kept
    if more:
        found["langsmith"] = more
    return found


def _interaction(
    run: dict[str, Any],
    trace: str,
    base: dict[str, Any],
    extra: dict[str, Any],
    metadata: dict[str, Any],
    status: CompletionStatus | None,
    pseudonymize: Pseudonymize,
) -> Interaction:
    called = run.get("run_type") == "llm"
    history, answer = _said(run, called=called)
    for name in ("inputs", "outputs"):
        if run.get(name) and not (called and (history if name == "inputs" else answer)):
            base["extra"][name] = run[name]
    given = _dict(run.get("inputs"))
    if "litellm_call_id" in given and history:
        base["extra"]["litellm"] = {
            name: value for name, value in given.items() if name not in ("messages", "response")
        }
    if answer.get("choices"):
        base["extra"]["choices"] = answer["choices"]
    response = answer.get("response")
    names = [call.name for call in tool_calls(response or {}) if call.name]
    usage = answer.get("usage") or _dict(_dict(run.get("outputs")).get("usage_metadata"))
    usage = usage or (_dict(metadata.get("usage_metadata")) if called else {})
    conversation = next((str(metadata[name]) for name in _CONVERSATION if metadata.get(name)), None)
    person = next((str(metadata[name]) for name in _PERSON if metadata.get(name)), None)
    requested, answered = _models(run, extra, metadata, answer) if called else (None, None)
    failed: CompletionStatus = "successful" if base["error"] is None else "failed"
    return Interaction(
        **base,
        kind="chat" if called else "agent" if metadata.get("ls_agent_type") == "root" else "workflow",
        parent_id=None if run["id"] == trace else run_record_id(trace),
        conversation_id=conversation,
        session_id=conversation,
        user=None if person is None else pseudonymize(person),
        model_requested=requested,
        model=answered,
        messages=history,
        tools=_tools(run, extra, metadata) if called else [],
        response=response,
        response_id=answer.get("response_id"),
        finish_reason=answer.get("finish_reason"),
        input_tokens=_count(usage, "input_tokens", "prompt_tokens"),
        output_tokens=_count(usage, "output_tokens", "completion_tokens"),
        usage=usage,
        cost_usd=_cost(usage),
        tools_used=list(dict.fromkeys(names)),
        tool_call_count=len(names) or None,
        attachments=_list(run.get("attachments")),
        completion_status=status if status and base["error"] is None else failed,
        tags=[tag for tag in _list(run.get("tags")) if isinstance(tag, str)],
    )


def _said(run: dict[str, Any], *, called: bool) -> tuple[list[Message], dict[str, Any]]:
    """The history and the answer. An agent's outputs may repeat its whole history, with its answer at the end."""
    history = messages_of(run.get("inputs"))
    if called:
        return history, answer_of(run.get("outputs"))
    whole, response = split_response(messages_of(run.get("outputs")))
    if response is None:
        return history, {}
    return (whole if len(whole) >= len(history) else [*history, *whole]), {"response": response}


def _models(
    run: dict[str, Any], extra: dict[str, Any], metadata: dict[str, Any], answer: dict[str, Any]
) -> tuple[Model | None, Model | None]:
    """The model that was asked for and the one that answered."""
    inputs, invocation = _dict(run.get("inputs")), _dict(extra.get("invocation_params"))
    asked = inputs if "model" in inputs else {}
    if "litellm_call_id" in inputs:  # LiteLLM sends the payload of its own logs as inputs
        asked = {**_dict(inputs.get("model_parameters")), "model": inputs.get("model")}
    configuration = {
        name: value
        for name, value in {**_dict(metadata.get("ls_invocation_params")), **invocation, **asked}.items()
        if name not in _GIVEN and value is not None
    }
    stated = (metadata.get("ls_model_name"), invocation.get("model"), invocation.get("model_name"), asked.get("model"))
    name = next((text for text in stated if isinstance(text, str) and text), None)
    provider = _text(metadata.get("ls_provider")) or _text(inputs.get("custom_llm_provider"))
    for short in ("temperature", "max_tokens", "stop"):
        if metadata.get(f"ls_{short}") is not None:
            configuration.setdefault(short, metadata[f"ls_{short}"])
    answered = answer.get("answered_by") or name
    requested = Model(provider=provider, name=name, configuration=configuration) if name or provider else None
    if not answered and not provider:
        return requested, None
    return requested, Model(provider=provider, name=answered, configuration=configuration)


def _tools(run: dict[str, Any], extra: dict[str, Any], metadata: dict[str, Any]) -> list[dict[str, Any]]:
    sources = (run.get("inputs"), extra.get("invocation_params"), metadata.get("ls_invocation_params"))
    for source in sources:
        found = [tool for tool in _list(_dict(source).get("tools")) if isinstance(tool, dict)]
        if found:
            return found
    return []


def _step(
    run: dict[str, Any], trace: str, base: dict[str, Any], extra: dict[str, Any], status: CompletionStatus | None
) -> Step:
    kind, name = _text(run.get("run_type")), _text(run.get("name"))
    inputs, outputs = run.get("inputs"), run.get("outputs")
    actions = []
    if run.get("attachments"):
        base["extra"]["attachments"] = run["attachments"]
    for field in ("tags", *(["completion_status"] if status else [])):
        value = status if field == "completion_status" else run.get(field)
        if value:
            base["extra"][field] = value
    if kind == "tool":
        result = outputs["output"] if isinstance(outputs, dict) and outputs.keys() == {"output"} else outputs
        told = message_of(result) or {}
        call = extra.get("tool_call_id") or told.get("tool_call_id")
        action = Action(
            tool=name,
            call_id=None if call is None else str(call),
            parameters=inputs,
            result=told["content"] if told else result,
            success=base["success"],
            error=base["error"],
            duration_ms=base["duration_ms"],
        )
        actions.append(action)
        inputs, outputs = None, outputs if told else None
    parent = run.get("parent_run_id")
    return Step(
        **base,
        interaction_id=run_record_id(trace),
        parent_id=run_record_id(parent) if isinstance(parent, str) else None,
        name=name,
        kind=kind,
        inputs=inputs,
        outputs=outputs,
        actions=actions,
    )


def _count(usage: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def _cost(usage: dict[str, Any]) -> float | None:
    value = usage.get("total_cost")
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
