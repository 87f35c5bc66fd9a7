"""One history answered again: which answer was preferred, and by what it shows.

Two answers of one conversation are to the same history when everything before them is the same, tools included. Of two
different ones, in this order:

* ``check``: one passed its validations and the other did not (confidence 0.9);
* ``verdict``: one was approved by labels and the other rejected (confidence 1, it is what somebody said);
* ``kept``: the conversation went on with one of them and with no other (0.7);
* ``later``: it went on with none of them, and one came last (0.4): whoever asks again usually takes what comes then. Calls
  less than a second apart are samples drawn together, of which none is later.

Weaker evidence never overrules stronger: an answer that failed a check or was rejected is not preferred for being kept,
and one that passed or was approved is not rejected for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from tracemill.core.examples import FeatureValue, PreferenceExample
from tracemill.core.ids import microseconds
from tracemill.core.messages import role, text
from tracemill.core.records import Interaction
from tracemill.dataset.history import DIGEST_BYTES, aligned_ids, content_digest, scope, shared_length, spine
from tracemill.dataset.identity import identified
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.signals.confidence import BY_ANNOTATOR, FAILED_CHECK, KEPT, LATER
from tracemill.dataset.signals.parts import prompt_and_answer
from tracemill.dataset.signals.rephrases import SIMILAR, similarity, unanswering
from tracemill.feedback.attach import Attached

Evidence: TypeAlias = Literal["check", "verdict", "kept", "later"]
CONFIDENCE: dict[Evidence, float] = {
    "check": FAILED_CHECK,
    "verdict": BY_ANNOTATOR["HUMAN"],
    "kept": KEPT,
    "later": LATER,
}
MOST_ANSWERS = 20
"""Different answers to one history that are compared, the latest of them."""
APART_US = 1_000_000
"""By how much a call must be later than another to be somebody's asking again, in microseconds."""
SOON_US = 30 * 60 * 1_000_000
"""Within which a question that is put again belongs to the answer before, in microseconds."""
_QUESTION = 4000


class Preferred(NamedTuple):
    """A better and a worse answer to one history, what tells them apart, and the records that say so."""

    better: Turn
    worse: Turn
    evidence: Evidence
    by: tuple[str, ...]


