"""A recipe is read strictly, says what is wrong with it, and has a hash that stands for all of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.dataset.test_steps import drop_all
from tracemill.core.errors import RecipeError
from tracemill.dataset.augmented import Augmentation
from tracemill.dataset.recipe import Recipe, Source, default_recipe, load_recipe, parse_recipe
from tracemill.dataset.splitting import Splitting
from tracemill.dataset.steps import MaximumMessages, WellFormed
from tracemill.feedback.attach import Scale

WHOLE = """
name: support
description: What went well in March.
source: {platforms: [support, chat], since: 2026-03-01, until: 2026-04-01T12:00:00+02:00, success: true}
steps:
  - well_formed
  - maximum_messages: {count: 200}
  - tests.dataset.test_steps:drop_all
signals: [supervised, trials]
scales: {reward: {positive: 0.9, negative: 0.1}}
labelled_unit: turn
trial_score: success
preference_length: remainder
split: {train: 0.9, test: 0.1}
seed: 7
"""


def test_a_file_says_the_same_as_python(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(WHOLE)
    recipe = Recipe(
        name="support",
        description="What went well in March.",
        source=Source(
            platforms=("support", "chat"),
            since=datetime(2026, 3, 1, tzinfo=UTC),
            until=datetime(2026, 4, 1, 10, tzinfo=UTC),
            success=True,
        ),
        steps=(WellFormed(), MaximumMessages(count=200), drop_all),
        signals=("supervised", "trials"),
        scales={"reward": Scale(positive=0.9, negative=0.1)},
        labelled_unit="turn",
        trial_score="success",
        preference_length="remainder",
        split={"train": 0.9, "test": 0.1},
        seed=7,
    )
    assert load_recipe(path).plain() == recipe.plain()
    assert load_recipe(path).hash() == recipe.hash()
    assert hash(load_recipe(path)) == hash(recipe)


def test_an_empty_file_is_the_default_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("")
    assert load_recipe(path) == Recipe() == default_recipe()


def test_every_field_counts_in_the_hash() -> None:
    changed: list[dict[str, Any]] = [
        {"name": "x"},
        {"description": "x"},
        {"source": Source(success=True)},
        {"source": Source(since=datetime(2026, 1, 1, tzinfo=UTC))},
        {"steps": (WellFormed(),)},
        {"signals": ("edits",)},
        {"scales": {}},
        {"labelled_unit": "turn"},
        {"trial_score": "success"},
        {"preference_length": "remainder"},
        {"split": {"train": 1.0}},
        {"seed": 1},
        {"splitting": Splitting(group=("conversation",))},
        {"features": ("turns",)},
        {"weights": "confidence"},
        {"half_life_days": 30.0},
        {"package": "quality"},
        {"license": "mit"},
        {"intended_uses": ("x",)},
        {"forbidden_uses": ("x",)},
        {"purpose": "share"},
        {"consent_default": "denied"},
        {"canaries": 3},
        {"redaction": "mask"},
        {"augment": Augmentation(operations=("swap",))},
    ]
    assert {next(iter(fields)) for fields in changed} == set(Recipe.__struct_fields__) - {"gates"}
    hashes = [Recipe(**fields).hash() for fields in changed]
    assert len({Recipe().hash(), *hashes}) == len(hashes) + 1


def test_the_hash_does_not_depend_on_the_order_of_a_mapping() -> None:
    assert Recipe(split={"a": 0.5, "b": 0.5}).hash() == Recipe(split={"b": 0.5, "a": 0.5}).hash()


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Recipe().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ([], "a recipe is a mapping, not list", ""),
        ({"nme": "x"}, "nme: unknown key", "Did you mean name?"),
        ({"zzz": 1}, "zzz: unknown key", "Known: name, "),
        ({"source": {"platform": ["a"]}}, "source.platform: unknown key", "Did you mean platforms?"),
        ({"source": {"platforms": [1]}}, "source.platforms[0]: Expected `str`, got `int`", ""),
        ({"source": {"since": "soon"}}, "source.since: ", ""),
        ({"steps": "well_formed"}, "steps: a list of step names", ""),
        ({"steps": [3]}, "steps[0]: a name", ""),
        ({"steps": ["wellformed"]}, "steps[0]: wellformed: unknown step", "Did you mean well_formed?"),
        ({"steps": [{"sample": {"fracton": 1}}]}, "steps[0].sample.fracton: unknown key", "Did you mean fraction?"),
        ({"steps": [{"sample": {"fraction": 2}}]}, "steps[0].sample: fraction: Expected `float` <= 1.0", ""),
        ({"steps": ["sample"]}, "steps[0].sample: Object missing required field `fraction`", ""),
        ({"steps": [{"a:b": 3}]}, "steps[0].a:b: arguments are a mapping", ""),
        ({"signals": ["supervise"]}, "signals: supervise: unknown signal", "Did you mean supervised?"),
        ({"scales": {"reward": {"positive": 1, "negativ": 0}}}, "scales.reward.negativ: unknown key", "negative"),
        ({"scales": {"reward": {"positive": 0, "negative": 1}}}, "scales.reward: negative must be below", ""),
        ({"split": {"train": 0.5}}, "split: the shares add up to 0.5, not 1", ""),
        ({"split": {}}, "split: the shares add up to 0, not 1", ""),
        ({"split": {"train": 2, "test": -1}}, "split.train: a share is between 0 and 1, not 2", ""),
        ({"split": {"../x": 1}}, "split: '../x' cannot name a split", ""),
        ({"seed": "a"}, "seed: Expected `int`, got `str`", ""),
        ({"name": "../x"}, "name: '../x' cannot name a dataset", ""),
        ({"name": "a@b"}, "name: 'a@b' cannot name a dataset", ""),
        ({"name": ""}, "name: '' cannot name a dataset", ""),
        ({"labelled_unit": "token"}, "labelled_unit: Invalid enum value 'token'", ""),
    ],
)
def test_what_is_wrong_is_named(content: Any, message: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(content)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_the_file_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    for content in ("nme: x", "a: [", "- 1"):
        path.write_text(content)
        with pytest.raises(RecipeError, match=r"recipe\.yaml"):
            load_recipe(path)
    with pytest.raises(RecipeError, match=r"missing\.yaml"):
        load_recipe(tmp_path / "missing.yaml")


def test_the_plain_form_is_json() -> None:
    plain = Recipe(steps=(WellFormed(), drop_all), source=Source(since=datetime(2026, 1, 1, tzinfo=UTC))).plain()
    assert msgspec.json.decode(msgspec.json.encode(plain)) == plain


def test_other_names_of_augmentation_are_the_same_recipe() -> None:
    ours = parse_recipe({"augment": {"operations": ["synonyms", "scenario_variation", "edge_cases"]}})
    theirs = parse_recipe(
        {"augment": {"operations": ["synonym_replacement", "scenario_variations", "edge_case_creation"]}}
    )
    assert (ours, ours.hash()) == (theirs, theirs.hash())
