"""A recipe says how to split in a short and a longer form, and what is wrong with either is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tracemill.core.errors import RecipeError
from tracemill.dataset.recipe import Recipe, load_recipe, parse_recipe, recorded_recipe
from tracemill.dataset.splitting import Splitting, fold_name, fold_number, fold_shares, time_order

SHARES = {"train": 0.8, "test": 0.2}
MARCH, APRIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
FORMS: list[tuple[dict[str, Any], Recipe]] = [
    ({"train": 0.8, "test": 0.2}, Recipe(split=SHARES)),
    ({"shares": SHARES}, Recipe(split=SHARES)),
    ({"method": "hold_out"}, Recipe()),
    ({"method": 0.5, "by": 0.5}, Recipe(split={"method": 0.5, "by": 0.5})),
    ({"folds": 5}, Recipe(splitting=Splitting(method="k_fold", folds=5))),
    (
        {"folds": 3, "by": "label", "group": "user"},
        Recipe(splitting=Splitting(method="k_fold", folds=3, by=("label",), group=("user",))),
    ),
    (
        {"shares": SHARES, "by": ["outcome", "platform"]},
        Recipe(split=SHARES, splitting=Splitting(method="stratified", by=("outcome", "platform"))),
    ),
    ({"by": "time", "shares": SHARES}, Recipe(split=SHARES, splitting=Splitting(method="time"))),
    (
        {"cuts": {"validation": "2026-03-01", "test": APRIL}},
        Recipe(
            split=dict.fromkeys(("train", "validation", "test"), 1 / 3),
            splitting=Splitting(method="time", cuts={"validation": MARCH, "test": APRIL}),
        ),
    ),
    (
        {"group": ["conversation", "near_duplicate", "model"], "similarity": 0.7},
        Recipe(splitting=Splitting(group=("conversation", "near_duplicate", "model"), similarity=0.7)),
    ),
    (
        {"method": "time", "shares": {"old": 0.9, "new": 0.1}, "order": ["old", "new"]},
        Recipe(split={"old": 0.9, "new": 0.1}, splitting=Splitting(method="time", order=("old", "new"))),
    ),
]


@pytest.mark.parametrize(("form", "recipe"), FORMS, ids=str)
def test_each_form_is_a_recipe_and_comes_back_from_its_manifest(form: dict[str, Any], recipe: Recipe) -> None:
    assert parse_recipe({"split": form}) == recipe
    assert recorded_recipe(recipe.plain(), recipe.hash()) == recipe


def test_a_hold_out_of_before_keeps_its_hash() -> None:
    assert "splitting" not in Recipe(split=SHARES).plain()
    assert parse_recipe({"split": {"method": "hold_out", "shares": SHARES}}).hash() == Recipe(split=SHARES).hash()


def test_a_moment_is_the_same_in_every_offset() -> None:
    other = datetime(2026, 4, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    one, two = (Recipe(split=SHARES, splitting=Splitting(method="time", cuts={"test": at})) for at in (APRIL, other))
    assert one.hash() == two.hash()


def test_yaml_dates_are_meant_in_utc(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("split: {by: time, cuts: {test: 2026-04-01}}\n")
    assert load_recipe(path).splitting.cuts == {"test": APRIL}


def test_folds_are_the_splits() -> None:
    recipe = parse_recipe({"split": {"folds": 4}})
    assert recipe.split == fold_shares(4) == {f"fold_{number}": 0.25 for number in (1, 2, 3, 4)}
    assert [fold_number(name) for name in (fold_name(12), "fold_100", "fold_0", "fold_x", "train")] == [
        *(12, 100),
        *(None, None, None),
    ]


@pytest.mark.parametrize(
    ("shares", "splitting", "order"),
    [
        ({"test": 0.2, "train": 0.8}, Splitting(method="time"), ["train", "test"]),
        ({"test": 0.1, "validation": 0.1, "train": 0.8}, Splitting(method="time"), ["train", "validation", "test"]),
        ({"b": 0.5, "a": 0.5}, Splitting(method="time", order=("b", "a")), ["b", "a"]),
        ({"a": 0.5, "b": 0.5}, Splitting(method="time", cuts={"a": APRIL}), ["b", "a"]),
        ({"a": 0.5, "b": 0.2, "c": 0.3}, Splitting(method="time", cuts={"a": APRIL, "c": MARCH}), ["b", "c", "a"]),
    ],
)
def test_splits_by_time_have_an_order(shares: dict[str, float], splitting: Splitting, order: list[str]) -> None:
    assert time_order(splitting, shares) == order
    assert time_order(splitting, dict(sorted(shares.items()))) == order


@pytest.mark.parametrize(
    ("split", "message", "hint"),
    [
        ({"folds": 1}, "split.folds: Expected `int` >= 2", ""),
        ({"folds": 5, "shares": SHARES}, "split.shares: folds are of equal size", ""),
        ({"method": "kfold", "folds": 5}, "split.method: Invalid enum value 'kfold'", ""),
        ({"method": "k_fold"}, "split.folds: how many folds there are is missing", "folds: 5"),
        ({"methd": "time"}, "split.methd: unknown key", "Did you mean method?"),
        ({"method": "hold_out", "folds": 3}, "split.folds: the method hold_out has none", "k_fold"),
        ({"method": "time", "by": "label"}, "split.by: the method time has none", "stratified"),
        ({"method": "stratified", "by": "time"}, "split.by: time is a method of its own", ""),
        ({"method": "stratified"}, "split.by: what to stratify by is missing", "Name features"),
        ({"by": "platfrm"}, "split.by: platfrm: unknown feature", "Did you mean platform?"),
        ({"by": "user_share"}, "split.by: user_share: unknown feature", ""),
        ({"by": ["label", "label"]}, "split.by: a name stands there twice", ""),
        ({"group": ["usr"]}, "split.group: usr: unknown group key", "Did you mean user"),
        ({"group": []}, "split.group: nothing is held together", "conversation"),
        ({"group": ["user"], "similarity": 1}, "split.similarity: Expected `float` < 1.0", ""),
        ({"shares": {"train": 0.5}, "by": "label"}, "split: the shares add up to 0.5, not 1", ""),
        (
            {"shares": {"a": 0.5, "b": 0.5}, "by": "time"},
            "split.order: whether a is early or late",
            "from early to late",
        ),
        ({"shares": SHARES, "order": ["train"]}, "split.order: these are not the splits", "test, train"),
        ({"cuts": {"test": "soon"}}, "split.cuts.test: ", ""),
        ({"cuts": {"tset": "2026-01-01"}, "shares": SHARES}, "split.cuts.tset: no such split", "test, train"),
        ({"cuts": {"test": "2026-01-01", "train": "2026-01-02"}, "shares": SHARES}, "split.cuts: every split but", ""),
        ({"cuts": {"test": "2026-01-01", "dev": "2026-01-01"}}, "split.cuts: two splits begin at one moment", ""),
        ({"cuts": {"test": "2026-01-01"}, "order": ["train", "test"]}, "split.order: the moments of cuts say it", ""),
    ],
)
def test_what_is_wrong_is_named(split: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe({"split": split})
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_shares_and_folds_made_in_python_exclude_each_other() -> None:
    with pytest.raises(RecipeError, match="k_fold has folds instead of shares"):
        Recipe(split=SHARES, splitting=Splitting(method="k_fold", folds=5))
    with pytest.raises(RecipeError, match="without an offset"):
        Splitting(method="time", cuts={"test": datetime(2026, 1, 1)})
