"""Nine packages as ready recipes, and how many records of a store would go into each.

A package is a recipe with signals and rules for one kind of training. Its rows carry, beside what every example has, the
interaction's ``scenario``, its ``quality_score``, whether it succeeded (``execution_successful``) and the package's name as
``training_type``; ``weight`` is the signal's confidence.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from tracemill.core.errors import RecipeError
from tracemill.core.records import Interaction
from tracemill.core.steps import Progress
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.rules import ClearReasoning, Domain, PositiveOutcome, SeveralAgents
from tracemill.dataset.select import select
from tracemill.feedback.attach import attach
from tracemill.feedback.executions import BATCH, find_executions
from tracemill.store.base import Filter, Store

_REPORT_EVERY = 500


class Package(Struct, frozen=True, kw_only=True):
    """A package: what it teaches, which records it is made of, its recipe, and the exports that suit it."""

    name: str
    summary: str
    needs: tuple[str, ...]
    recipe: Recipe
    formats: tuple[str, ...]


class Qualified(Struct, frozen=True, kw_only=True):
    """How many of the interactions looked at would go into a package.

    ``interactions`` pass its steps and give an example by themselves, ``examples`` are these by type; ``comparable`` pass
    and can be compared with others (trials of one task, answers of one conversation), which only a build does. ``dropped``
    counts those its steps dropped, by reason.
    """

    looked_at: int = 0
    interactions: int = 0
    comparable: int = 0
    examples: dict[str, int] = {}
    dropped: dict[str, int] = {}


def _package(name: str, summary: str, needs: Sequence[str], formats: Sequence[str], recipe: Recipe) -> Package:
    named = msgspec.structs.replace(recipe, name=name, description=summary, package=name, weights="confidence")
    return Package(name=name, summary=summary, needs=tuple(needs), recipe=named, formats=tuple(formats))


_ALL = (
    _package(
        "decision_making",
        "Choices of agents with their options and reasoning",
        ["decisions with a choice, best with options and an outcome", "corrections of decisions by people"],
        ["agent-execution", "next-action", "trl-dpo"],
        Recipe(signals=("decisions", "overrides"), steps=(ClearReasoning(),)),
    ),
    _package(
        "tool_selection",
        "Which tool was called in which state, where that went well",
        ["tool calls in messages or actions of steps"],
        ["agent-execution", "next-action"],
        Recipe(signals=("actions", "overrides"), steps=(PositiveOutcome(),)),
    ),
    _package(
        "error_handling",
        "What was done after something had failed",
        ["failed tool results and what followed", "failed validations, best with a correction"],
        ["agent-execution", "next-action", "trl-kto", "trl-dpo"],
        Recipe(signals=("recoveries", "checks", "edits")),
    ),
    _package(
        "workflow_optimisation",
        "The quicker of two ways to do one task, and workflows as their users improved them",
        ["trials of one task that succeeded, with their duration", "edited artifacts"],
        ["trl-dpo", "trajectory-preference"],
        Recipe(signals=("trials", "edits"), trial_score="duration"),
    ),
    _package(
        "multi_agent_coordination",
        "Work that several agents did together",
        ["steps of two or more agents in one interaction"],
        ["agent-execution", "next-action", "trl-sft"],
        Recipe(signals=("actions", "decisions", "supervised"), steps=(SeveralAgents(),)),
    ),
    _package(
        "domain_specific",
        "What went well in one domain, such as healthcare, legal or marketing",
        ["a tag domain:NAME, extra.domain, scenario, intent or platform that names the domain"],
        ["conversation-example", "trl-sft", "trl-kto", "trl-dpo"],
        Recipe(signals=("supervised", "labelled", "edits"), steps=(Domain(),)),
    ),
    _package(
        "performance",
        "The cheaper of two ways to do one task",
        ["trials of one task that succeeded, with their cost"],
        ["trl-dpo", "trajectory-preference"],
        Recipe(signals=("trials",), trial_score="cost"),
    ),
    _package(
        "quality",
        "Better answers beside worse ones",
        ["corrections", "answers given again", "failed validations", "scored trials"],
        ["trl-dpo", "trl-kto", "reward"],
        Recipe(signals=("edits", "regenerations", "checks", "trials", "rewards")),
    ),
    _package(
        "user_interaction",
        "What people approved, corrected and asked again",
        ["thumbs, ratings and corrections", "conversations of several turns"],
        ["trl-kto", "trl-dpo", "conversation-example"],
        Recipe(signals=("supervised", "labelled", "edits", "rephrases", "regenerations")),
    ),
)
PACKAGES: dict[str, Package] = {package.name: package for package in _ALL}
"""Packages by name."""
ALIASES = {
    "workflow_optimization": "workflow_optimisation",
    "performance_optimization": "performance",
    "performance_optimisation": "performance",
    "quality_improvement": "quality",
}
"""Other names of some packages."""


def package_recipe(name: str, *, domain: str | None = None, dataset: str | None = None) -> Recipe:
    """The recipe of a package, under another dataset name where one is given.

    ``domain`` restricts any package to one domain. Raises RecipeError for a name nobody knows.
    """
    known = ALIASES.get(name, name)
    if known not in PACKAGES:
        near = difflib.get_close_matches(name, [*PACKAGES, *ALIASES], n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}?" if near else f"Packages: {', '.join(PACKAGES)}."
        raise RecipeError(f"there is no package {name!r}", hint=hint)
    recipe = PACKAGES[known].recipe
    if domain is not None:
        others = tuple(step for step in recipe.steps if not isinstance(step, Domain))
        recipe = msgspec.structs.replace(recipe, steps=(Domain(names=(domain,)), *others))
    return recipe if dataset is None else msgspec.structs.replace(recipe, name=dataset)


def count_qualified(
    store: Store, *, newest: int | None = None, domain: str | None = None, progress: Progress | None = None
) -> dict[str, Qualified]:
    """How many interactions would go into each package, of all there are or of those in the newest places of the store."""
    watermark = store.watermark()
    after = 0 if newest is None else max(0, watermark - newest)
    attachments = attach(store, up_to=watermark)
    attachments.executions = find_executions(store, up_to=watermark)
    recipes = {name: package_recipe(name, domain=domain) for name in PACKAGES}
    counts = {name: _Count() for name in PACKAGES}
    batch: list[Interaction] = []
    done = 0

    def look(interactions: list[Interaction]) -> None:
        attached = attachments.of_batch(store, [interaction.id for interaction in interactions])
        for interaction, found in zip(interactions, attached, strict=True):
            for name, recipe in recipes.items():
                selected = select(interaction, found, recipe, store.get)
                counts[name].add(
                    selected.columns.dropped,
                    [str(type(example).__struct_config__.tag) for _, _, example in selected.examples],
                    comparable=selected.trial is not None
                    or (selected.turn is not None and "regenerations" in recipe.signals),
                )

    for record in store.scan(Filter(types=("interaction",), after=after, up_to=watermark)):
        assert isinstance(record, Interaction)  # the filter names no other type
        batch.append(record)
        done += 1
        if len(batch) == BATCH:
            look(batch)
            batch = []
        if progress is not None and done % _REPORT_EVERY == 0:
            progress("look at interactions", done, None)
    look(batch)
    return {name: count.qualified(done) for name, count in counts.items()}


class _Count:
    """What is counted for one package."""

    def __init__(self) -> None:
        self.interactions = self.comparable = 0
        self.examples: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()

    def add(self, dropped: str | None, examples: Sequence[str], *, comparable: bool) -> None:
        if dropped is not None:
            self.dropped[dropped] += 1
            return
        self.interactions += bool(examples)
        self.comparable += comparable
        self.examples.update(examples)

    def qualified(self, looked_at: int) -> Qualified:
        return Qualified(
            looked_at=looked_at,
            interactions=self.interactions,
            comparable=self.comparable,
            examples=dict(sorted(self.examples.items())),
            dropped=dict(sorted(self.dropped.items())),
        )