class Turn(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """The narrow columns of one answered call: what is compared within its conversation.

    ``conversation`` is its key; ``spine`` as in Columns; ``prompt`` counts the messages before the answer. ``passed`` is
    what the validations say (None where they say nothing, or both), ``verdict`` what the labels say (1, -1 or 0).
    ``asks`` says that the answer is itself a question, or calls tools. ``owner`` is the shard and the place in it,
    ``body`` where its messages lie in the shard's file. ``features`` are those a recipe asks for.
    """

    conversation: bytes
    time: int
    id: str
    spine: bytes
    prompt: int
    tools: bytes
    answer: bytes
    question: str
    passed: bool | None = None
    verdict: int = 0
    asks: bool = False
    sources: list[str] = []
    owner: tuple[int, int] = (0, 0)
    body: tuple[int, int] = (0, 0)
    features: dict[str, FeatureValue] = {}

    @property
    def history(self) -> bytes:
        """Stands for everything before the answer."""
        return self.spine[DIGEST_BYTES * (self.prompt - 1) : DIGEST_BYTES * self.prompt] + self.tools

    @property
    def end(self) -> bytes:
        """Stands for everything up to the answer."""
        return self.spine[-DIGEST_BYTES:]

    def before(self) -> Iterator[bytes]:
        """What stands for each beginning of its history, the whole of it left out."""
        for at in range(0, len(self.spine) - DIGEST_BYTES, DIGEST_BYTES):
            yield self.spine[at : at + DIGEST_BYTES]


def turn_of(interaction: Interaction, attached: Attached, recipe: Recipe) -> Turn | str:
    """The turn of an interaction, or why it is none: ``no_conversation``, ``no_answer``."""
    if interaction.conversation_id is None and interaction.session_id is None:
        return "no_conversation"
    prompt, answer = prompt_and_answer(interaction)
    if answer is None or role(answer) != "assistant" or not prompt:
        return "no_answer"
    chain = spine(interaction)
    labels = attached.labels(recipe.scales)
    passed = {check.passed for check in attached.validations if check.passed is not None}
    question = next((text(message) for message in reversed(prompt) if role(message) == "user"), "")
    positive = {label.positive for label in labels}
    return Turn(
        conversation=scope(interaction),
        time=microseconds(interaction.time),
        id=interaction.id,
        spine=b"".join(chain),
        prompt=len(prompt),
        tools=content_digest(interaction.tools),
        answer=chain[-1],
        question=question[:_QUESTION],
        passed=next(iter(passed)) if len(passed) == 1 else None,
        verdict=(1 if True in positive else -1) if len(positive) == 1 else 0,
        asks=not unanswering([answer]),
        sources=sorted([*(label.id for label in labels), *(check.id for check in attached.validations)]),
    )


def preferred(turns: Sequence[Turn]) -> Iterator[Preferred]:
    """Every pair of different answers to one history that something tells apart, of one conversation's turns in any order."""
    ordered = sorted(turns, key=lambda turn: (turn.time, turn.id))
    histories: dict[bytes, list[Turn]] = {}
    for turn in ordered:
        histories.setdefault(turn.history, []).append(turn)
    several = [answers for answers in histories.values() if len({turn.answer for turn in answers}) > 1]
    went_on: dict[bytes, str] = {}  # what a later call holds, and the first call that does
    for turn in ordered if several else ():
        for digest in turn.before():
            went_on.setdefault(digest, turn.id)
    for answers in several:
        latest = {turn.answer: turn for turn in answers}  # an answer that came twice counts once, as its last
        different = sorted(latest.values(), key=lambda turn: (turn.time, turn.id))[-MOST_ANSWERS:]
        kept = {turn.answer: went_on[turn.end] for turn in different if turn.end in went_on}
        for one, other in combinations(different, 2):
            if (found := _better(one, other, kept, different[-1])) is not None:
                yield found


def _better(one: Turn, other: Turn, kept: Mapping[bytes, str], last: Turn) -> Preferred | None:
    said = tuple(sorted({*one.sources, *other.sources}))
    if (sign := _apart(_sign(one.passed), _sign(other.passed))) != 0:
        return Preferred(*((one, other) if sign > 0 else (other, one)), "check", said)
    if (sign := _apart(one.verdict, other.verdict)) != 0:
        return Preferred(*((one, other) if sign > 0 else (other, one)), "verdict", said)
    if len(kept) > 1:
        return None
    for better, worse in ((one, other), (other, one)):
        if better.passed is False or better.verdict < 0 or worse.passed is True or worse.verdict > 0:
            continue
        if better.answer in kept:
            return Preferred(better, worse, "kept", (kept[better.answer],))
        if not kept and better is last and better.time - worse.time >= APART_US:
            return Preferred(better, worse, "later", ())
    return None


def _apart(mine: int, theirs: int) -> int:
    """Which of two opposite signs is the positive one: 1 the first, -1 the second; 0 where they are not opposite."""
    return mine if mine * theirs < 0 else 0


def _sign(passed: bool | None) -> int:
    return 0 if passed is None else 1 if passed else -1


def asked_again(turns: Sequence[Turn]) -> Iterator[tuple[Turn, Turn, float]]:
    """Answers after which the next call of the conversation asks nearly the same, with that call and the similarity.

    Only of calls that do not hold each other's history: where the history is sent along, the signal ``rephrases`` finds
    them in the messages. See there for what is nearly the same; the next call must come within half an hour.
    """
    ordered = sorted(turns, key=lambda turn: (turn.time, turn.id))
    for turn, after in pairwise(ordered):
        if turn.asks or turn.verdict > 0 or turn.history == after.history or after.time - turn.time > SOON_US:
            continue
        if turn.end in after.before():
            continue
        likeness = similarity(turn.question, after.question)
        if likeness >= SIMILAR:
            yield turn, after, likeness


def regeneration(
    better: Interaction, worse: Interaction, evidence: Evidence, sources: Sequence[str]
) -> PreferenceExample | None:
    """The preference of two answers; None where the histories turn out to differ in what the spine does not look at.

    Neither is there one where the answers do not: the same call under an id of its own is the same answer.
    """
    (prompt, chosen), (other, rejected) = prompt_and_answer(better), prompt_and_answer(worse)
    if chosen is None or rejected is None or not len(prompt) == len(other) == shared_length(prompt, other):
        return None
    if shared_length([*prompt, chosen], [*other, rejected]) > len(prompt):
        return None
    example = PreferenceExample(
        id="",
        sources=sorted({better.id, worse.id, *sources}),
        signal=f"regenerated_{evidence}",
        confidence=CONFIDENCE[evidence],
        platform=better.platform,
        task_id=better.task_id,
        tools=better.tools,
        prompt=prompt,
        chosen=[chosen],
        rejected=[rejected],
        pairs=[(better.id, worse.id)],
        aligned_ids=aligned_ids(other, prompt),
    )
    return identified(example)
