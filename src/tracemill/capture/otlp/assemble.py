"""Spans as records: each a function of its own span alone, so that neither order nor batches matter.

The root of a trace is its Interaction, under an id that any span of the trace can compute; another call of a model is an
Interaction of its own, whose ``parent_id`` is the trace's; every other span that says something of an agent, a tool or a
retrieval is a Step of the trace's Interaction. A step's ``parent_id`` is made of its parent span's id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

from tracemill.capture.annotations import annotation
from tracemill.capture.otlp.found import Attributes, Found
from tracemill.capture.otlp.genai import read_genai
from tracemill.capture.otlp.openinference import read_openinference
from tracemill.capture.otlp.parse import Span
from tracemill.capture.otlp.vendors import (
    read_common,
    read_langfuse,
    read_mlflow,
    read_pydantic_ai,
    read_traceloop,
)
from tracemill.core.foreign import span_record_id, trace_record_id
from tracemill.core.messages import tool_calls
from tracemill.core.records import (
    SCHEMA_VERSION,
    Action,
    AnnotatorKind,
    AnyRecord,
    Failure,
    Feedback,
    Interaction,
    Kind,
    Model,
    Step,
    User,
)

Pseudonymize = Callable[[str], User]
_CALLS = ("llm", "embedding")
_KINDS: dict[str, Kind] = {"llm": "chat", "agent": "agent"}
_ANNOTATORS: dict[str, AnnotatorKind] = {"HUMAN": "HUMAN", "LLM": "LLM", "CODE": "CODE"}


def read_span(span: Span) -> Found:
    """What the attributes of a span say, by every convention. ``operation`` is None when it is none of a model's."""
    attributes, found = Attributes(span.attributes), Found()
    for read in (
        read_openinference,
        read_genai,
        read_traceloop,
        read_langfuse,
        read_mlflow,
        read_pydantic_ai,
        read_common,
    ):
        read(attributes, found)
    for event in span.events:
        _read_event(event.name, event.attributes, found)
    if attributes.left:
        found.extra["attributes"] = attributes.left
    return found


def _read_event(name: str, values: dict[str, Any], found: Found) -> None:
    """Content that older instrumentations put into span events, and exceptions."""
    if name == "exception":
        kind, message = values.get("exception.type"), values.get("exception.message")
        found.set("error_type", str(kind) if kind else None)
        found.extra.setdefault("exception", {"type": kind, "message": message})
    elif name.startswith("gen_ai."):
        inner = Attributes(values)
        read_genai(inner, found)
        if name == "gen_ai.content.prompt":
            found.extra.setdefault("prompt", inner.left or None)


def awaits_content(span: Span, found: Found) -> bool:
    """Whether a call's messages may still come, as log events: it is a model's and says nothing of what was said."""
    return found.operation == "llm" and not found.has_content and not found.inputs and span.attributes != {}


def records_of(span: Span, found: Found, pseudonymize: Pseudonymize, platform: str | None) -> Iterator[AnyRecord]:
    """The record of a span, and the annotations it carries.

    ``platform`` is the name the sender is bound to; without one the service's own name is taken.
    """
    platform = platform or found.platform or service_of(span.resource) or "default"
    if span.parent_id is None or found.operation in _CALLS:
        yield _interaction(span, found, pseudonymize, platform)
    else:
        yield _step(span, found, platform)
    for entry in found.annotations:
        made = _annotation(span, entry, platform)
        if made is not None:
            yield made


def service_of(resource: dict[str, Any]) -> str | None:
    """The application's name, unless it is the one the SDKs make up."""
    name = resource.get("service.name")
    return name if isinstance(name, str) and name and not name.startswith("unknown_service") else None


def record_id_of(span: Span) -> str:
    """The id of a span's record."""
    return trace_record_id(span.trace_id) if span.parent_id is None else span_record_id(span.span_id)


