"""Phoenix's annotations of spans, traces, sessions and documents (client 3.5.0) as Feedback."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tracemill.capture.annotations import annotation
from tracemill.core.records import AnnotatorKind, Feedback

About = Literal["span", "trace", "session", "document"]


class _Result(Struct):
    label: str | None = None
    score: float | None = None
    explanation: str | None = None


class _Annotation(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=500)]
    annotator_kind: AnnotatorKind = "HUMAN"
    result: _Result | None = None
    metadata: Any = None
    identifier: str | None = None
    span_id: str | None = None
    trace_id: str | None = None
    session_id: str | None = None
    document_position: Annotated[int, Meta(ge=0)] | None = None


def read_annotation(entry: Any, about: About, platform: str | None) -> Feedback:
    """One annotation. Raises msgspec.ValidationError, which names the field that is wrong."""
    found = msgspec.convert(entry, _Annotation)
    result = found.result or _Result()
    if result.label is None and result.score is None and not result.explanation:
        raise msgspec.ValidationError("an annotation has a label, a score or an explanation - at `$.result`")
    target = {"span": found.span_id, "document": found.span_id, "trace": found.trace_id, "session": found.session_id}[
        about
    ]
    if not target:
        raise msgspec.ValidationError(
            f"an annotation of a {about} names it - at `$.{'span' if about == 'document' else about}_id`"
        )
    extra = {"metadata": found.metadata or None, "document_position": found.document_position}
    return annotation(
        "phoenix",
        f"{about}:{target}:{found.document_position}:{found.name}:{found.identifier or ''}",
        name=found.name,
        score=result.score,
        label=result.label,
        comment=result.explanation,
        annotator_kind=found.annotator_kind,
        identifier=found.identifier,
        span_id=target if about in ("span", "document") else None,
        trace_id=target if about == "trace" else None,
        conversation_id=target if about == "session" else None,
        platform=platform,
        extra={name: value for name, value in extra.items() if value is not None},
    )


def read_note(entry: Any, platform: str | None) -> Feedback:
    """A note on a span: a comment. Raises msgspec.ValidationError."""
    if not isinstance(entry, dict) or not entry.get("span_id") or not isinstance(entry.get("note"), str):
        raise msgspec.ValidationError("a note has a span_id and a text - at `$.data`")
    return annotation(
        "phoenix", None, name="note", comment=entry["note"], span_id=str(entry["span_id"]), platform=platform
    )
