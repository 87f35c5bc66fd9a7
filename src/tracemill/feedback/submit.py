"""Feedback and validations as people's applications submit them, as records."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from tracemill.core.difference import structural_difference
from tracemill.core.ids import monotonic, new_id, now
from tracemill.core.records import SCHEMA_VERSION, Difference, Feedback, RecordId, User, Validation
from tracemill.feedback.validate import Checked, check_workflow

PRODUCER = "feedback-api"
Text = Annotated[str, Meta(max_length=20_000)]
Rating = Annotated[int, Meta(ge=1, le=5)]


class Submission(Struct, forbid_unknown_fields=True):
    """What ``POST /api/feedback/submit`` takes.

    About an interaction by its id, or by the conversation and the texts of the turn. ``sentiment_score`` is another name
    for ``rating``, ``corrected_workflow`` for ``correction``.
    """

    feedback_type: Literal["thumbs_up", "thumbs_down", "edit", "report"]
    interaction_id: RecordId | None = None
    conversation_id: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    user_question: Text | None = None
    llm_response: Text | None = None
    rating: Rating | None = None
    sentiment_score: Rating | None = None
    comment: Text | None = None
    categories: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=50)] = []
    corrected_workflow: Any = None
    correction: Any = None
    platform: Annotated[str, Meta(max_length=200)] | None = None
    user_id: Annotated[str, Meta(min_length=1, max_length=500)] | None = None

    def problem(self) -> tuple[str, str] | None:
        """What is missing, as the field and a sentence; None when nothing is."""
        if self.interaction_id is None and not (self.conversation_id and (self.user_question or self.llm_response)):
            return "interaction_id", "give interaction_id, or conversation_id with user_question or llm_response"
        if self.feedback_type == "edit" and self.corrected_workflow is None and self.correction is None:
            return "corrected_workflow", "an edit says what it should have been: corrected_workflow or correction"
        return None

    def record(self, user: User | None, platform: str | None) -> Feedback:
        """The record of it."""
        return Feedback(
            id=new_id(),
            time=now(),
            schema_version=SCHEMA_VERSION,
            producer=PRODUCER,
            sequence=0,
            kind=self.feedback_type,
            interaction_id=self.interaction_id,
            conversation_id=self.conversation_id,
            platform=platform or self.platform,
            user_question=self.user_question,
            llm_response=self.llm_response,
            user=user,
            rating=self.rating if self.rating is not None else self.sentiment_score,
            comment=self.comment,
            correction=self.corrected_workflow if self.corrected_workflow is not None else self.correction,
            categories=self.categories,
        )


class WorkflowSubmission(Struct, forbid_unknown_fields=True):
    """What ``POST /api/workflow/validate`` takes. ``workflow`` is what is checked, after the user's edits."""

    workflow: Any
    interaction_id: RecordId | None = None
    original_workflow: Any = None
    user_edited: bool | None = None
    conversation_id: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    platform: Annotated[str, Meta(max_length=200)] | None = None

    def record(self, platform: str | None) -> tuple[Validation, Checked]:
        """Check the workflow; the record of it and what was found."""
        began = monotonic()
        checked = check_workflow(self.workflow)
        difference: Difference | None = None
        if self.original_workflow is not None:
            difference = structural_difference(self.original_workflow, self.workflow)
        edited = self.user_edited
        if edited is None and difference is not None:
            edited = bool(difference.added or difference.removed or difference.modified)
        record = Validation(
            id=new_id(),
            time=now(),
            schema_version=SCHEMA_VERSION,
            producer=PRODUCER,
            sequence=0,
            interaction_id=self.interaction_id,
            conversation_id=self.conversation_id,
            platform=platform or self.platform,
            validator="tracemill.workflow",
            passed=checked.passed,
            score=checked.score,
            errors=list(checked.errors),
            warnings=list(checked.warnings),
            user_edited=edited,
            original=self.original_workflow,
            edited=self.workflow if edited else None,
            difference=difference,
            duration_ms=(monotonic() - began) * 1000,
        )
        return record, checked
