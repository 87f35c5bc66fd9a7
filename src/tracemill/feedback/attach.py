"""Feedback and validations joined to the interactions they are about.

Records are facts and are never updated: feedback that came late, twice, or before its interaction lies in the store as
it was sent, and is joined here. The links, in this order:

1. ``interaction_id``, where the sender had it;
2. ``step_id`` alone, as annotations of a span or run have it: the id may be an interaction's (it is about the whole), a
   step's or decision's (it is about that part of its interaction), or that of the root of a trace, whose
   interaction has the span's id in ``extra``;
3. the conversation and the texts: ``user_question`` must equal the last user message of the turn, ``llm_response`` its
   answer, whitespace aside; a validation is matched by its ``original`` artifact instead. Where several turns match, the
   latest that is not after the feedback is meant.

What names a conversation and nothing in it is about the conversation as a whole (:meth:`Attachments.of_conversation`). What
matches nothing, or cannot be told apart, is listed as unmatched and never guessed. Contradicting feedback is all
kept. Only narrow columns are held in memory: ids, kinds, numbers; corrections and edited artifacts stay in the store.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import msgspec

from tracemill.core.codec import encode_plain
from tracemill.core.foreign import trace_record_id
from tracemill.core.ids import microseconds
from tracemill.core.messages import role, text
from tracemill.core.policy import first_mark
from tracemill.core.records import (
    AnnotatorKind,
    AnyRecord,
    Decision,
    Feedback,
    FeedbackKind,
    Interaction,
    Message,
    Step,
    Validation,
)
from tracemill.feedback.executions import Executions
from tracemill.store.base import Filter, Store

_FEW = 100
_TYPES = ("feedback", "validation")
POSITIVE_RATING, NEGATIVE_RATING = 4, 2
"""A rating of at least 4 of 5 is positive, of at most 2 negative; 3 is neither."""


class Scale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which value on a score counts as positive, and up to which as negative; in between it is neither."""

    positive: float
    negative: float


@dataclass(frozen=True, slots=True)
class Mark:
    """The narrow columns of one feedback. ``time`` is in microseconds since the epoch, ``step_id`` the step, decision or
    span that it names.
    """

    id: str
    time: int
    kind: FeedbackKind
    annotator_kind: AnnotatorKind
    name: str | None
    rating: int | None
    score: float | None
    corrects: bool
    about_step: bool
    step_id: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """The narrow columns of one validation."""

    id: str
    time: int
    passed: bool | None
    score: float | None
    edited: bool


@dataclass(frozen=True, slots=True)
class Label:
    """One judgement for or against a whole interaction and what it was read from: a thumb, ``rating``, a score's name."""

    positive: bool
    source: str
    id: str
    annotator_kind: AnnotatorKind
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Attached:
    """Everything said of one interaction, by time and then by id; and its steps and decisions, where they were read.

    Unlike the others, steps and decisions are whole records: they are joined by a build for one batch at a time.
    """

    feedback: tuple[Mark, ...] = ()
    validations: tuple[Check, ...] = ()
    steps: tuple[Step, ...] = ()
    decisions: tuple[Decision, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.feedback or self.validations or self.steps or self.decisions)

    def ids(self) -> Iterator[str]:
        """The ids of all records that were said of the interaction."""
        yield from (mark.id for mark in self.feedback)
        yield from (check.id for check in self.validations)

    def executed(self) -> Iterator[str]:
        """The ids of its steps and decisions."""
        yield from (step.id for step in self.steps)
        yield from (decision.id for decision in self.decisions)

    def labels(self, scales: Mapping[str, Scale]) -> list[Label]:
        """Every judgement for or against the interaction as a whole: thumbs, ratings, and scores that have a scale.

        Feedback about a single step says nothing of the whole and is left out.
        """
        return [label for mark in self.feedback if (label := _label(mark, scales)) is not None]

    def corrections(self) -> list[str]:
        """The ids of feedback and of validations that hold what should have been answered or made."""
        marks = [mark.id for mark in self.feedback if mark.corrects and not mark.about_step]
        return [*marks, *(check.id for check in self.validations if check.edited)]

    def reported(self) -> bool:
        """Whether somebody reported the interaction as a problem."""
        return any(mark.kind == "report" and not mark.about_step for mark in self.feedback)

    def failed_validation(self) -> bool:
        """Whether a validation of what it made did not pass."""
        return any(check.passed is False for check in self.validations)

    def scored(self, name: str) -> list[tuple[str, AnnotatorKind, float]]:
        """Who gave which score of a name: feedback id, kind of annotator, value. Ratings are under ``rating``."""
        found: list[tuple[str, AnnotatorKind, float]] = []
        for mark in self.feedback:
            value = mark.score if mark.name == name else None
            if name == "rating" and mark.rating is not None:
                value = float(mark.rating)
            if value is not None and math.isfinite(value) and not mark.about_step:
                found.append((mark.id, mark.annotator_kind, value))
        return found

    def score(self, name: str) -> float | None:
        """The mean of the scores of a name; None when there is none."""
        values = [value for _, _, value in self.scored(name)]
        return math.fsum(values) / len(values) if values else None


