"""The pass over the bodies: what only the content of records can tell, in one reading and bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from tracemill.core.messages import role, text
from tracemill.core.records import (
    AnyRecord,
    Decision,
    Feedback,
    Interaction,
    Message,
    SessionEnd,
    Step,
    Validation,
)
from tracemill.drawing.measures import DistinctSample, Measure, Tally, rate, shares, short_name
from tracemill.insight.figures import (
    Cause,
    Chats,
    ContextRate,
    DecisionFigures,
    FeedbackFigures,
    Scores,
    SessionFigures,
    Trajectories,
    ValidationFigures,
)
from tracemill.insight.patterns import PatternCounter
from tracemill.insight.trajectories import Trajectory, TrajectoryStream

CONTEXTS = ("kind", "channel type", "platform", "model", "scenario", "execution mode", "experiment", "intent")
_UP, _DOWN = 1, 2
_GROUPS = 60
_EXAMPLE = 160


class Reading:
    """Takes records one by one; its methods give the figures of what was taken."""

    def __init__(self) -> None:
        self.records = 0
        self.interactions = InteractionReading()
        self.feedback = FeedbackReading()
        self.validations = ValidationReading()
        self.decisions = DecisionReading()
        self.sessions = SessionReading()
        self.patterns = PatternCounter()
        self.trajectories = TrajectoryReading(self.patterns)

    def take(self, records: Iterable[AnyRecord]) -> Iterator[int]:
        """Read records; yields how many were read after each thousand, and at the end."""
        for record in records:
            self.records += 1
            self._take(record)
            if self.records % 1000 == 0:
                yield self.records
        self.trajectories.stream.close()
        yield self.records

    def _take(self, record: AnyRecord) -> None:
        if isinstance(record, Interaction):
            self.interactions.add(record, self.trajectories.stream.interaction(record))
        elif isinstance(record, Step):
            self.trajectories.stream.step(record)
        elif isinstance(record, Feedback):
            self.feedback.add(record)
        elif isinstance(record, Validation):
            self.validations.add(record)
        elif isinstance(record, Decision):
            self.decisions.add(record)
        elif isinstance(record, SessionEnd):
            self.sessions.add(record)


class InteractionReading:
    """What interactions say of chats, failures and contexts."""

    def __init__(self) -> None:
        self.count = self.refused = self.truncated = self.failed = 0
        self.completion, self.kinds, self.channel_types = Tally(), Tally(), Tally()
        self.finish_reasons, self.intents, self.causes = Tally(), Tally(), Tally()
        self.examples: dict[str, str] = {}
        self.user_characters, self.assistant_characters = Measure(), Measure()
        self.messages, self.response_ms = Measure(), Measure()
        self.users, self.conversations, self.sessions = DistinctSample(), DistinctSample(), DistinctSample()
        self.contexts = {name: _ContextTable() for name in CONTEXTS}
        self.durations: dict[tuple[str, str], Measure] = {}

    def add(self, record: Interaction, new_messages: list[Message]) -> None:
        """Take one; ``new_messages`` are those that no earlier interaction of its conversation had."""
        self.count += 1
        self.kinds.add(record.kind)
        _add_given(self.channel_types, record.channel.type if record.channel is not None else None)
        _add_given(self.finish_reasons, record.finish_reason)
        _add_given(self.intents, record.intent)
        _add_given(self.completion, record.completion_status)
        self.truncated += record.truncated is True or record.finish_reason == "length"
        self.refused += _is_refusal(record)
        self._add_lengths(record, new_messages)
        self._add_duration(record)
        self._add_failure(record)
        self._add_contexts(record)
        for sample, key in (
            (self.users, record.user.pseudonym if record.user is not None else None),
            (self.conversations, record.conversation_id),
            (self.sessions, record.session_id),
        ):
            if key is not None:
                sample.add(key)

    def _add_lengths(self, record: Interaction, new_messages: list[Message]) -> None:
        self.messages.add(len(record.messages) + (record.response is not None))
        for message in new_messages:
            measure = {"user": self.user_characters, "assistant": self.assistant_characters}.get(role(message))
            characters = len(text(message))
            if measure is not None and characters:
                measure.add(characters)

    def _add_duration(self, record: Interaction) -> None:
        if record.duration_ms is None:
            return
        self.response_ms.add(record.duration_ms)
        for key in (("platform", record.platform), ("model", _model_name(record))):
            if key not in self.durations and len(self.durations) < _GROUPS:
                self.durations[key] = Measure()
            if key in self.durations:
                self.durations[key].add(record.duration_ms)

    def _add_failure(self, record: Interaction) -> None:
        if record.success is not False and record.error is None:
            return
        self.failed += 1
        cause, message = "(no error stated)", ""
        if record.error is not None:
            cause, message = record.error.type or "(no type)", record.error.message
        elif record.completion_status not in (None, "successful"):
            cause = f"({record.completion_status}, no error stated)"
        counted = self.causes.add(cause)
        if message and counted not in self.examples:
            self.examples[counted] = short_name(" ".join(message[:1000].split()), _EXAMPLE)

    def _add_contexts(self, record: Interaction) -> None:
        values = {
            "kind": record.kind,
            "channel type": record.channel.type if record.channel is not None else None,
            "platform": record.platform,
            "model": record.model.name if record.model is not None else None,
            "scenario": record.scenario,
            "execution mode": record.execution_mode,
            "experiment": f"{record.experiment.name}: {record.experiment.arm}"
            if record.experiment is not None
            else None,
            "intent": record.intent,
        }
        for name, value in values.items():
            if value is not None:
                self.contexts[name].add(value, record.success)

    def chats(self) -> Chats:
        """The figures of conversations."""
        return Chats(
            self.users.count(),
            self.conversations.count(),
            self.sessions.count(),
            self.user_characters.distribution(),
            self.assistant_characters.distribution(),
            self.messages.distribution(),
            self.response_ms.distribution(),
            shares(self.kinds.counts),
            shares(self.channel_types.counts),
            shares(self.finish_reasons.counts),
            shares(self.intents.counts),
        )

    def failures(self) -> list[Cause]:
        """Failures by cause, most frequent first."""
        return [
            Cause(share.name, share.count, share.share, self.examples.get(share.name, ""))
            for share in shares(self.causes.counts)
        ]

    def context_rates(self) -> dict[str, list[ContextRate]]:
        """Success rates by context, of contexts that any interaction states."""
        found = {name: table.rates() for name, table in self.contexts.items()}
        return {name: rates for name, rates in found.items() if rates}


class TrajectoryReading:
    """Sums up trajectories as they close, and hands each on to the pattern counter."""

    def __init__(self, patterns: PatternCounter) -> None:
        self.stream = TrajectoryStream(self._add)
        self._patterns = patterns
        self._count = self._from_steps = 0
        self._length, self._succeeded, self._failed, self._calls = Measure(), Measure(), Measure(), Measure()
        self._steps = self._reasoned = self._acted = self._both = 0

    def _add(self, trajectory: Trajectory) -> None:
        self._count += 1
        self._from_steps += trajectory.from_steps
        self._length.add(trajectory.length)
        if trajectory.success is not None:
            (self._succeeded if trajectory.success else self._failed).add(trajectory.length)
        self._calls.add(len(trajectory.calls))
        self._steps += trajectory.length
        self._reasoned += trajectory.reasoned
        self._acted += trajectory.acted
        self._both += trajectory.both
        self._patterns.add(trajectory)

    def figures(self) -> Trajectories:
        """The figures of every trajectory that is closed."""
        return Trajectories(
            self._count,
            self._from_steps,
            self._length.distribution(),
            self._succeeded.distribution(),
            self._failed.distribution(),
            self._calls.distribution(),
            self._reasoned,
            self._acted,
            self._both,
            self._steps - self._reasoned - self._acted + self._both,
            self._reasoned / self._acted if self._acted else None,
        )


class FeedbackReading:
    """What feedback says."""

    def __init__(self) -> None:
        self._count = self._unlinked = self._corrections = 0
        self._kinds, self._categories, self._annotators = Tally(), Tally(), Tally()
        self._ratings: Counter[int] = Counter()
        self._targets = DistinctSample()
        self._scores: dict[str, list[float]] = {}

    def add(self, record: Feedback) -> None:
        """Take one."""
        self._count += 1
        self._kinds.add(record.kind)
        self._annotators.add(record.annotator_kind)
        for category in record.categories:
            self._categories.add(category)
        self._corrections += record.correction is not None
        if record.rating is not None:
            self._ratings[record.rating] += 1
        if record.interaction_id is None:
            self._unlinked += 1
        else:
            bits = {"thumbs_up": _UP, "thumbs_down": _DOWN}.get(record.kind, 0)
            self._targets.add(record.interaction_id, bits if record.step_id is None else 0)
        if record.score is not None and abs(record.score) < float("inf"):
            name = short_name(record.name)
            if name in self._scores or len(self._scores) < _GROUPS:
                _add_score(self._scores.setdefault(name, [0, 0.0, record.score, record.score]), record.score)

    def figures(self, interactions: int) -> FeedbackFigures:
        """The figures; ``interactions`` is how many there are."""
        kinds = self._kinds.counts
        rated = sum(self._ratings.values())
        targets = self._targets.count()
        stars = {str(value): self._ratings[value] for value in range(1, 6)}
        return FeedbackFigures(
            self._count,
            targets,
            min(1.0, targets / interactions) if interactions else None,
            shares(kinds),
            rate(kinds["thumbs_up"], kinds["thumbs_up"] + kinds["thumbs_down"]),
            sorted(shares(stars), key=lambda share: share.name),
            sum(value * count for value, count in self._ratings.items()) / rated if rated else None,
            shares(self._categories.counts, self._count),
            shares(self._annotators.counts),
            [
                Scores(name, int(count), total / count, low, high)
                for name, (count, total, low, high) in sorted(self._scores.items())
            ],
            self._corrections,
            self._targets.count(_UP | _DOWN),
            self._unlinked,
        )


class ValidationReading:
    """What validations say."""

    def __init__(self) -> None:
        self._count = self._passed = self._stated = self._edited = self._edit_stated = 0
        self._score, self._errors = Measure(), Tally()

    def add(self, record: Validation) -> None:
        """Take one."""
        self._count += 1
        self._stated += record.passed is not None
        self._passed += record.passed is True
        self._edit_stated += record.user_edited is not None
        self._edited += record.user_edited is True
        if record.score is not None:
            self._score.add(record.score)
        for error in record.errors:
            self._errors.add(_error_name(error))

    def figures(self) -> ValidationFigures:
        """The figures of what was taken."""
        return ValidationFigures(
            self._count,
            rate(self._passed, self._stated),
            self._score.distribution(),
            rate(self._edited, self._edit_stated),
            shares(self._errors.counts),
        )


class DecisionReading:
    """What decisions say."""

    def __init__(self) -> None:
        self._count = self._succeeded = self._stated = 0
        self._confidence, self._quality, self._options, self._choices = Measure(), Measure(), Measure(), Tally()
        self._cost, self._time = [0.0, 0.0], [0.0, 0.0]

    def add(self, record: Decision) -> None:
        """Take one."""
        self._count += 1
        self._options.add(len(record.options))
        _add_given(self._choices, record.choice)
        if record.confidence is not None:
            self._confidence.add(record.confidence)
        outcome = record.outcome
        if outcome is None:
            return
        self._stated += outcome.success is not None
        self._succeeded += outcome.success is True
        if outcome.quality is not None:
            self._quality.add(outcome.quality)
        chosen = next((option for option in record.options if option.name == record.choice), None)
        if chosen is not None:
            _add_pair(self._cost, chosen.estimated_cost_usd, outcome.actual_cost_usd)
            _add_pair(self._time, chosen.estimated_time_ms, outcome.actual_time_ms)

    def figures(self) -> DecisionFigures:
        """The figures of what was taken."""
        return DecisionFigures(
            self._count,
            rate(self._succeeded, self._stated),
            self._confidence.distribution(),
            self._quality.distribution(),
            self._options.distribution(),
            shares(self._choices.counts),
            *self._cost,
            *self._time,
        )


class SessionReading:
    """What the ends of sessions say."""

    def __init__(self) -> None:
        self._count = 0
        self._reasons, self._completion = Tally(), Tally()
        self._messages, self._duration = Measure(), Measure()

    def add(self, record: SessionEnd) -> None:
        """Take one."""
        self._count += 1
        _add_given(self._reasons, record.reason)
        _add_given(self._completion, record.completion_status)
        if record.message_count is not None:
            self._messages.add(record.message_count)
        if record.start_time is not None and record.end_time is not None:
            self._duration.add((record.end_time - record.start_time).total_seconds() * 1000)

    def figures(self) -> SessionFigures:
        """The figures of what was taken."""
        return SessionFigures(
            self._count,
            shares(self._reasons.counts),
            shares(self._completion.counts),
            self._messages.distribution(),
            self._duration.distribution(),
        )


class _ContextTable:
    """Success by name for a bounded number of names."""

    def __init__(self) -> None:
        self._all, self._known, self._succeeded = Tally(_GROUPS), Tally(_GROUPS), Tally(_GROUPS)

    def add(self, name: str, success: bool | None) -> None:
        counted = self._all.add(name)
        if success is not None:
            self._known.counts[counted] += 1
            self._succeeded.counts[counted] += success

    def rates(self) -> list[ContextRate]:
        return [
            ContextRate(
                share.name, share.count, rate(self._succeeded.counts[share.name], self._known.counts[share.name])
            )
            for share in shares(self._all.counts)
        ]


def _model_name(record: Interaction) -> str:
    return record.model.name or "" if record.model is not None else ""


def _is_refusal(record: Interaction) -> bool:
    stated = record.response.get("refusal") if record.response is not None else None
    return bool(stated) or record.finish_reason in ("content_filter", "refusal")


def _add_given(tally: Tally, name: str | None) -> None:
    if name is not None:
        tally.add(name)


def _add_score(sums: list[float], score: float) -> None:
    sums[0] += 1
    sums[1] += score
    sums[2], sums[3] = min(sums[2], score), max(sums[3], score)


def _add_pair(sums: list[float], estimated: float | None, actual: float | None) -> None:
    if estimated is not None and actual is not None and abs(estimated + actual) < float("inf"):
        sums[0] += estimated
        sums[1] += actual


def _error_name(error: Any) -> str:
    """What a validator's error is counted under: its code or type where it is an object, else its text."""
    if isinstance(error, dict):
        named = next((error[key] for key in ("code", "type", "rule", "message") if error.get(key)), error)
        return short_name(named, 120)
    return short_name(error, 120)
