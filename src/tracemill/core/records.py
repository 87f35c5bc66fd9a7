"""The records: the only shapes tracemill stores.

A record is a small, immutable fact with an id and a time. What the SDK builds, the spool holds, the wire carries, the
store keeps and the archive seals is one of these seven, encoded by :mod:`tracemill.core.codec`. Nothing else in the
tree declares a stored shape again (the shapes of a dataset version are in :mod:`tracemill.core.examples`).

Conventions: times are aware and UTC; durations are in milliseconds (``_ms``), money in US dollars (``_usd``); a field
that is not known is absent (``None`` or empty), never guessed. Messages, tool schemas and tool calls are plain
dictionaries in the OpenAI chat shape, so that nothing a provider adds is lost. What a producer sends and no field
names goes to ``extra``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

SCHEMA_VERSION = 1
"""Written into every record. A reader accepts every older version, and keeps what a newer one adds (see codec)."""

RecordId: TypeAlias = Annotated[
    str,
    Meta(
        pattern="^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
        description="A UUIDv7 (RFC 9562) as canonical lower-case text.",
    ),
]
Time: TypeAlias = Annotated[datetime, Meta(tz=True)]
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Message: TypeAlias = dict[str, Any]
"""One chat message in the OpenAI shape: ``role``, ``content`` (text, parts or null), ``tool_calls``, ``tool_call_id``…"""

Kind: TypeAlias = Literal["chat", "query", "workflow", "agent"]
ExecutionMode: TypeAlias = Literal["execution", "simulation", "optimisation"]
CompletionStatus: TypeAlias = Literal["successful", "failed", "interrupted", "partial"]
FeedbackKind: TypeAlias = Literal["thumbs_up", "thumbs_down", "rating", "edit", "report", "comment", "score"]
AnnotatorKind: TypeAlias = Literal["HUMAN", "LLM", "CODE"]
Purpose: TypeAlias = Literal["store", "evaluate", "train", "share"]


class _Part(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A value inside a record."""


class User(_Part, frozen=True):
    """Who used the application, as a pseudonym: HMAC-SHA256 of the raw id under the workspace's key, in hex.

    ``key_id`` names the key, so that a rotation can be told from a new user. ``raw_id`` is absent unless the setting
    ``keep_raw_user_ids`` says otherwise.
    """

    pseudonym: str
    key_id: str
    raw_id: str | None = None


class Channel(_Part, frozen=True):
    """Where a conversation took place. Counts are at the moment of the interaction."""

    id: str | int | None = None
    name: str | None = None
    type: str | None = None
    user_count: int | None = None
    message_count: int | None = None
    contains_images: bool | None = None


class Model(_Part, frozen=True):
    """A model as asked for or as it answered. ``configuration`` holds sampling settings under the API's own names."""

    provider: str | None = None
    name: str | None = None
    version: str | None = None
    configuration: dict[str, Any] = {}


class Failure(_Part, frozen=True):
    """An error as data: its type (an exception's class name or the provider's code), message, and where it arose."""

    type: str | None = None
    message: str = ""
    detail: Any = None


class Experiment(_Part, frozen=True):
    """The arm of an experiment that produced an interaction, and the probability with which it was drawn (0 to 1)."""

    name: str
    arm: str
    propensity: Annotated[float, Meta(ge=0, le=1)] | None = None


class Action(_Part, frozen=True):
    """One thing a step did, most often a tool call. ``mapping`` is what the tool's own runtime ran underneath."""

    type: str = "tool_call"
    tool: str | None = None
    call_id: str | None = None
    parameters: Any = None
    result: Any = None
    success: bool | None = None
    error: Failure | None = None
    mapping: Any = None
    duration_ms: float | None = None


class Option(_Part, frozen=True):
    """One option of a decision with what spoke for and against it."""

    name: str
    pros: list[str] = []
    cons: list[str] = []
    estimated_cost_usd: float | None = None
    estimated_time_ms: float | None = None
    extra: dict[str, Any] = {}


class Outcome(_Part, frozen=True):
    """What came of a decision. ``quality`` is 0 to 1."""

    actual_cost_usd: float | None = None
    actual_time_ms: float | None = None
    success: bool | None = None
    quality: float | None = None
    extra: dict[str, Any] = {}


class Difference(_Part, frozen=True):
    """A structural difference of two JSON values, by JSON Pointer (RFC 6901): see :mod:`tracemill.core.difference`.

    ``added`` maps a pointer to the new value, ``removed`` to the old one, ``modified`` to ``[old, new]``.
    """

    added: dict[str, Any] = {}
    removed: dict[str, Any] = {}
    modified: dict[str, list[Any]] = {}


class _Record(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="record"):
    """What every record carries.

    ``id`` is made by the producer, so that sending twice is safe. ``producer`` names one run of one process and
    ``sequence`` counts its records from 0, so that a reader can prove that none is missing. ``schema_version`` has no
    default on purpose: a default is not written out, and would change its meaning with the next version.
    """

    id: RecordId
    time: Time
    schema_version: Annotated[int, Meta(ge=1)]
    producer: str
    sequence: Count
    extra: dict[str, Any] = {}


