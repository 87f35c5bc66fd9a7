"""Langfuse's scores (SDK 5.0.4, ``POST /api/public/scores``) as Feedback."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tracemill.capture.annotations import THUMB_NAMES, annotation, word_of
from tracemill.core.records import AnnotatorKind, Feedback

_SOURCES: dict[str | None, AnnotatorKind] = {"ANNOTATION": "HUMAN", "EVAL": "LLM", "API": "CODE"}


class Score(Struct, rename="camel"):
    """One score. A correction says in ``value`` what should have been answered."""

    name: Annotated[str, Meta(min_length=1, max_length=500)]
    value: float | bool | Annotated[str, Meta(max_length=100_000)]
    id: str | None = None
    trace_id: str | None = None
    session_id: str | None = None
    observation_id: str | None = None
    dataset_run_id: str | None = None
    comment: str | None = None
    metadata: Any = None
    environment: str | None = None
    queue_id: str | None = None
    data_type: Literal["NUMERIC", "BOOLEAN", "CATEGORICAL", "CORRECTION", "TEXT"] | None = None
    config_id: str | None = None
    source: str | None = None
    timestamp: Any = None


def read_score(entry: Any, platform: str | None) -> Feedback:
    """One score as feedback. Raises msgspec.ValidationError, which names the field that is wrong.

    Applications send what their users clicked through the same call as their own checks, with no word on who judged; under a
    name that means a thumb it is taken for a person's.
    """
    score = msgspec.convert(entry, Score)
    if not (score.trace_id or score.session_id or score.observation_id):
        raise msgspec.ValidationError("one of traceId, observationId and sessionId is required")
    value, label, correction, comment = _value(score)
    kind = _SOURCES.get(score.source, "CODE")
    if score.source is None and word_of(score.name) in THUMB_NAMES:
        kind = "HUMAN"
    extra = {
        "metadata": score.metadata,
        "environment": score.environment,
        "config_id": score.config_id,
        "data_type": score.data_type,
        "dataset_run_id": score.dataset_run_id,
        "queue_id": score.queue_id,
    }
    return annotation(
        "langfuse",
        score.id,
        name=score.name,
        score=value,
        label=label,
        comment=comment,
        correction=correction,
        annotator_kind=kind,
        span_id=_hex(score.observation_id),
        trace_id=_hex(score.trace_id),
        conversation_id=score.session_id if not (score.trace_id or score.observation_id) else None,
        time=_moment(score.timestamp),
        platform=platform,
        extra={name: content for name, content in extra.items() if content is not None},
    )


def _value(score: Score) -> tuple[float | None, str | None, str | None, str | None]:
    """Score, label, correction and comment."""
    if not isinstance(score.value, str):
        if score.data_type in ("CATEGORICAL", "TEXT", "CORRECTION"):
            raise msgspec.ValidationError(f"a {score.data_type} score has text as its value - at `$.value`")
        return float(score.value), None, None, score.comment
    match score.data_type:
        case "CORRECTION":
            return None, None, score.value, score.comment
        case "TEXT":
            return None, None, None, "\n".join(filter(None, (score.value, score.comment)))
        case "NUMERIC" | "BOOLEAN":
            raise msgspec.ValidationError(f"a {score.data_type} score has a number as its value - at `$.value`")
    return None, score.value, None, score.comment


def _hex(identity: str | None) -> str | None:
    """An OpenTelemetry id; ids of other forms stay as they are and join with themselves."""
    return identity.lower().replace("-", "") if identity else None


def _moment(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else None