NOTHING = Attached()


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Feedback or a validation that could not be joined to an interaction. ``reason`` is a stable word.

    Reasons: ``no_link`` (neither an interaction, a step nor a conversation), ``no_such_step`` (nothing of the step's id is
    stored), ``no_such_turn`` (no turn of the conversation has these texts), ``no_turn_before`` (several have, all of them
    later than the feedback), ``about_conversation`` (it means no single turn).
    """

    id: str
    platform: str | None
    reason: str


@dataclass
class Attachments:
    """All feedback and validations of a store, by the interaction they are about.

    ``of_whole`` are those about a conversation as a whole (``about_conversation``): they belong to no interaction.
    """

    _by_interaction: dict[str, list[Mark | Check]] = field(default_factory=dict)
    _by_conversation: dict[str, list[Mark | Check]] = field(default_factory=dict)
    unmatched: list[Unmatched] = field(default_factory=list)
    of_whole: list[Unmatched] = field(default_factory=list)
    executions: Executions = field(default_factory=Executions)

    def of_batch(self, store: Store, ids: Sequence[str]) -> Iterator[Attached]:
        """What is attached to each of some interactions, with their steps and decisions where these are asked for."""
        executions = self.executions.of(store, ids)
        for record_id in ids:
            attached = self.of(record_id)
            execution = executions.get(record_id)
            if execution is not None:
                attached = replace(attached, steps=execution.steps, decisions=execution.decisions)
            yield attached

    def of(self, interaction_id: str) -> Attached:
        """What was said of one interaction; empty when nothing was."""
        return _attached(self._by_interaction.get(interaction_id))

    def of_conversation(self, conversation_id: str) -> Attached:
        """What was said of a conversation as a whole; what was said of its turns is with them."""
        return _attached(self._by_conversation.get(conversation_id))

    def targets(self) -> Iterator[str]:
        """The ids of the interactions that something was said of. They need not exist."""
        yield from self._by_interaction

    def add(self, interaction_id: str, entry: Mark | Check) -> None:
        """Join one entry to an interaction."""
        self._by_interaction.setdefault(interaction_id, []).append(entry)

    def add_to_conversation(self, conversation_id: str, entry: Mark | Check) -> None:
        """Join one entry to a conversation as a whole."""
        self._by_conversation.setdefault(conversation_id, []).append(entry)


def _attached(found: list[Mark | Check] | None) -> Attached:
    if not found:
        return NOTHING
    ordered = sorted(found, key=lambda entry: (entry.time, entry.id))
    return Attached(
        tuple(entry for entry in ordered if isinstance(entry, Mark)),
        tuple(entry for entry in ordered if isinstance(entry, Check)),
    )


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn that texts may mean: when it was, whose it is."""

    time: int
    turn: int
    id: str
    platform: str


@dataclass(slots=True)
class _Pending:
    """An entry that has to be matched by its texts, as they are and as they were before redaction."""

    entry: Mark | Check
    platform: str | None
    keys: list[bytes]
    turns: list[_Turn] = field(default_factory=list)


def attach(store: Store, *, up_to: int | None = None, keeps: Callable[[AnyRecord], bool] | None = None) -> Attachments:
    """Join every feedback and validation of the store (up to a watermark) to its interaction; those that ``keeps`` allows.

    Reads feedback and validations once, and interactions once more only when something must be matched by its texts.
    """
    said = store.scan(Filter(types=_TYPES, up_to=up_to))
    return _attach(store, said if keeps is None else filter(keeps, said), up_to)


def attach_unlinked(store: Store, conversations: Set[str]) -> Attachments:
    """As :func:`attach`, of what :func:`may_mean` something by the words of these conversations, or by its span or trace."""
    said = store.scan(Filter(types=_TYPES, unlinked=True))
    return _attach(store, (record for record in said if may_mean(record, conversations)), None)


def may_mean(record: AnyRecord, conversations: Set[str]) -> bool:
    """Whether a record that names no interaction has a span or trace, or is of one of some conversations."""
    if isinstance(record, Feedback) and record.step_id is not None:
        return "span_id" in record.extra or "trace_id" in record.extra
    return isinstance(record, Feedback | Validation) and record.conversation_id in conversations


