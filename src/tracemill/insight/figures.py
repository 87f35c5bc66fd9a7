"""What :func:`tracemill.insight.statistics.collect_statistics` answers, as plain structs.

Durations are in milliseconds, lengths of texts in characters, money in US dollars. ``None`` stands for what cannot be known
from the records.
"""

from __future__ import annotations

from datetime import date

import msgspec
from msgspec import Struct

from tracemill.drawing.measures import Distribution, Rate, Share
from tracemill.insight.patterns import ToolPattern


class Scope(Struct, frozen=True):
    """What was looked at. ``bodies`` counts the records whose content was read, out of ``records``."""

    platform: str | None
    first_day: date | None
    last_day: date | None
    records: dict[str, int]
    bodies: int
    watermark: int
    raw_bytes: int
    stored_bytes: int


class Outcomes(Struct, frozen=True):
    """How interactions went: ``succeeded`` over those that state it, ``unknown`` the rest."""

    interactions: int
    succeeded: Rate
    unknown: int
    completion: list[Share]
    refused: int
    truncated: int


class ToolUse(Struct, frozen=True):
    """One tool. ``called`` counts calls in messages, ``ran`` and ``failed`` the actions of steps, ``succeeded`` those
    actions that state how they went; the mean time is over the actions that state one. ``trajectories`` is the success rate
    of the trajectories that call it.
    """

    tool: str
    called: int
    ran: int
    failed: int
    succeeded: Rate
    trajectories: Rate
    mean_ms: float | None
    parameters: list[Share]
    failures: list[Share]


class Chats(Struct, frozen=True):
    """Conversations: each message counts once, however often later calls repeat it."""

    users: int
    conversations: int
    sessions: int
    user_characters: Distribution
    assistant_characters: Distribution
    messages: Distribution
    response_ms: Distribution
    kinds: list[Share]
    channel_types: list[Share]
    finish_reasons: list[Share]
    intents: list[Share]


class Cause(Struct, frozen=True):
    """Why interactions failed: the error's type, how many, their share of all failures, and one message as an example."""

    cause: str
    count: int
    share: float
    example: str


class ContextRate(Struct, frozen=True):
    """The success rate within one context."""

    name: str
    interactions: int
    succeeded: Rate


class Trajectories(Struct, frozen=True):
    """How the work was done. A step reasons, acts, or both; ``neither`` are plain answers.

    ``reasoning_per_action`` is the number of reasoning steps over the number of acting ones.
    """

    count: int
    from_steps: int
    length: Distribution
    length_succeeded: Distribution
    length_failed: Distribution
    tool_calls: Distribution
    reasoning: int
    acting: int
    both: int
    neither: int
    reasoning_per_action: float | None


class Scores(Struct, frozen=True):
    """The scores of one name (a reward, a judge's mark)."""

    name: str
    count: int
    mean: float | None
    minimum: float | None
    maximum: float | None


class FeedbackFigures(Struct, frozen=True):
    """What was said. ``interactions`` is how many something was said of by id, ``coverage`` their share of all.

    ``thumbs`` is thumbs up over all thumbs. ``contradicted`` counts interactions with a thumb up and a thumb down.
    ``unlinked`` feedback names no interaction and is matched by its texts when a dataset is built.
    """

    records: int
    interactions: int
    coverage: float | None
    kinds: list[Share]
    thumbs: Rate
    ratings: list[Share]
    mean_rating: float | None
    categories: list[Share]
    annotators: list[Share]
    scores: list[Scores]
    corrections: int
    contradicted: int
    unlinked: int


class ValidationFigures(Struct, frozen=True):
    """Checks of what was made, and how often its user changed it."""

    records: int
    passed: Rate
    score: Distribution
    edited: Rate
    errors: list[Share]


class DecisionFigures(Struct, frozen=True):
    """Choices of agents. Costs and times are sums over the decisions that state both an estimate and an outcome."""

    records: int
    succeeded: Rate
    confidence: Distribution
    quality: Distribution
    options: Distribution
    choices: list[Share]
    estimated_cost_usd: float
    actual_cost_usd: float
    estimated_time_ms: float
    actual_time_ms: float


class SessionFigures(Struct, frozen=True):
    """Sessions that ended."""

    records: int
    reasons: list[Share]
    completion: list[Share]
    messages: Distribution
    duration_ms: Distribution


class Group(Struct, frozen=True):
    """The interactions of one platform or one model. Quantiles are None where no bodies were read."""

    name: str
    interactions: int
    succeeded: Rate
    input_tokens: int
    output_tokens: int
    cost_usd: float
    mean_ms: float | None
    median_ms: float | None
    p95_ms: float | None


class Day(Struct, frozen=True):
    """One day (UTC). ``unknown`` interactions do not say how they went."""

    day: date
    interactions: int
    succeeded: int
    failed: int
    unknown: int
    thumbs_up: int
    thumbs_down: int
    input_tokens: int
    output_tokens: int
    cost_usd: float


class Statistics(Struct, frozen=True):
    """Everything there is to say in numbers. ``notes`` are sentences a reader should know before trusting them."""

    scope: Scope
    outcomes: Outcomes
    tools: list[ToolUse]
    chats: Chats
    failures: list[Cause]
    contexts: dict[str, list[ContextRate]]
    trajectories: Trajectories
    patterns: list[ToolPattern]
    feedback: FeedbackFigures
    validations: ValidationFigures
    decisions: DecisionFigures
    sessions: SessionFigures
    platforms: list[Group]
    models: list[Group]
    days: list[Day]
    notes: list[str]

    def to_json(self) -> str:
        """The same as JSON text, two spaces deep."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()