def _base(span: Span, found: Found) -> dict[str, Any]:
    extra = {
        **found.extra,
        "span_id": span.span_id,
        "parent_span_id": span.parent_id,
        "name": span.name,
        "scope": span.scope or None,
        "resource": span.resource or None,
    }
    failure = None
    if span.failed or found.error_type is not None:
        exception = found.extra.get("exception") or {}
        message = span.status or str(exception.get("message") or "")
        failure = Failure(type=found.error_type or exception.get("type"), message=message)
    return {
        "id": record_id_of(span),
        "time": span.start,
        "schema_version": SCHEMA_VERSION,
        "producer": f"otlp:{service_of(span.resource) or 'unknown'}",
        "sequence": 0,
        "trace_id": span.trace_id,
        "error": failure,
        "success": failure is None,
        "duration_ms": span.duration_ms,
        "extra": {name: value for name, value in extra.items() if value is not None},
    }


def _interaction(span: Span, found: Found, pseudonymize: Pseudonymize, platform: str) -> Interaction:
    base = _base(span, found)
    response = dict(found.response) if found.response is not None else None
    called = [call.name for call in tool_calls(response or {}) if call.name]
    extra = base["extra"]
    for name, value in {"inputs": found.inputs, "outputs": found.outputs, "choices": found.choices}.items():
        if value and not (found.has_content and name != "choices" and found.operation == "llm"):
            extra[name] = value
    if found.agent:
        extra["agent"] = found.agent
    failed = base["error"] is not None
    return Interaction(
        **base,
        platform=platform,
        kind=_KINDS.get(found.operation or "", "chat" if found.operation in _CALLS else "workflow"),
        parent_id=None if span.parent_id is None else trace_record_id(span.trace_id),
        conversation_id=found.conversation_id or found.session_id,
        session_id=found.session_id or found.conversation_id,
        user=None if found.user_id is None else pseudonymize(found.user_id),
        model_requested=_model(found, found.requested),
        model=_model(found, found.answered or found.requested),
        messages=found.messages,
        tools=found.tools,
        response=response,
        response_id=found.response_id,
        finish_reason=found.finish_reason,
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        usage=found.usage,
        cost_usd=found.cost_usd,
        retrieved_chunks=found.chunks,
        tools_used=list(dict.fromkeys(called)),
        tool_call_count=len(called) or None,
        completion_status="failed" if failed else "successful",
        tags=found.tags,
    )


def _model(found: Found, name: str | None) -> Model | None:
    if name is None:
        return None
    return Model(provider=found.provider, name=name, configuration=found.configuration)


def _step(span: Span, found: Found, platform: str) -> Step:
    base = _base(span, found)
    actions = []
    if found.operation == "tool":
        actions.append(
            Action(
                type="tool_call",
                tool=found.tool or span.name,
                call_id=found.call_id,
                parameters=found.arguments,
                result=found.result,
                success=base["success"],
                error=base["error"],
                duration_ms=span.duration_ms,
            )
        )
    inputs, outputs = found.inputs, found.outputs
    if found.operation == "tool":
        inputs = outputs = None
    if found.messages and inputs is None:
        inputs = found.messages
    if outputs is None:
        outputs = found.response or found.chunks or None
    return Step(
        **base,
        interaction_id=trace_record_id(span.trace_id),
        parent_id=span_record_id(span.parent_id) if span.parent_id else None,
        platform=platform,
        agent=found.agent,
        name=found.tool or found.agent or span.name,
        kind=found.operation,
        inputs=inputs,
        outputs=outputs,
        actions=actions,
    )


def _annotation(span: Span, entry: dict[str, Any], platform: str) -> Feedback | None:
    """An annotation that OpenInference carries on a span; None when it says nothing or has no name."""
    score, label, comment = entry.get("score"), entry.get("label"), entry.get("explanation")
    name = entry.get("name")
    if not isinstance(name, str) or (score is None and label is None and comment is None):
        return None
    about: Literal["span", "trace"] = "trace" if entry.get("about") == "trace" else "span"
    return annotation(
        "openinference",
        f"{span.span_id}:{name}:{entry.get('identifier') or ''}",
        name=name,
        score=score if isinstance(score, (int, float)) else None,
        label=None if label is None else str(label),
        comment=None if comment is None else str(comment),
        annotator_kind=_ANNOTATORS.get(str(entry.get("annotator_kind", "")).upper(), "CODE"),
        identifier=None if entry.get("identifier") is None else str(entry["identifier"]),
        span_id=span.span_id if about == "span" else None,
        trace_id=span.trace_id,
        time=span.start,
        platform=platform,
    )