class Interaction(_Record, tag="interaction", frozen=True):
    """One call of a model or an agent: what it was given, what it answered, how it went.

    ``messages`` is the whole history the model saw; ``response`` is the assistant message it gave. An imported
    trajectory that is over has all of it in ``messages`` and no ``response``. ``artifact`` is what the call made
    (a workflow, a file) as JSON of any size. ``task_id`` and ``trial`` name repeated attempts at one task.
    """

    platform: str = "default"
    kind: Kind = "chat"
    session_id: str | None = None
    conversation_id: str | None = None
    turn: int | None = None
    trace_id: str | None = None
    parent_id: RecordId | None = None
    user: User | None = None
    channel: Channel | None = None
    model_requested: Model | None = None
    model: Model | None = None
    messages: list[Message] = []
    tools: list[dict[str, Any]] = []
    response: Message | None = None
    response_id: str | None = None
    finish_reason: str | None = None
    reasoning: Any = None
    intent: str | None = None
    artifact: Any = None
    success: bool | None = None
    error: Failure | None = None
    tools_used: list[str] = []
    tool_call_count: Count | None = None
    duration_ms: float | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    usage: dict[str, Any] = {}
    cost_usd: float | None = None
    retrieved_chunks: list[Any] = []
    attachments: list[Any] = []
    query_is_valid: bool | None = None
    truncated: bool | None = None
    scenario: str | None = None
    execution_mode: ExecutionMode | None = None
    completion_status: CompletionStatus | None = None
    experiment: Experiment | None = None
    task_id: str | None = None
    trial: int | None = None
    tags: list[str] = []


class Step(_Record, tag="step", frozen=True):
    """One step inside an interaction: an agent's thought with the actions it took. ``time`` is when it began."""

    interaction_id: RecordId | None = None
    parent_id: RecordId | None = None
    platform: str | None = None
    trace_id: str | None = None
    index: Count = 0
    agent: str | None = None
    name: str | None = None
    kind: str | None = None
    inputs: Any = None
    reasoning: str | None = None
    actions: list[Action] = []
    outputs: Any = None
    state_changes: Any = None
    success: bool | None = None
    error: Failure | None = None
    duration_ms: float | None = None


class Decision(_Record, tag="decision", frozen=True):
    """A choice an agent made, with the options it saw and what came of it. ``confidence`` is 0 to 1."""

    interaction_id: RecordId | None = None
    step_id: RecordId | None = None
    platform: str | None = None
    context: Any = None
    options: list[Option] = []
    choice: str | None = None
    reasoning: str | None = None
    confidence: float | None = None
    outcome: Outcome | None = None


class Validation(_Record, tag="validation", frozen=True):
    """A check of what an interaction made, and how its user changed it. ``score`` is 0 to 100."""

    interaction_id: RecordId | None = None
    conversation_id: str | None = None
    platform: str | None = None
    validator: str | None = None
    passed: bool | None = None
    score: Annotated[float, Meta(ge=0, le=100)] | None = None
    errors: list[Any] = []
    warnings: list[Any] = []
    user_edited: bool | None = None
    original: Any = None
    edited: Any = None
    difference: Difference | None = None
    duration_ms: float | None = None


class Feedback(_Record, tag="feedback", frozen=True):
    """What a person, a program or a judging model said of an interaction.

    Linked by ``interaction_id``, or by ``conversation_id`` and the texts ``user_question`` and ``llm_response`` when
    that is all the sender has. ``rating`` is 1 to 5; ``score`` is on the scale that ``name`` means (a reward, a judge's
    mark). ``correction`` is what should have been answered: text, a message, or an artifact.
    """

    kind: FeedbackKind
    name: str | None = None
    interaction_id: RecordId | None = None
    step_id: RecordId | None = None
    conversation_id: str | None = None
    platform: str | None = None
    user_question: str | None = None
    llm_response: str | None = None
    user: User | None = None
    annotator_kind: AnnotatorKind = "HUMAN"
    identifier: str | None = None
    rating: Annotated[int, Meta(ge=1, le=5)] | None = None
    score: float | None = None
    label: str | None = None
    comment: str | None = None
    correction: Any = None
    categories: list[str] = []


class SessionEnd(_Record, tag="session_end", frozen=True):
    """A session is over; what it amounted to. ``reason`` is why it ended (logout, timeout, error)."""

    session_id: str
    conversation_id: str | None = None
    platform: str | None = None
    user: User | None = None
    start_time: Time | None = None
    end_time: Time | None = None
    message_count: Count | None = None
    reason: str | None = None
    completion_status: CompletionStatus | None = None


class Consent(_Record, tag="consent", frozen=True):
    """A person allows or withdraws one purpose. The newest record of a user and purpose holds."""

    user: User
    purpose: Purpose
    granted: bool
    basis: str | None = None
    policy_version: str | None = None
    source: str | None = None
    platform: str | None = None


AnyRecord: TypeAlias = Interaction | Step | Decision | Validation | Feedback | SessionEnd | Consent
RECORD_TYPES: dict[str, type[AnyRecord]] = {
    "interaction": Interaction,
    "step": Step,
    "decision": Decision,
    "validation": Validation,
    "feedback": Feedback,
    "session_end": SessionEnd,
    "consent": Consent,
}
"""Record types by the tag that stands in their ``record`` field."""
