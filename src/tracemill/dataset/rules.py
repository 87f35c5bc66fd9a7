"""Steps that judge quality: what is worth training on, by the measures of :mod:`tracemill.quality.metrics`.

They look at an interaction together with what was said of it. Each drops with one reason; a value that is not known is no
reason to drop, unless ``unknown: drop`` says so.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta, Struct

from tracemill.core.messages import role, trajectory
from tracemill.core.records import Interaction
from tracemill.core.steps import KEEP, Drop, Verdict
from tracemill.feedback.attach import NOTHING, Attached
from tracemill.quality.metrics import Expected, MeasureName, Quality, Said, measure
from tracemill.quality.text import TextQuality, measure_text

Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Unknown: TypeAlias = Literal["keep", "drop"]
INCOMPLETE = ("truncated", "unanswered_call", "unanswered_user", "no_answer")
"""Findings of the text rules that show that an execution stopped before its end."""


class NamedStep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step that a recipe names; its fields are its arguments. By itself it keeps everything."""

    def __call__(self, interaction: Interaction) -> Verdict[Interaction]:  # noqa: ARG002 - others look at it
        return KEEP


class Rule(NamedStep, frozen=True):
    """A step that also looks at what was said of the interaction, and at how it was carried out. By itself it keeps everything.

    A class that never looks at steps and decisions sets ``reads_executions`` to False, so that they are not read for it.
    """

    reads_executions: ClassVar[bool] = True

    def __call__(self, interaction: Interaction) -> Verdict[Interaction]:
        return self.judge(interaction, NOTHING)

    def judge(self, interaction: Interaction, attached: Attached) -> Verdict[Interaction]:  # noqa: ARG002
        """The verdict on an interaction with what is attached to it."""
        return KEEP


def said_of(attached: Attached) -> Said:
    """What was attached to an interaction, in the words of the measures. Scores without a known scale are left out."""
    marks = [mark for mark in attached.feedback if not mark.about_step]
    checks = [
        check.score / 100 if check.score is not None else float(bool(check.passed))
        for check in attached.validations
        if check.score is not None or check.passed is not None
    ]
    return Said(
        thumbs=tuple(mark.kind == "thumbs_up" for mark in marks if mark.kind in ("thumbs_up", "thumbs_down")),
        ratings=tuple(mark.rating for mark in marks if mark.rating is not None),
        checks=tuple(checks),
        corrected=bool(attached.corrections()),
    )


def judge_quality(interaction: Interaction, attached: Attached, expected: Expected | None = None) -> Quality:
    """The measures of an interaction with what was said of it, its steps and its decisions."""
    return measure(
        interaction,
        said=said_of(attached),
        expected=expected or Expected(),
        steps=attached.steps,
        decisions=attached.decisions,
        measured=text_of(interaction),
    )


_measured: tuple[Interaction, TextQuality] | None = None


def text_of(interaction: Interaction) -> TextQuality:
    """The text rules over an interaction; measured once for all the rules that look at it one after another."""
    global _measured  # noqa: PLW0603 - the last one only, and it is a fact that nothing changes
    last = _measured
    if last is None or last[0] is not interaction:
        last = _measured = interaction, measure_text(interaction)
    return last[1]


def _below(quality: Quality, name: MeasureName, least: float, unknown: Unknown) -> bool:
    value = quality.value(name)
    return unknown == "drop" if value is None else value < least


class MinimumQuality(Rule, frozen=True):
    """Drop (``low_quality``) what has a score below ``score``.

    A failed interaction whose learning value is at least ``or_learning`` is kept all the same, for training on errors.
    ``expected_cost_usd`` and ``expected_duration_ms`` are what an execution usually takes; without them efficiency is unknown.
    """

    score: Share = 0.8
    unknown: Unknown = "keep"
    or_learning: Share | None = None
    expected_cost_usd: Annotated[float, Meta(gt=0)] | None = None
    expected_duration_ms: Annotated[float, Meta(gt=0)] | None = None

    def judge(self, interaction: Interaction, attached: Attached) -> Verdict[Interaction]:
        expected = Expected(cost_usd=self.expected_cost_usd, duration_ms=self.expected_duration_ms)
        quality = judge_quality(interaction, attached, expected)
        if quality.score is None:
            return Drop("quality_unknown") if self.unknown == "drop" else KEEP
        if quality.score >= self.score or _teaches(quality, self.or_learning):
            return KEEP
        return Drop("low_quality")


class CompleteExecution(Rule, frozen=True):
    """Drop (``incomplete_execution``) what was interrupted, is cut off, or stops with a call or a question unanswered.

    A response that ends with tool calls is one step of an agent's conversation logged call by call, and is complete.
    """

    reads_executions: ClassVar[bool] = False

    def judge(self, interaction: Interaction, attached: Attached) -> Verdict[Interaction]:  # noqa: ARG002
        found = set(text_of(interaction).defects())
        return Drop("incomplete_execution") if found & set(INCOMPLETE) else KEEP


class ClearReasoning(Rule, frozen=True):
    """Drop (``ambiguous_reasoning``) what has reasoning of a clarity below ``clarity``; without any it is unknown."""

    clarity: Share = 0.6
    unknown: Unknown = "keep"

    def judge(self, interaction: Interaction, attached: Attached) -> Verdict[Interaction]:
        quality = judge_quality(interaction, attached)
        return Drop("ambiguous_reasoning") if _below(quality, "clarity", self.clarity, self.unknown) else KEEP


