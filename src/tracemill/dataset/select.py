"""Reading the records a recipe names: source filter, steps, then the signals of one interaction at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tracemill.core.errors import DatasetError
from tracemill.core.examples import Example
from tracemill.core.messages import trajectory
from tracemill.core.records import AnyRecord, Interaction
from tracemill.core.steps import Change, Drop, Keep
from tracemill.dataset.history import content_digest, spine
from tracemill.dataset.recipe import Recipe, SignalName
from tracemill.dataset.rules import Rule, judge_quality
from tracemill.dataset.signals.confidence import BY_ANNOTATOR, SUCCESS_FLAG
from tracemill.dataset.signals.edits import edits
from tracemill.dataset.signals.labelled import labelled
from tracemill.dataset.signals.supervised import supervised
from tracemill.dataset.signals.trials import Trial
from tracemill.dataset.split import group_keys
from tracemill.dataset.steps import InteractionStep, describe_step
from tracemill.feedback.attach import Attached
from tracemill.quality.documents import document

_REASON = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Columns(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """The narrow columns of one interaction that was read: all that is kept in memory or looked at across records.

    ``attached`` are the ids of what was said of it, ``executed`` those of its steps and decisions.
    ``spine`` holds the digests of :func:`tracemill.dataset.history.spine` one after another; ``task``, ``score``,
    ``offset`` and ``length`` say where a trial lies in its shard's file of trials. ``person`` is the digest by which what
    the user consented to is found; empty where nobody said anything.
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
    person: bytes = b""


@dataclass(slots=True)
class Selected:
    """What became of one interaction: columns, examples with their signal, and the trial where it is one.

    ``pattern`` is the score and the text by which duplicates are found, where the recipe looks for them.

    ``whole`` marks the examples that are made of a whole trajectory, and fall when a later call repeats it.
    """

    columns: Columns
    examples: list[tuple[SignalName, bool, Example]] = field(default_factory=list)
    trial: Trial | None = None
    pattern: tuple[float, str] | None = None


def select(
    interaction: Interaction, attached: Attached, recipe: Recipe, get: Callable[[str], AnyRecord | None]
) -> Selected:
    """Run the recipe's steps and signals over one interaction. Raises DatasetError when a step fails."""
    ids, executed = list(attached.ids()), list(attached.executed())
    changes: list[str] = []
    current = interaction
    for step in recipe.steps:
        verdict = _run(step, current, attached)
        if isinstance(verdict, Drop):
            return Selected(
                Columns(id=interaction.id, attached=ids, executed=executed, dropped=verdict.reason, changes=changes)
            )
        if isinstance(verdict, Change):
            current = verdict.value
            changes.append(verdict.reason)
    selected = Selected(Columns(id=interaction.id, attached=ids))
    left_out = _signals(current, attached, recipe, get, selected)
    trial = _trial(current, attached, recipe, left_out)
    selected.trial = trial
    duplicates = recipe.duplicates()
    if duplicates is not None or recipe.novelty() is not None:
        score = judge_quality(current, attached).score
        content = document(trajectory(current), results=duplicates is not None and duplicates.tool_results)
        selected.pattern = (0.5 if score is None else score), content
    selected.columns = Columns(
        id=interaction.id,
        attached=ids,
        executed=executed,
        changes=changes,
        left_out=left_out,
        # a step that takes the user out must not part what belongs together, one that names a task may join more
        groups=sorted({*group_keys(interaction), *group_keys(current)}),
        spine=b"".join(spine(current)),
        task=None if trial is None else content_digest("task", current.platform, current.task_id),
        score=0.0 if trial is None else trial.score,
    )
    return selected


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
    outcomes: list[tuple[SignalName, bool, Sequence[Example] | Drop]] = []
    if "supervised" in recipe.signals:
        outcomes.append(("supervised", True, supervised(interaction, attached, recipe)))
    if "labelled" in recipe.signals:
        outcomes.append(("labelled", interaction.response is None, labelled(interaction, attached, recipe)))
    if "edits" in recipe.signals:
        outcomes.append(("edits", False, edits(interaction, attached, get)))
    for signal, whole, outcome in outcomes:
        if isinstance(outcome, Drop):
            left_out[signal] = outcome.reason
        else:
            selected.examples.extend((signal, whole, example) for example in outcome)
    return left_out


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
