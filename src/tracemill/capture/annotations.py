"""What any tool calls an annotation, a score, an assessment or feedback, as one Feedback record.

Every peer has the same handful of parts: a name, a score or label, an explanation, who said it, what it is about, and
perhaps a correction. What a peer has beyond that goes to ``extra``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tracemill.core.codec import encode_plain
from tracemill.core.foreign import run_record_id, span_record_id, trace_record_id
from tracemill.core.ids import derived_id, now
from tracemill.core.records import SCHEMA_VERSION, AnnotatorKind, Feedback, FeedbackKind, User

UP_NAMES = frozenset({"thumbs_up", "thumbsup", "thumb_up", "upvote", "like", "👍"})
DOWN_NAMES = frozenset({"thumbs_down", "thumbsdown", "thumb_down", "downvote", "dislike", "👎"})
EITHER_NAMES = frozenset({"thumbs", "thumb", "user_feedback", "feedback", "user_score", "vote", "user_rating_binary"})
"""Names under which applications send a thumb as a yes or no. Under any other name a 1 is a score: of what, we cannot know."""
THUMB_NAMES = UP_NAMES | DOWN_NAMES | EITHER_NAMES
_UP_LABELS = frozenset({"thumbs_up", "up", "positive", "good", "like", "liked", "yes", "true", "👍", "+1"})
_DOWN_LABELS = frozenset({"thumbs_down", "down", "negative", "bad", "dislike", "disliked", "no", "false", "👎", "-1"})


def annotation(
    source: str,
    foreign_id: str | None,
    *,
    name: str | None,
    score: float | bool | None = None,
    label: str | None = None,
    comment: str | None = None,
    correction: Any = None,
    annotator_kind: AnnotatorKind = "HUMAN",
    identifier: str | None = None,
    span_id: str | None = None,
    trace_id: str | None = None,
    run_id: str | None = None,
    conversation_id: str | None = None,
    time: datetime | None = None,
    platform: str | None = None,
    user: User | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Feedback:
    """A Feedback record of a foreign annotation.

    Its id is a function of the source, the foreign id and everything said: the same annotation sent again has the same id,
    a changed one another, and both are kept. Annotations of a span or run point to its record by ``step_id``, those of a
    whole trace by ``interaction_id``; :mod:`tracemill.feedback.attach` joins them, whichever arrived first.
    """
    value = float(score) if score is not None else None
    links = {"span_id": span_id, "trace_id": trace_id, "run_id": run_id}
    about = {key: text for key, text in links.items() if text is not None}
    content = [value, label, comment, correction, annotator_kind, identifier, about, conversation_id, dict(extra or {})]
    whole = encode_plain([name, *content]).hex()
    step_id = span_record_id(span_id) if span_id else run_record_id(run_id) if run_id else None
    return Feedback(
        id=derived_id("annotation", source, foreign_id or "", whole),
        time=time or now(),
        schema_version=SCHEMA_VERSION,
        producer=source,
        sequence=0,
        kind=kind_of(name, score, label, comment, correction, annotator_kind),
        name=name,
        interaction_id=trace_record_id(trace_id) if trace_id and step_id is None else None,
        step_id=step_id,
        conversation_id=conversation_id,
        platform=platform,
        user=user,
        annotator_kind=annotator_kind,
        identifier=identifier,
        score=value,
        label=label,
        comment=comment,
        correction=correction,
        extra={**dict(extra or {}), **about, **({"foreign_id": foreign_id} if foreign_id else {})},
    )


def kind_of(
    name: str | None,
    score: float | bool | None,
    label: str | None,
    comment: str | None,
    correction: Any,
    annotator_kind: AnnotatorKind,
) -> FeedbackKind:
    """The kind of feedback an annotation is.

    A correction is an ``edit``. A thumb is one by its name (``thumbs_up``), or a yes or no that a person gave under one of
    the names applications use for thumbs; a 0 or a negative score under the name of a thumb up takes it back and is a
    ``score``. Only a comment is a ``comment``, everything else a ``score``.
    """
    if correction is not None:
        return "edit"
    word = word_of(name)
    direction = _direction(score, label)
    if annotator_kind == "HUMAN":
        if word in UP_NAMES and direction is not False:
            return "thumbs_up"
        if word in DOWN_NAMES and direction is not False:
            return "thumbs_down"
        if word in EITHER_NAMES and direction is not None:
            return "thumbs_up" if direction else "thumbs_down"
    if score is None and label is None and comment is not None:
        return "comment"
    return "score"


def word_of(name: str | None) -> str:
    """A name as the sets above have it."""
    return (name or "").strip().lower().replace("-", "_").replace(" ", "_")


def _direction(score: float | bool | None, label: str | None) -> bool | None:
    """Whether a score or label says yes or no; None when it says neither."""
    if score in (1, 0, -1):
        return score == 1
    word = (label or "").strip().lower()
    if word in _UP_LABELS:
        return True
    return False if word in _DOWN_LABELS else None
