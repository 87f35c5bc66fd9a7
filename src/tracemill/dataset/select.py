"""Reading the records a recipe names: source filter, steps, then the signals of one interaction at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from tracemill.core.errors import DatasetError, RecordError
from tracemill.core.examples import Example, FeatureValue, SupervisedExample
from tracemill.core.ids import microseconds
from tracemill.core.messages import trajectory
from tracemill.core.records import AnyRecord, Interaction
from tracemill.core.steps import Change, Drop, Keep
from tracemill.dataset.augmented import Augmentation, variations
from tracemill.dataset.facts import Facts, facts_of
from tracemill.dataset.history import content_digest, spine
from tracemill.dataset.observe import observe
from tracemill.dataset.recipe import Recipe, SignalName
from tracemill.dataset.redaction import Redacts, redacted
from tracemill.dataset.rules import Rule, judge_quality
from tracemill.dataset.signals.confidence import BY_ANNOTATOR, CHEAPER, SUCCESS_FLAG
from tracemill.dataset.signals.regenerations import Turn, turn_of
from tracemill.dataset.signals.single import of_one
from tracemill.dataset.signals.trials import Trial
from tracemill.dataset.steps import InteractionStep, describe_step
from tracemill.feedback.attach import Attached
from tracemill.quality.documents import document

_REASON = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Columns(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """The narrow columns of one interaction that was read: all that is kept in memory or looked at across records.

    ``attached`` are the ids of what was said of it, ``executed`` those of its steps and decisions.
    ``spine`` holds the digests of :func:`tracemill.dataset.history.spine` one after another; ``task``, ``score``,
    ``offset`` and ``length`` say where a trial lies in its shard's file of trials. ``time`` is in microseconds since the
    epoch, ``strata`` are the values of the features the recipe stratifies by, ``belonging`` the digests of conversation and
    user where a feature asks for them. ``person`` is the digest by which what the user consented to is found; empty where
    nobody said anything. ``facts`` is what documents count.
    """

    id: str
    attached: list[str]
    executed: list[str] = []
    dropped: str | None = None
    changes: list[str] = []
    left_out: dict[str, str] = {}
    groups: list[bytes] = []
    spine: bytes = b""
    task: bytes | None = None
    score: float = 0.0
    offset: int = 0
    length: int = 0
    turn: bool = False
    time: int = 0
    strata: list[FeatureValue | None] = []
    belonging: list[bytes] = []
    person: bytes = b""
    facts: Facts | None = None


@dataclass(slots=True)
class Selected:
    """What became of one interaction: columns, examples with their signal, and the trial where it is one.

    ``turn`` is what is compared within its conversation, where the recipe does so, and ``answered`` the interaction as the
    steps left it.
    ``pattern`` is the score and the text by which duplicates are found, where the recipe looks for them.

    ``whole`` marks the examples that are made of a whole trajectory, and fall when a later call repeats it.
    """

    columns: Columns
    examples: list[tuple[SignalName, bool, Example]] = field(default_factory=list)
    trial: Trial | None = None
    pattern: tuple[float, str] | None = None
    turn: Turn | None = None
    answered: Interaction | None = None


def select(
    interaction: Interaction,
    attached: Attached,
    recipe: Recipe,
    get: Callable[[str], AnyRecord | None],
    redactor: Redacts | None = None,
) -> Selected:
    """Run the recipe's steps and signals over one interaction, redacted first where there is a redactor.

    What cannot be redacted is dropped (``redaction_failed``). Raises DatasetError when a step fails.
    """
    ids, executed = list(attached.ids()), list(attached.executed())
    prepared = prepare(interaction, attached, recipe, get, redactor)
    current, changes = prepared.interaction, prepared.changes
    if prepared.dropped is not None:
        facts, why = facts_of(interaction, current, attached, recipe.scales, prepared.step), prepared.dropped
        left = Columns(id=interaction.id, attached=ids, executed=executed, dropped=why, changes=changes, facts=facts)
        return Selected(left)
    attached, get = prepared.attached, prepared.get
    selected = Selected(Columns(id=interaction.id, attached=ids))
    left_out = _signals(current, attached, recipe, get, selected)
    if recipe.package is not None:
        _describe(current, attached, recipe.package, selected)
    observed = observe(interaction, current, attached, recipe)
    trial = _trial(current, attached, recipe, left_out)
    if observed.features:
        selected.examples = [
            (signal, whole, msgspec.structs.replace(example, features=observed.features))
            for signal, whole, example in selected.examples
        ]
        trial = None if trial is None else replace(trial, features=observed.features)
    selected.trial = trial
    turn = _turn(current, attached, recipe, left_out)
    if turn is not None:
        selected.turn, selected.answered = msgspec.structs.replace(turn, features=observed.features), current
    selected.pattern = _pattern(current, attached, recipe)
    selected.columns = Columns(
        id=interaction.id,
        attached=ids,
        executed=executed,
        changes=changes,
        left_out=left_out,
        groups=observed.groups,
        # which call repeats which shows in what was said, not in what became of the same name in two of them
        spine=b"".join(spine(current if redactor is None else interaction)),
        turn=turn is not None,
        task=None if trial is None else content_digest("task", current.platform, current.task_id),
        score=0.0 if trial is None else trial.score,
        time=microseconds(interaction.time),
        strata=observed.strata,
        belonging=observed.belonging,
        facts=facts_of(interaction, current, attached, recipe.scales),
    )
    return selected


def _turn(interaction: Interaction, attached: Attached, recipe: Recipe, left_out: dict[str, str]) -> Turn | None:
    """The interaction as a turn of its conversation, where the recipe looks at those; else the reason is noted."""
    turn = turn_of(interaction, attached, recipe) if recipe.reads_conversations() else None
    if turn is None or isinstance(turn, Turn):
        return turn
    if "regenerations" in recipe.signals:
        left_out["regenerations"] = turn
    return None


def _pattern(interaction: Interaction, attached: Attached, recipe: Recipe) -> tuple[float, str] | None:
    """The score and the text by which duplicates are found, where the recipe looks for them."""
    duplicates = recipe.duplicates()
    scored = duplicates is not None or recipe.novelty() is not None
    if not scored and not recipe.splitting.near_duplicates:
        return None
    score = judge_quality(interaction, attached).score if scored else None
    content = document(trajectory(interaction), results=duplicates is not None and duplicates.tool_results)
    return (0.5 if score is None else score), content


@dataclass(frozen=True, slots=True)
class Prepared:
    """An interaction after redaction and a recipe's steps, with what belongs to it, and why it was changed.

    ``dropped`` is why the step at place ``step`` dropped it (-1: before the steps), if something did.
    """

    interaction: Interaction
    attached: Attached
    get: Callable[[str], AnyRecord | None]
    changes: list[str]
    dropped: str | None = None
    step: int = -1


def prepare(
    interaction: Interaction,
    attached: Attached,
    recipe: Recipe,
    get: Callable[[str], AnyRecord | None],
    redactor: Redacts | None = None,
) -> Prepared:
    """Redact an interaction where there is a redactor, and run the recipe's steps over it.

    What cannot be redacted is dropped (``redaction_failed``). Raises DatasetError when a step fails.
    """
    changes: list[str] = []
    current = interaction
    if redactor is not None:
        try:
            current, attached, get, changes = redacted(redactor, interaction, attached, get)
        except RecordError:
            return Prepared(interaction, attached, get, changes, "redaction_failed")
    for number, step in enumerate(recipe.steps):
        verdict = _run(step, current, attached)
        if isinstance(verdict, Drop):
            return Prepared(current, attached, get, changes, verdict.reason, number)
        if isinstance(verdict, Change):
            current = verdict.value
            changes.append(verdict.reason)
    return Prepared(current, attached, get, changes)


def _run(step: InteractionStep, interaction: Interaction, attached: Attached) -> Keep | Drop | Change[Interaction]:
    try:
        verdict: Any = step.judge(interaction, attached) if isinstance(step, Rule) else step(interaction)
    except Exception as error:  # steps are their author's code and may raise anything
        raise DatasetError(
            f"step {_name(step)} failed on record {interaction.id}: {type(error).__name__}: {error}",
            hint="Correct the step; the build goes on where it stopped.",
        ) from error
    problem = _problem(verdict, interaction)
    if problem is not None:
        raise DatasetError(f"step {_name(step)} {problem} (record {interaction.id})", hint="Correct the step.")
    checked: Keep | Drop | Change[Interaction] = verdict
    return checked


def _problem(verdict: Any, interaction: Interaction) -> str | None:
    """What is wrong with a step's answer; it comes from code that no type checker may have seen."""
    if isinstance(verdict, Keep):
        return None
    if not isinstance(verdict, (Drop, Change)):
        return f"answered {type(verdict).__name__}, not Keep, Drop or Change"
    if not _REASON.fullmatch(str(verdict.reason)):
        return f"gave the reason {verdict.reason!r}; a reason is a snake_case word"
    if isinstance(verdict, Drop):
        return None
    if not isinstance(verdict.value, Interaction):
        return f"changed the record into {type(verdict.value).__name__}"
    return "changed the record's id" if verdict.value.id != interaction.id else None


