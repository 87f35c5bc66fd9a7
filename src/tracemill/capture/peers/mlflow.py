"""MLflow's assessments (3.17, ``/api/3.0/mlflow/traces/{trace_id}/assessments``) as Feedback."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from tracemill.capture.annotations import annotation
from tracemill.capture.otlp.found import from_json
from tracemill.core.records import AnnotatorKind, Feedback, User

_USERS = ("mlflow.trace.user", "mlflow.user")
_SOURCES: dict[str, AnnotatorKind] = {
    "HUMAN": "HUMAN",
    "LLM_JUDGE": "LLM",
    "AI_JUDGE": "LLM",
    "CODE": "CODE",
}


class _Source(Struct, frozen=True):
    source_type: str | int | None = None
    source_id: str | None = None


class Assessment(Struct):
    """One assessment: exactly one of ``feedback``, ``expectation`` and ``issue``, in protobuf's JSON."""

    assessment_name: Annotated[str, Meta(min_length=1, max_length=500)]
    source: _Source = _Source()
    assessment_id: str | None = None
    span_id: str | None = None
    feedback: dict[str, Any] | None = None
    expectation: dict[str, Any] | None = None
    issue: dict[str, Any] | None = None
    rationale: str | None = None
    metadata: dict[str, Any] | None = None
    create_time: str | None = None
    overrides: str | None = None
    valid: bool | None = None


def trace_hex(trace_id: str) -> str:
    """The OpenTelemetry id in one of MLflow's (``tr-<hex>``)."""
    return trace_id.removeprefix("tr-").lower()


def without_names(info: dict[str, Any], pseudonymize: Callable[[str], User]) -> dict[str, Any]:
    """What MLflow says of a trace with its users as pseudonyms, or as the settings want them."""
    metadata = info.get("trace_metadata")
    if not isinstance(metadata, dict):
        return info
    users = {name: pseudonymize(str(metadata[name])) for name in _USERS if metadata.get(name)}
    shown = {name: user.raw_id or user.pseudonym for name, user in users.items()}
    return {**info, "trace_metadata": {**metadata, **shown}}


def read_assessment(entry: Any, trace_id: str, platform: str | None) -> Feedback:
    """One assessment. An expectation says what should have been answered: it is a correction.

    Raises msgspec.ValidationError, which names the field that is wrong.
    """
    found = msgspec.convert(entry, Assessment)
    told = [value for value in (found.feedback, found.expectation, found.issue) if value is not None]
    if len(told) != 1:
        raise msgspec.ValidationError("an assessment is exactly one of feedback, expectation and issue")
    kind = _SOURCES.get(str(found.source.source_type), "CODE")
    score, label, correction = None, None, None
    extra: dict[str, Any] = {
        "source_id": found.source.source_id,
        "metadata": found.metadata,
        "overrides": found.overrides,
        "valid": found.valid,
    }
    if found.expectation is not None:
        correction = _expected(found.expectation)
    elif found.feedback is not None:
        value = found.feedback.get("value")
        extra["error"] = found.feedback.get("error")
        if isinstance(value, (bool, int, float)):
            score = value
        elif isinstance(value, str):
            label = value
        else:
            extra["value"] = value
    else:
        extra["issue"] = found.issue
        label = str((found.issue or {}).get("issue_name", "issue"))
    return annotation(
        "mlflow",
        found.assessment_id,
        name=found.assessment_name,
        score=score,
        label=label,
        comment=found.rationale or None,
        correction=correction,
        annotator_kind=kind,
        identifier=found.source.source_id,
        span_id=_span(found.span_id),
        trace_id=trace_hex(trace_id),
        time=_moment(found.create_time),
        platform=platform,
        extra={name: content for name, content in extra.items() if content is not None},
    )


def _expected(expectation: dict[str, Any]) -> Any:
    serialized = expectation.get("serialized_value")
    if isinstance(serialized, dict):
        return from_json(serialized.get("value"))
    return expectation.get("value")


def _span(span_id: str | None) -> str | None:
    return span_id.lower() if span_id else None


def _moment(value: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if value else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else None
