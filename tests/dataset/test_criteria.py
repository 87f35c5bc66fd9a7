"""Criteria of inclusion and exclusion are steps under other names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.dataset.support import interaction, says
from tracemill.core.errors import RecipeError
from tracemill.core.steps import KEEP, Drop
from tracemill.dataset.criteria import EXCLUSION, INCLUSION
from tracemill.dataset.recipe import Recipe, load_recipe, parse_recipe
from tracemill.dataset.steps import STEPS

WHOLE = """
name: agents
inclusion_criteria:
  min_quality_score: 0.8
  complete_execution: true
  clear_reasoning: true
  positive_outcome: true
  novel_patterns: "the more different the better"
exclusion_criteria:
  failed_executions: "but for what teaches something"
  unclear_reasoning: "nobody can follow it"
  duplicate_patterns: {threshold: 0.9}
  privacy_violations: true
"""
SAME = """
name: agents
steps:
  - complete_execution
  - clear_reasoning
  - positive_outcome
  - failed_executions
  - minimum_quality: {score: 0.8, or_learning: 0.5}
  - privacy_violations
  - duplicate_patterns: {threshold: 0.9}
  - novelty
"""


def _written(text: str, path: Path) -> Recipe:
    path.write_text(text)
    return load_recipe(path)


def test_a_file_of_criteria_is_the_recipe_of_its_steps(tmp_path: Path) -> None:
    recipe = _written(WHOLE, tmp_path / "criteria.yaml")
    assert recipe == _written(SAME, tmp_path / "steps.yaml")
    assert recipe.hash() == _written(SAME, tmp_path / "steps.yaml").hash()


def test_every_criterion_is_a_step_there_is() -> None:
    assert {*INCLUSION.values(), *EXCLUSION.values()} <= STEPS.keys()


def test_they_come_after_the_steps_and_do_what_they_say() -> None:
    recipe = parse_recipe({"steps": ["well_formed"], "inclusion_criteria": {"complete_execution": True}})
    first, complete = recipe.steps
    assert (type(first).__name__, type(complete).__name__) == ("WellFormed", "CompleteExecution")
    whole = interaction("whole", [says("user", "When?"), says("assistant", "It arrives tomorrow.")])
    cut = msgspec.structs.replace(whole, finish_reason="length")
    assert (complete(whole), complete(cut)) == (KEEP, Drop("incomplete_execution"))


@pytest.mark.parametrize("off", [False, None, ""])
def test_a_criterion_can_be_off(off: Any) -> None:
    assert parse_recipe({"inclusion_criteria": {"positive_outcome": off}, "exclusion_criteria": None}).steps == ()


def test_failures_that_teach_pass_the_score_only_where_failures_are_spoken_of() -> None:
    (alone,) = parse_recipe({"inclusion_criteria": {"min_quality_score": 0.7}}).steps
    both = parse_recipe(
        {
            "inclusion_criteria": {"min_quality_score": {"score": 0.7}},
            "exclusion_criteria": {"failed_executions": {"or_learning": 0.3}},
        }
    ).steps
    assert (getattr(alone, "score", None), getattr(alone, "or_learning", 0)) == (0.7, None)
    assert [getattr(step, "or_learning", 0) for step in both] == [0.3, 0.3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"inclusion_criteria": [1]}, "inclusion_criteria: a mapping of criteria is expected, not list"),
        ({"inclusion_criteria": {"min_quality": 0.8}}, "inclusion_criteria.min_quality: unknown criterion"),
        ({"exclusion_criteria": {"positive_outcome": True}}, "exclusion_criteria.positive_outcome: unknown criterion"),
        ({"exclusion_criteria": {"duplicate_patterns": 3}}, "exclusion_criteria.duplicate_patterns: true, false"),
        ({"inclusion_criteria": {"min_quality_score": 2}}, r"criteria\[0\].minimum_quality: score: Expected"),
        ({"inclusion_criteria": {"novel_patterns": {"minimun": 1}}}, "novelty.minimun: unknown key"),
        (
            {
                "inclusion_criteria": {"clear_reasoning": {"clarity": 0.5}},
                "exclusion_criteria": {"unclear_reasoning": {"clarity": 0.6}},
            },
            "exclusion_criteria.unclear_reasoning: clear_reasoning is asked for twice",
        ),
    ],
)
def test_what_is_wrong_is_said(content: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(content)
