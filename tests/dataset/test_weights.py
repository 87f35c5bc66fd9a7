"""Weights by confidence, class and age, and how many rows they leave."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import feedback, interaction, open_store, says
from tracemill.core.errors import RecipeError
from tracemill.core.examples import SupervisedExample
from tracemill.core.records import AnyRecord
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe, parse_recipe
from tracemill.dataset.version import Version
from tracemill.dataset.weights import Sums, kish

DAY = 24 * 60
ALL = {"train": 1.0}


def labelled(name: str, up: bool, days: float = 0, annotator: str = "HUMAN") -> list[AnyRecord]:
    kind: Any = "thumbs_up" if up else "thumbs_down"
    annotator_kind: Any = annotator
    said = feedback(f"f {name}", name, kind=kind, annotator_kind=annotator_kind, minutes=days * DAY)
    return [interaction(name, [says("user", name)], response=says("assistant", name), minutes=days * DAY), said]


RECORDS = [
    *labelled("a", True, 0),
    *labelled("b", True, 10, "LLM"),
    *labelled("c", True, 20),
    *labelled("d", False, 20, "CODE"),
]


def weights(folder: Path, **fields: Any) -> tuple[dict[str, float], Version]:
    store = open_store(folder, RECORDS)
    version = build_version(store, Recipe(name="w", signals=("labelled",), split=ALL, **fields), folder)
    assert version.verify() == []
    store.close()
    return {example.completion[0]["content"]: example.weight for example in version.examples(type="labelled")}, version  # type: ignore[union-attr]


def test_by_itself_every_row_weighs_one(tmp_path: Path) -> None:
    found, version = weights(tmp_path)
    assert set(found.values()) == {1.0}
    assert version.manifest.notes == []
    assert "weights" not in version.manifest.recipe


def test_by_confidence(tmp_path: Path) -> None:
    found, version = weights(tmp_path, weights="confidence")
    assert found == {"a": 1.0, "b": 0.7, "c": 1.0, "d": 0.9}
    effective = (1 + 0.7 + 1 + 0.9) ** 2 / (1 + 0.7**2 + 1 + 0.9**2)
    (note,) = version.manifest.notes
    assert f"4 rows of train-labelled.jsonl weigh as much as {effective:.1f} equally weighted ones" in note


def test_balanced_gives_each_class_the_same(tmp_path: Path) -> None:
    found, _ = weights(tmp_path, weights="balanced")
    assert found["a"] + found["b"] + found["c"] == pytest.approx(2.0)
    assert found["d"] == pytest.approx(2.0)
    assert found["b"] / found["a"] == pytest.approx(0.7)


def test_age_halves_and_is_counted_from_the_newest_record(tmp_path: Path) -> None:
    found, _ = weights(tmp_path, half_life_days=10.0)
    assert found == {"a": 0.25, "b": 0.5, "c": 1.0, "d": 1.0}


def test_a_half_life_is_positive() -> None:
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(RecipeError, match="half_life_days"):
            Recipe(half_life_days=wrong)
    with pytest.raises(RecipeError, match="weights"):
        parse_recipe({"weights": "heavy"})
    assert parse_recipe({"weights": "balanced", "half_life_days": 30}).half_life_days == 30


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=20))
def test_the_effective_size_is_at_most_the_number_of_rows(drawn: list[float]) -> None:
    effective = kish(sum(drawn), sum(weight * weight for weight in drawn))
    assert 1 - 1e-9 <= effective <= len(drawn) + 1e-9
    same = [drawn[0]] * len(drawn)
    assert kish(sum(same), sum(weight * weight for weight in same)) == pytest.approx(len(drawn))


@given(st.lists(st.tuples(st.floats(0, 1e6), st.sampled_from(["a", "b"])), max_size=30), st.integers(0, 30))
def test_sums_do_not_depend_on_who_adds_them(rows: list[tuple[float, str]], cut: int) -> None:
    def summed(part: list[tuple[float, str]]) -> Sums:
        sums = Sums()
        for weight, signal in part:
            sums.add(SupervisedExample(id="", sources=[], signal=signal, weight=weight, messages=[]))
        return sums

    whole, parts = summed(rows[::-1]), summed(rows[cut:])
    parts.join(summed(rows[:cut]))
    assert (parts.rows, parts.total, parts.squares, parts.by_class) == (
        whole.rows,
        whole.total,
        whole.squares,
        whole.by_class,
    )
    assert whole.total == math.fsum(weight for weight, _ in rows)