def _name(step: InteractionStep) -> str:
    return str(describe_step(step)["step"])


def _signals(
    interaction: Interaction,
    attached: Attached,
    recipe: Recipe,
    get: Callable[[str], AnyRecord | None],
    selected: Selected,
) -> dict[str, str]:
    """Add the examples of the signals that look at one interaction; gives why the others made none."""
    left_out: dict[str, str] = {}
    for signal, whole, outcome in of_one(interaction, attached, recipe, get):
        if isinstance(outcome, Drop):
            left_out[signal] = outcome.reason
        else:
            selected.examples.extend((signal, whole, example) for example in outcome)
    if recipe.augment is not None:
        _augment(selected, recipe.augment, left_out)
    return left_out


def _describe(interaction: Interaction, attached: Attached, package: str, selected: Selected) -> None:
    """Say in each example of a package how the interaction went; what a signal knows better stays."""
    score = judge_quality(interaction, attached).score
    for at, (signal, whole, example) in enumerate(selected.examples):
        successful = example.execution_successful
        described: Example = msgspec.structs.replace(
            example,
            scenario=interaction.scenario,
            quality_score=score if example.quality_score is None else example.quality_score,
            execution_successful=interaction.success if successful is None else successful,
            training_type=package,
        )
        selected.examples[at] = signal, whole, described