def _attach(store: Store, said: Iterable[AnyRecord], up_to: int | None) -> Attachments:
    attachments = Attachments()
    pending: list[_Pending] = []
    of_steps: list[_OfStep] = []
    conversations: set[str] = set()
    for record in said:
        if not isinstance(record, (Feedback, Validation)):
            continue
        entry = _narrow(record)
        if record.interaction_id is not None:
            attachments.add(record.interaction_id, entry)
        elif isinstance(record, Feedback) and record.step_id is not None and isinstance(entry, Mark):
            links = {name: _word(record.extra.get(name)) for name in ("trace_id", "span_id")}
            of_steps.append(_OfStep(entry, record.platform, record.step_id, **links))
        elif record.conversation_id is not None and (keys := _wanted(record)):
            conversations.add(record.conversation_id)
            pending.append(_Pending(entry, record.platform, keys))
        elif record.conversation_id is not None:
            attachments.add_to_conversation(record.conversation_id, entry)
            attachments.of_whole.append(Unmatched(record.id, record.platform, "about_conversation"))
        else:
            attachments.unmatched.append(Unmatched(record.id, record.platform, "no_link"))
    _resolve(store, of_steps, attachments, up_to)
    if pending:
        _match(_of_conversations(store, conversations, up_to), conversations, pending)
    for item in pending:
        found = _choose(item)
        if isinstance(found, str):
            attachments.unmatched.append(Unmatched(item.entry.id, item.platform, found))
        else:
            attachments.add(found.id, item.entry)
    attachments.unmatched.sort(key=lambda unmatched: unmatched.id)
    return attachments


def _of_conversations(store: Store, conversations: set[str], up_to: int | None) -> Iterator[AnyRecord]:
    """The interactions of some conversations: looked up where they are few, else picked out of all there are."""
    if len(conversations) > _FEW:
        yield from store.scan(Filter(types=("interaction",), up_to=up_to))
        return
    for conversation in sorted(conversations):
        yield from store.scan(Filter(types=("interaction",), conversation_id=conversation, up_to=up_to))


@dataclass(frozen=True, slots=True)
class _OfStep:
    """A mark that names a step, span or run, and nothing else."""

    mark: Mark
    platform: str | None
    step_id: str
    trace_id: str | None
    span_id: str | None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _resolve(store: Store, of_steps: list[_OfStep], attachments: Attachments, up_to: int | None) -> None:
    """Find the interactions of marks that name a step: by the id, by the root of its trace, by its span's id."""
    found = store.get_many(sorted({item.step_id for item in of_steps}), up_to=up_to)
    roots = {trace_record_id(item.trace_id) for item in of_steps if item.trace_id and item.step_id not in found}
    found |= store.get_many(sorted(roots), up_to=up_to)
    left: list[_OfStep] = []
    for item in of_steps:
        target = found.get(item.step_id)
        root = found.get(trace_record_id(item.trace_id)) if item.trace_id else None
        if isinstance(target, Interaction):
            attachments.add(target.id, replace(item.mark, about_step=False, step_id=None))
        elif isinstance(target, Step | Decision) and target.interaction_id is not None:
            attachments.add(target.interaction_id, item.mark)
        elif isinstance(root, Interaction) and item.span_id and root.extra.get("span_id") == item.span_id:
            attachments.add(root.id, replace(item.mark, about_step=False, step_id=None))
        elif item.span_id and not item.trace_id:
            left.append(item)
        else:
            attachments.unmatched.append(Unmatched(item.mark.id, item.platform, "no_such_step"))
    if left:
        _resolve_by_span(store, left, attachments, up_to)


def _resolve_by_span(store: Store, left: list[_OfStep], attachments: Attachments, up_to: int | None) -> None:
    """Marks that name a span and no trace: the root of a trace has another id, so its span's is looked for."""
    wanted: dict[str, list[_OfStep]] = {}
    for item in left:
        wanted.setdefault(str(item.span_id), []).append(item)
    for record in store.scan(Filter(types=("interaction",), up_to=up_to)):
        for item in wanted.pop(str(record.extra.get("span_id")), ()):
            attachments.add(record.id, replace(item.mark, about_step=False, step_id=None))
    for items in wanted.values():
        attachments.unmatched += [Unmatched(item.mark.id, item.platform, "no_such_step") for item in items]


def question_and_answer(interaction: Interaction) -> tuple[str, str]:
    """The last user message of a turn and its answer, as text with whitespace normalised; empty where there is none."""
    messages = interaction.messages
    answer = interaction.response
    if answer is None:
        answer = next((message for message in reversed(messages) if role(message) == "assistant"), None)
    question = next((message for message in reversed(messages) if role(message) == "user"), None)
    return _text(question), _text(answer)


def _text(message: Message | None) -> str:
    return "" if message is None else _normal(text(message))


def _normal(value: str) -> str:
    return " ".join(value.split())


