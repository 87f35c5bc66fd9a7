"""Criteria of inclusion and exclusion, another way to write some steps of a recipe.

A recipe file may say ``inclusion_criteria`` and ``exclusion_criteria``. They become the steps of the same meaning, after those
that ``steps`` names, and are no part of the recipe otherwise: its hash is that of these steps. A criterion is on when its value
is true, a remark, or a mapping with arguments of its step; it is off when it is false or empty.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from tracemill.core.errors import RecipeError
from tracemill.dataset.rules import FailedExecutions

INCLUSION = {
    "complete_execution": "complete_execution",
    "clear_reasoning": "clear_reasoning",
    "positive_outcome": "positive_outcome",
    "min_quality_score": "minimum_quality",
    "novel_patterns": "novelty",
}
"""The step of each criterion of inclusion. ``min_quality_score`` may be a number: the score."""
EXCLUSION = {
    "failed_executions": "failed_executions",
    "unclear_reasoning": "clear_reasoning",
    "privacy_violations": "privacy_violations",
    "duplicate_patterns": "duplicate_patterns",
}
"""The step of each criterion of exclusion."""
KEYS = ("inclusion_criteria", "exclusion_criteria")
_ORDER = (
    "complete_execution",
    "clear_reasoning",
    "positive_outcome",
    "failed_executions",
    "minimum_quality",
    "privacy_violations",
    "duplicate_patterns",
    "novelty",
)
LEARNING = FailedExecutions().or_learning
"""Learning value from which on a failure passes ``min_quality_score``, where ``failed_executions`` stands beside it."""


def criteria_steps(inclusion: Any, exclusion: Any) -> list[dict[str, dict[str, Any]]]:
    """The steps of two mappings of criteria (None: there are none), each once, in a fixed order.

    Raises RecipeError for what is no mapping, a criterion nobody knows, a value that says nothing, and one step meant twice
    with different arguments.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, criteria, known in ((KEYS[0], inclusion, INCLUSION), (KEYS[1], exclusion, EXCLUSION)):
        for name, value in _mapping(criteria, key).items():
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
                hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."
                raise RecipeError(f"{key}.{name}: unknown criterion", hint=hint)
            arguments = _arguments(f"{key}.{name}", value)
            if arguments is None:
                continue
            step = known[name]
            if step in found and arguments and found[step] and found[step] != arguments:
                raise RecipeError(f"{key}.{name}: {step} is asked for twice, with different arguments")
            found[step] = arguments or found.get(step, {})
    if "minimum_quality" in found and "failed_executions" in found:
        learning = found["failed_executions"].get("or_learning", LEARNING)
        found["minimum_quality"] = {"or_learning": learning, **found["minimum_quality"]}
    return [{step: found[step]} for step in _ORDER if step in found]


def _mapping(criteria: Any, key: str) -> Mapping[str, Any]:
    if criteria is None:
        return {}
    if not isinstance(criteria, dict):
        raise RecipeError(f"{key}: a mapping of criteria is expected, not {type(criteria).__name__}")
    return criteria


def _arguments(where: str, value: Any) -> dict[str, Any] | None:
    """The arguments of a criterion's step; None where it is off."""
    if value is None or value is False or value == "":
        return None
    if isinstance(value, dict):
        return value
    if value is True or isinstance(value, str):
        return {}
    if where.endswith(".min_quality_score") and isinstance(value, (int, float)):
        return {"score": value}
    raise RecipeError(f"{where}: true, false, a remark or arguments are expected, not {value!r}")
