"""Augmentation in a build: only in train, marked, erasable with its sources, the same bytes in any order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataset.support import feedback, interaction, list_store, says, tau_bench, user
from tracemill.core.errors import RecipeError
from tracemill.core.records import AnyRecord
from tracemill.dataset.augmented import Augmentation
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe, load_recipe, parse_recipe, recorded_recipe
from tracemill.dataset.rules import DuplicatePatterns
from tracemill.dataset.version import Version
from tracemill.export.write import export_version

AUGMENT = Augmentation(operations=("insertion", "deletion", "swap", "edge_cases"), per_example=2)
QUESTIONS = (
    "please show me the quickest way to change the address on my account",
    "the parcel that was ordered last week has not come and nobody answers the phone",
    "our printer draws empty pages since the update and the lamp beside the tray blinks",
    "which papers are needed to rent a small car for a weekend near the coast",
)


def records(count: int = 12) -> list[AnyRecord]:
    found: list[AnyRecord] = []
    for at in range(count):
        talk = [
            says("user", f"{QUESTIONS[at % 4]} number {at}"),
            says("assistant", f"I will see to it, as number {at}."),
        ]
        found += [
            interaction(f"i{at}", talk, success=True, user=user(f"u{at}"), minutes=at),
            feedback(f"up{at}", f"i{at}", kind="thumbs_up"),
        ]
    return found


def built(listed: list[AnyRecord], folder: Path, **fields: Any) -> Version:
    recipe = Recipe(augment=fields.pop("augment", AUGMENT), signals=fields.pop("signals", ("supervised",)), **fields)
    return build_version(list_store(listed), recipe, folder)


def rows(version: Version, split: str) -> list[Any]:
    return list(version.examples(split, "supervised"))


def test_only_train_is_augmented(tmp_path: Path) -> None:
    split = {"train": 0.5, "test": 0.5}
    plain = built(records(), tmp_path / "a", augment=None, split=split)
    version = built(records(), tmp_path / "b", split=split)
    assert rows(version, "test") == rows(plain, "test") != []
    made = [row for row in rows(version, "train") if row.augmented]
    assert [row for row in rows(version, "train") if not row.augmented] == rows(plain, "train")
    assert made
    originals = {row.id: row for row in rows(plain, "train")}
    for row in made:
        source = originals[row.augmented.source]
        assert row.sources == source.sources
        assert row.messages != source.messages
        assert row.messages[1:] == source.messages[1:]
        assert 0 < row.confidence <= source.confidence
        assert (source.human_validated, row.human_validated) == (True, False)
    assert version.manifest.drops["augmented.not_train"] == pytest.approx(
        len(made) / len(originals) * len(rows(plain, "test")), abs=len(made) / 4
    )
    assert not version.verify()
    assert f"{len(made)} examples of train are augmented: made of others, and marked so." in version.manifest.notes


def test_what_another_split_keeps_is_not_varied_in_train(tmp_path: Path) -> None:
    """Several people said the same; the row is held out, and none of its variations is trained on."""
    listed: list[AnyRecord] = [
        interaction(
            *(f"i{at}", [says("user", QUESTIONS[at % 4]), says("assistant", "Yes.")]), success=True, user=user(f"u{at}")
        )
        for at in range(12)
    ]
    version = built(listed, tmp_path, split={"train": 0.7, "test": 0.3})
    kept = {row.id for row in rows(version, "train")}
    held_out = {row.id for row in rows(version, "test")}
    made = [row.augmented.source for row in rows(version, "train") if row.augmented]
    assert held_out
    assert made
    assert set(made) <= kept - held_out
    assert version.manifest.drops["augmented.example_elsewhere"] > 0
    assert version.verify() == []


def test_other_ways_to_split(tmp_path: Path) -> None:
    """Any fold may be held out, so none is augmented; a split by time is, in its early part."""
    plain: dict[str, Any] = {"signals": ["supervised"], "augment": {"operations": ["deletion", "swap"]}}
    with pytest.raises(RecipeError, match="named train"):
        parse_recipe({**plain, "split": {"folds": 3}})
    recipe = parse_recipe(
        {**plain, "features": ["turns"], "split": {"method": "time", "shares": {"train": 0.5, "test": 0.5}}}
    )
    version = build_version(list_store(records()), recipe, tmp_path)
    made = [row for row in rows(version, "train") if row.augmented]
    assert made
    assert all(row.features for row in made)
    assert rows(version, "test")
    assert not any(row.augmented for row in rows(version, "test"))


def test_ids_are_in_order_and_fates_name_the_variations(tmp_path: Path) -> None:
    version = built(records(), tmp_path, split={"train": 1.0})
    ids = [row.id for row in rows(version, "train")]
    assert ids == sorted(set(ids))
    named = Counter(example for fate in version.fates() for example in fate.examples)
    assert set(named) == set(ids)


@settings(max_examples=8)
@given(st.permutations(range(8)))
def test_the_order_of_records_changes_nothing(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    listed = records(4)
    folders = [tmp_path_factory.mktemp("build") for _ in range(2)]
    one, other = (
        built(part, folder) for part, folder in zip((listed, [listed[at] for at in order]), folders, strict=True)
    )
    assert one.manifest == other.manifest


def test_a_variation_falls_with_its_example(tmp_path: Path) -> None:
    twice = [interaction(f"d{at}", [says("user", QUESTIONS[0]), says("assistant", "Here it is: number 4.")], success=True,
                         user=user(f"u{at}")) for at in range(3)]  # fmt: skip
    kept = min(twice, key=lambda record: record.id)
    alone = built([kept], tmp_path / "a", split={"train": 1.0})
    version = built(list(twice), tmp_path / "b", split={"train": 1.0}, steps=(DuplicatePatterns(),))
    assert rows(version, "train") == rows(alone, "train")


def test_what_is_recorded_goes_before_what_was_made(tmp_path: Path) -> None:
    """A record that says exactly what a variation of another would is one row, and a recorded one."""
    first = interaction("a", [says("user", QUESTIONS[0]), says("assistant", "Here.")], success=True)
    version = built([first], tmp_path / "a", split={"train": 1.0})
    made = next(row for row in rows(version, "train") if row.augmented)
    same = interaction("b", made.messages, success=True, minutes=1)
    both = {row.id: row for row in rows(built([first, same], tmp_path / "b", split={"train": 1.0}), "train")}
    assert both[made.id].augmented is None
    assert both[made.id].sources == sorted([first.id, same.id])


def test_what_was_made_displaces_nothing_of_another_split(tmp_path: Path) -> None:
    """The smallest split keeps a content that several have; but not where all it has is a variation."""
    first = interaction("a", [says("user", QUESTIONS[0]), says("assistant", "Here.")], success=True)
    made = [row for row in rows(built([first], tmp_path / "a", split={"train": 1.0}), "train") if row.augmented]
    same = interaction("b", made[0].messages, success=True, minutes=1)
    for seed in range(40):
        split = {"train": 0.4, "test": 0.6}
        version = built([first, same], tmp_path / f"s{seed}", split=split, seed=seed)
        fates = {fate.id: fate.split for fate in version.fates()}
        if fates == {first.id: "train", same.id: "test"}:
            break
    else:
        raise AssertionError("no seed parts the two")
    assert [row.id for row in rows(version, "test")] == [made[0].id]
    assert made[0].id not in {row.id for row in rows(version, "train")}
    assert version.manifest.drops["augmented.recorded_elsewhere"] == 1


def test_why_nothing_was_made_is_counted(tmp_path: Path) -> None:
    version = built(records(4), tmp_path, augment=Augmentation(operations=("synonyms",)), split={"train": 1.0})
    assert version.manifest.drops["augment.no_synonyms"] == 4


def test_recipes_with_augmentation(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: more\naugment:\n  operations: [synonyms, scenario_variation]\n  synonyms: {show: [tell]}\n"
        "  slots:\n    city: [{name: Boston, code: BOS}, {name: Oslo, code: OSL}]\n    meal: [tea, soup]\n"
    )
    recipe = load_recipe(path)
    assert recipe.augment is not None
    assert recipe.augment.slots["meal"] == ("tea", "soup")
    assert recorded_recipe(recipe.plain(), recipe.hash()) == recipe
    assert "augment" not in Recipe().plain()
    assert recipe.hash() != msgspec.structs.replace(recipe, augment=None).hash()
    for wrong, says_so in (
        ({"operations": ["context"]}, "operations"),
        ({"operations": ["swap"], "rates": 1}, "rates"),
        ({"operations": ["swap"], "rate": 0}, "rate"),
    ):
        with pytest.raises(RecipeError, match=says_so):
            parse_recipe({"augment": wrong})
    with pytest.raises(RecipeError, match="named train"):
        Recipe(augment=AUGMENT, split={"all": 1.0})


def test_real_trajectories_are_augmented_and_exported(shared_data: Path, tmp_path: Path) -> None:
    found = list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json"))
    augment = Augmentation(operations=("deletion", "failure_injection", "edge_cases", "difficulty_progression"))
    version = built(found, tmp_path, augment=augment)
    names = Counter(row.augmented.operation for row in rows(version, "train") if row.augmented)
    assert {"deletion", "edge_cases.very_long", "failure_injection.timeout", "difficulty_progression"} <= set(names)
    assert not any(row.augmented for split in ("validation", "test") for row in rows(version, split))
    report = export_version(version, "openai-chat", tmp_path / "export")
    assert report.manifest.rows["train"] >= len(rows(version, "train")) - sum(report.manifest.refused.values())