def _narrow(record: Feedback | Validation) -> Mark | Check:
    time = microseconds(record.time)
    if isinstance(record, Validation):
        edited = record.user_edited is not False and record.edited is not None
        return Check(record.id, time, record.passed, record.score, edited)
    return Mark(
        record.id,
        time,
        record.kind,
        record.annotator_kind,
        record.name,
        record.rating,
        record.score,
        record.correction is not None,
        record.step_id is not None,
        record.step_id,
    )


def _label(mark: Mark, scales: Mapping[str, Scale]) -> Label | None:
    if mark.about_step:
        return None
    if mark.kind in ("thumbs_up", "thumbs_down"):
        return Label(mark.kind == "thumbs_up", mark.kind, mark.id, mark.annotator_kind)
    if mark.rating is not None:
        if NEGATIVE_RATING < mark.rating < POSITIVE_RATING:
            return None
        positive = mark.rating >= POSITIVE_RATING
        return Label(positive, "rating", mark.id, mark.annotator_kind, float(mark.rating))
    scale = scales.get(mark.name) if mark.name is not None else None
    if scale is None or mark.score is None:
        return None
    if mark.score >= scale.positive:
        return Label(True, str(mark.name), mark.id, mark.annotator_kind, mark.score)
    if mark.score <= scale.negative:
        return Label(False, str(mark.name), mark.id, mark.annotator_kind, mark.score)
    return None


def _key(conversation: str, kind: str, *parts: bytes) -> bytes:
    whole = hashlib.blake2b(kind.encode(), digest_size=16)
    for part in (conversation.encode("utf-8", "surrogatepass"), *parts):
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.digest()


def _text_keys(conversation: str, question: str, answer: str) -> Iterator[bytes]:
    """The keys of a turn or a feedback: by both texts, and by each alone, for senders that have one of them only."""
    asked, answered = (part.encode("utf-8", "surrogatepass") for part in (question, answer))
    if question and answer:
        yield _key(conversation, "both", asked, answered)
    if question:
        yield _key(conversation, "question", asked)
    if answer:
        yield _key(conversation, "answer", answered)


def _said(record: Feedback | Validation) -> bytes | None:
    """The key a record without an interaction id must be matched by; None when it names nothing to match."""
    conversation = record.conversation_id or ""
    if isinstance(record, Validation):
        if record.original is None:
            return None
        return _key(conversation, "artifact", encode_plain(record.original))
    texts = (_normal(record.user_question or ""), _normal(record.llm_response or ""))
    return next(_text_keys(conversation, *texts), None)


def _shown(interaction: Interaction) -> Iterator[bytes]:
    conversation = interaction.conversation_id or ""
    yield from _text_keys(conversation, *question_and_answer(interaction))
    if interaction.artifact is not None:
        yield _key(conversation, "artifact", encode_plain(interaction.artifact))


def join_keys(record: AnyRecord) -> list[bytes]:
    """What a record is matched by where no interaction is named: of an interaction, and of what only names its texts.

    Redaction keeps keyed digests of them in the record's mark, since it may change a text in one record and not in another.
    """
    if isinstance(record, Interaction):
        return list(_shown(record)) if record.conversation_id is not None else []
    if not isinstance(record, (Feedback, Validation)) or record.interaction_id is not None:
        return []
    key = _said(record) if record.conversation_id is not None else None
    return [] if key is None else [key]


def _before(record: Interaction | Feedback | Validation) -> Iterator[bytes]:
    """The same of the record as it was before redaction, as keyed digests."""
    mark = first_mark(record.extra) if record.extra else None
    if mark is not None:
        yield from (join.encode() for join in mark.joins)


def _wanted(record: Feedback | Validation) -> list[bytes]:
    key = _said(record)
    return [*([key] if key is not None else []), *_before(record)]


def _offered(interaction: Interaction) -> Iterator[bytes]:
    yield from _shown(interaction)
    yield from _before(interaction)


def _match(records: Iterable[object], conversations: set[str], pending: list[_Pending]) -> None:
    """Give each pending entry the turns of its conversation that have its texts."""
    by_key: dict[bytes, list[_Pending]] = {}
    for item in pending:
        for key in item.keys:
            by_key.setdefault(key, []).append(item)
    for interaction in records:
        if not isinstance(interaction, Interaction) or interaction.conversation_id not in conversations:
            continue
        turn = _Turn(microseconds(interaction.time), interaction.turn or 0, interaction.id, interaction.platform)
        for key in _offered(interaction):
            for item in by_key.get(key, ()):
                if turn not in item.turns and (item.platform is None or item.platform == interaction.platform):
                    item.turns.append(turn)


def _choose(item: _Pending) -> _Turn | str:
    """The one turn an entry is about, or why there is none."""
    if len(item.turns) <= 1:
        return item.turns[0] if item.turns else "no_such_turn"
    before = [turn for turn in item.turns if turn.time <= item.entry.time]
    return max(before, key=lambda turn: (turn.time, turn.turn, turn.id)) if before else "no_turn_before"