def _augment(selected: Selected, augmentation: Augmentation, left_out: dict[str, str]) -> None:
    """Add variations of the supervised examples; the merge keeps those of the split ``train``."""
    for signal, whole, example in list(selected.examples):
        if isinstance(example, SupervisedExample):
            made = variations(example, augmentation)
            if isinstance(made, Drop):
                left_out["augment"] = made.reason
            else:
                selected.examples.extend((signal, whole, one) for one in made)


def _trial(interaction: Interaction, attached: Attached, recipe: Recipe, left_out: dict[str, str]) -> Trial | None:
    """The interaction as a trial of its task, when it has a score to be compared by; else the reason is noted."""
    if "trials" not in recipe.signals:
        return None
    if interaction.task_id is None:
        left_out["trials"] = "no_task"
        return None
    sources: list[str] = []
    confidence, human = SUCCESS_FLAG, False
    if recipe.trial_score == "success":
        score = None if interaction.success is None else float(interaction.success)
    elif recipe.trial_score in ("cost", "duration"):
        spent = interaction.cost_usd if recipe.trial_score == "cost" else interaction.duration_ms
        usable = interaction.success is True and spent is not None and math.isfinite(spent)
        score = -spent if usable and spent is not None else None
        confidence = CHEAPER
    else:
        score = attached.score(recipe.trial_score)
        scored = attached.scored(recipe.trial_score)
        sources = [record_id for record_id, _, _ in scored]
        confidence = max((BY_ANNOTATOR[annotator] for _, annotator, _ in scored), default=confidence)
        human = any(annotator == "HUMAN" for _, annotator, _ in scored)
    if score is None:
        left_out["trials"] = "no_score"
        return None
    return Trial(interaction, score, sources, confidence, human)
