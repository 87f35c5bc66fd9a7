"""Turns and feedback as records, and which turn a feedback is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from tracemill.capture.lightspeed.schemas import FeedbackRequest, QueryRequest
from tracemill.core.consent import GLOBAL_PRIVACY_CONTROL
from tracemill.core.ids import new_id
from tracemill.core.messages import role, text
from tracemill.core.records import (
    SCHEMA_VERSION,
    CompletionStatus,
    Failure,
    Feedback,
    FeedbackKind,
    Interaction,
    Message,
    Model,
    User,
)

PRODUCER = "lightspeed"
INTERRUPTED = "\n\n*Response stopped by the user.*"
"""What stands behind an answer its reader stopped: the reader sees it, the model did not say it."""
REFUSED = "I cannot process this request due to policy restrictions."
"""What a reader sees in place of an answer that a content filter held back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A question on its way to the model. ``id`` is the interaction's, and a stream's ``request_id``.

    ``private`` says that it came with the signal Global Privacy Control.
    """

    id: str
    time: datetime
    conversation_id: str
    number: int
    user: User
    platform: str
    provider: str
    model: str
    request: QueryRequest
    messages: list[Message]
    private: bool = False


@dataclass(slots=True, kw_only=True)
class Answer:
    """What came back so far. Tool calls are in the OpenAI shape; ``parts`` are the pieces of text in their order."""

    parts: list[str] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    response_id: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    refusal: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.parts)

    @property
    def shown(self) -> str:
        """What a reader sees: the text, or what the model refused with."""
        return _shown(self.text, self.refusal, self.finish_reason)

    @property
    def input_tokens(self) -> int | None:
        """Tokens of the prompt, as the API counted them."""
        return _count(self.usage.get("prompt_tokens"))

    @property
    def output_tokens(self) -> int | None:
        """Tokens of the answer, as the API counted them."""
        return _count(self.usage.get("completion_tokens"))


def interaction_of(
    turn: Turn, answer: Answer, *, status: CompletionStatus, failure: Failure | None, duration_ms: float
) -> Interaction:
    """A turn as it ended."""
    request = turn.request
    calls = [str(call.get("function", {}).get("name") or "") for call in answer.tool_calls]
    asked = Model(provider=request.provider, name=request.model) if request.model else None
    return Interaction(
        id=turn.id,
        time=turn.time,
        schema_version=SCHEMA_VERSION,
        producer=PRODUCER,
        sequence=0,
        extra={**_extra(request), **({GLOBAL_PRIVACY_CONTROL: True} if turn.private else {})},
        platform=turn.platform,
        kind="query",
        conversation_id=turn.conversation_id,
        turn=turn.number,
        user=turn.user,
        model_requested=asked,
        model=Model(provider=turn.provider, name=answer.model or turn.model),
        messages=turn.messages,
        response=_response(answer),
        response_id=answer.response_id,
        finish_reason=answer.finish_reason,
        reasoning="".join(answer.reasoning) or None,
        success=None if status == "interrupted" else status == "successful",
        error=failure,
        tools_used=list(dict.fromkeys(name for name in calls if name)),
        tool_call_count=len(calls),
        duration_ms=duration_ms,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        usage=answer.usage,
        attachments=[msgspec.to_builtins(attachment) for attachment in request.attachments or ()],
        query_is_valid=answer.finish_reason != "content_filter",
        truncated=answer.finish_reason == "length",
        completion_status=status,
    )


def _extra(request: QueryRequest) -> dict[str, Any]:
    """What a question said and no field names; the question itself where the message the model saw holds more than it."""
    extra: dict[str, Any] = {}
    if request.attachments:
        extra["query"] = request.query
    for name in ("vector_store_ids", "solr", "no_tools"):
        if value := getattr(request, name):
            extra[name] = value
    return extra


def _response(answer: Answer) -> Message | None:
    if not answer.parts and not answer.tool_calls and answer.refusal is None:
        return None
    message: Message = {"role": "assistant", "content": answer.text or None}
    if answer.tool_calls:
        message["tool_calls"] = answer.tool_calls
    if answer.refusal is not None:
        message["refusal"] = answer.refusal
    return message


def question_of(turn: Interaction) -> str:
    """What a person asked in a turn, without the attachments the model saw with it."""
    query = turn.extra.get("query")
    if isinstance(query, str):
        return query
    return next((text(message) for message in reversed(turn.messages) if role(message) == "user"), "")


def answer_shown(turn: Interaction) -> str:
    """The answer of a turn as its reader saw it."""
    response = turn.response or {}
    shown = _shown(text(response), response.get("refusal"), turn.finish_reason)
    return shown + INTERRUPTED if turn.completion_status == "interrupted" else shown


def _shown(said: str, refusal: object, finish_reason: str | None) -> str:
    refused = refusal if isinstance(refusal, str) else ""
    if finish_reason == "content_filter":
        return refused or REFUSED
    return said or refused


def turn_meant(request: FeedbackRequest, turns: Sequence[Interaction]) -> Interaction | None:
    """The turn a feedback is about: the latest whose question and answer it repeats, white space aside. Never a guess."""
    question, answer = _normal(request.user_question), _normal(request.llm_response)
    for turn in reversed(turns):
        said = "" if turn.response is None else text(turn.response)
        if _normal(question_of(turn)) == question and answer in (_normal(said), _normal(answer_shown(turn))):
            return turn
    return None


def feedback_of(
    request: FeedbackRequest, turns: Sequence[Interaction], *, time: datetime, user: User, platform: str
) -> Feedback:
    """A feedback as a record, joined to its turn where the texts name one; where they do not, attach() looks again later."""
    meant = turn_meant(request, turns)
    return Feedback(
        id=new_id(),
        time=time,
        schema_version=SCHEMA_VERSION,
        producer=PRODUCER,
        sequence=0,
        kind=kind_of(request.sentiment, request.user_feedback, request.categories),
        interaction_id=None if meant is None else meant.id,
        conversation_id=request.conversation,
        platform=platform if meant is None else meant.platform,
        user_question=request.user_question,
        llm_response=request.llm_response,
        user=user,
        comment=request.user_feedback or None,
        categories=list(request.unique_categories),
    )


def kind_of(sentiment: object, comment: object, categories: object) -> FeedbackKind:
    """A thumb where there is a sentiment; else a report where there are categories, which all name faults; else a comment."""
    if sentiment in (1, -1):
        return "thumbs_up" if sentiment == 1 else "thumbs_down"
    return "report" if categories or not comment else "comment"


def _normal(value: str) -> str:
    return " ".join(value.split())


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