class PositiveOutcome(Rule, frozen=True):
    """Drop (``no_positive_outcome``) what failed, or what people were rather dissatisfied with (below 0.5)."""

    unknown: Unknown = "keep"

    def judge(self, interaction: Interaction, attached: Attached) -> Verdict[Interaction]:
        quality = judge_quality(interaction, attached)
        bad = _below(quality, "success", 1.0, self.unknown) or _below(quality, "satisfaction", 0.5, "keep")
        return Drop("no_positive_outcome") if bad else KEEP


class FailedExecutions(Rule, frozen=True):
    """Drop (``failed_execution``) what failed, unless its learning value is at least ``or_learning``."""

    or_learning: Share = 0.5

    def judge(self, interaction: Interaction, attached: Attached) -> Verdict[Interaction]:
        quality = judge_quality(interaction, attached)
        failed = quality.value("success") == 0
        return Drop("failed_execution") if failed and not _teaches(quality, self.or_learning) else KEEP


class SoundText(Rule, frozen=True):
    """Drop what has a defect in its text or its tool calls, by the first rule that found one.

    ``rules`` restricts it to some of them (see docs/quality.md).
    """

    reads_executions: ClassVar[bool] = False
    rules: tuple[str, ...] = ()

    def judge(self, interaction: Interaction, attached: Attached) -> Verdict[Interaction]:  # noqa: ARG002
        found = [rule for rule in text_of(interaction).defects() if not self.rules or rule in self.rules]
        return Drop(found[0]) if found else KEEP


class DuplicatePatterns(NamedStep, frozen=True):
    """Keep only the best of interactions that say nearly the same (left out: ``duplicate_pattern``).

    It is applied once all interactions are read, to those that the other steps keep: exact Jaccard similarity of their
    ``shingle``-word runs of at least ``threshold`` (see :mod:`tracemill.quality.duplicates`). Lines that a share of
    ``boilerplate`` of all have are left out of the comparison. Needs ``tracemill[quality]``.
    """

    threshold: Annotated[float, Meta(gt=0, lt=1)] = 0.8
    shingle: Annotated[int, Meta(ge=1, le=20)] = 3
    recall: Annotated[float, Meta(gt=0, lt=1)] = 0.99
    boilerplate: Annotated[float, Meta(gt=0, le=1)] = 0.2
    tool_results: bool = False


class SeveralAgents(Rule, frozen=True):
    """Drop (``too_few_agents``) what fewer than ``count`` agents had a part in, by its steps and the names of its messages."""

    count: Annotated[int, Meta(ge=1)] = 2

    def judge(self, interaction: Interaction, attached: Attached) -> Verdict[Interaction]:
        agents = {step.agent for step in attached.steps if step.agent}
        agents |= {
            name
            for message in trajectory(interaction)
            if role(message) == "assistant" and isinstance(name := message.get("name"), str) and name
        }
        return KEEP if len(agents) >= self.count else Drop("too_few_agents")


class Domain(Rule, frozen=True):
    """Drop (``other_domain``) what is of none of the ``names``; without names, what states no domain (``no_domain``).

    A domain is stated by a tag ``domain:NAME`` or by ``extra["domain"]``. A name also means what has it as a tag, scenario,
    intent or platform. Case does not matter.
    """

    reads_executions: ClassVar[bool] = False
    names: tuple[str, ...] = ()

    def judge(self, interaction: Interaction, attached: Attached) -> Verdict[Interaction]:  # noqa: ARG002
        stated = {tag[len("domain:") :].casefold() for tag in interaction.tags if tag.startswith("domain:")}
        if isinstance(told := interaction.extra.get("domain"), str):
            stated.add(told.casefold())
        if not self.names:
            return KEEP if stated else Drop("no_domain")
        also = (*interaction.tags, interaction.scenario, interaction.intent, interaction.platform)
        stated |= {value.casefold() for value in also if value}
        return KEEP if stated & {name.casefold() for name in self.names} else Drop("other_domain")


class Novelty(NamedStep, frozen=True):
    """Prefer what is new: of each cluster of similar interactions keep the best few (left out: ``not_novel``).

    The novelty of an interaction is 1 ÷ its rank in its cluster, best score first, of equals the least id: 1 for the best of
    its kind, ½ for the next. What is below ``minimum`` is left out, so that ⌊1 ÷ minimum⌋ of a kind stay and no kind is lost.
    It is applied once all are read, after ``duplicate_patterns``, and compares the same texts, at a lower ``threshold``. How
    much of what there is was seen stands in the version's notes (:mod:`tracemill.quality.coverage`). Needs
    ``tracemill[quality]``.
    """

    minimum: Annotated[float, Meta(gt=0, le=1)] = 0.2
    threshold: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    shingle: Annotated[int, Meta(ge=1, le=20)] = 3
    recall: Annotated[float, Meta(gt=0, lt=1)] = 0.99
    boilerplate: Annotated[float, Meta(gt=0, le=1)] = 0.2


def _teaches(quality: Quality, least: float | None) -> bool:
    learning = quality.value("learning")
    return quality.value("success") == 0 and least is not None and learning is not None and learning >= least


RULES: dict[str, type[NamedStep]] = {
    "minimum_quality": MinimumQuality,
    "complete_execution": CompleteExecution,
    "clear_reasoning": ClearReasoning,
    "positive_outcome": PositiveOutcome,
    "failed_executions": FailedExecutions,
    "sound_text": SoundText,
    "duplicate_patterns": DuplicatePatterns,
    "several_agents": SeveralAgents,
    "domain": Domain,
    "novelty": Novelty,
}
"""Rules by the name a recipe file gives them."""
