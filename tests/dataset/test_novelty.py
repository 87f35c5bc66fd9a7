"""The step ``novelty``: how many of a kind stay, which ones, that no kind is lost, and what the version notes of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataset.support import feedback, interaction, list_store, record_id, says
from tracemill.core.errors import RecipeError
from tracemill.core.records import AnyRecord
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe, parse_recipe, recorded_recipe
from tracemill.dataset.rules import DuplicatePatterns, Novelty
from tracemill.dataset.version import Version

KINDS = {
    "flight": "I would like to change my flight to Seattle to the one on Friday morning as the meeting was moved to noon",
    "parcel": "The parcel that I ordered two weeks ago has not come and the page of the carrier shows no place for it",
    "printer": "Since the update our printer draws only empty pages and the lamp beside the tray blinks twice a minute",
}


def asked(name: str, kind: str, ending: str) -> AnyRecord:
    return interaction(
        name, [says("user", f"{KINDS[kind]} {ending}"), says("assistant", "I will see to it.")], success=True
    )


def many(counts: dict[str, int]) -> list[AnyRecord]:
    return [asked(f"{kind} {at}", kind, f"number{at} please") for kind, count in counts.items() for at in range(count)]


def built(records: list[AnyRecord], folder: Path, *steps: Novelty | DuplicatePatterns) -> Version:
    recipe = Recipe(steps=steps, signals=("supervised",), split={"train": 1.0})
    return build_version(list_store(records), recipe, folder)


def kept_kinds(version: Version) -> Counter[str]:
    found: Counter[str] = Counter()
    for example in version.examples("train", "supervised"):
        text = str(example)
        found.update(kind for kind, sentence in KINDS.items() if sentence in text)
    return found


@pytest.mark.parametrize(("minimum", "stay"), [(1.0, 1), (0.5, 2), (0.34, 2), (0.2, 5), (0.1, 6)])
def test_so_many_of_a_kind_stay(tmp_path: Path, minimum: float, stay: int) -> None:
    version = built(many({"flight": 6, "parcel": 2, "printer": 1}), tmp_path, Novelty(minimum=minimum))
    assert kept_kinds(version) == {"flight": stay, "parcel": min(2, stay), "printer": 1}
    left_out = Counter(fate.left_out.get("supervised") for fate in version.fates())
    assert left_out["not_novel"] == 9 - stay - min(2, stay) - 1


def test_the_best_of_a_kind_stay(tmp_path: Path) -> None:
    records = many({"flight": 4})
    records += [feedback(f"up {at}", f"flight {at}", kind="rating", rating=5 if at == 2 else 4) for at in range(4)]
    version = built(records, tmp_path, Novelty(minimum=1.0))
    (example,) = version.examples("train", "supervised")
    assert record_id("flight 2") in example.sources


def test_the_version_notes_what_is_covered(tmp_path: Path) -> None:
    version = built(many({"flight": 3, "parcel": 2, "printer": 1}), tmp_path, Novelty())
    (note,) = [note for note in version.manifest.notes if note.startswith("Coverage")]
    assert "6 texts are of 3 kinds, 1 of them seen once" in note
    assert "16.7%" in note
    assert not any(word in note for word in ("flight", "Seattle", "parcel"))


def test_duplicates_go_first(tmp_path: Path) -> None:
    same = [asked(f"same {at}", "parcel", "now") for at in range(3)]
    records = [*many({"flight": 3}), *same]
    version = built(records, tmp_path, DuplicatePatterns(threshold=0.99), Novelty(minimum=1.0))
    reasons = Counter(fate.left_out.get("supervised") for fate in version.fates())
    assert (reasons["duplicate_pattern"], reasons["not_novel"]) == (2, 2)


def test_it_stands_in_a_recipe_file_and_comes_back() -> None:
    recipe = parse_recipe({"steps": [{"novelty": {"minimum": 0.5}}]})
    assert recipe.novelty() == Novelty(minimum=0.5)
    assert recorded_recipe(recipe.plain(), recipe.hash()) == recipe
    with pytest.raises(RecipeError, match="twice"):
        Recipe(steps=(Novelty(), Novelty(minimum=1.0)))
    with pytest.raises(RecipeError, match="minimum"):
        parse_recipe({"steps": [{"novelty": {"minimum": 0}}]})


@settings(max_examples=15)
@given(st.permutations(range(9)))
def test_the_order_of_records_changes_nothing(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    records = many({"flight": 5, "parcel": 3, "printer": 1})
    versions = [
        built(listed, tmp_path_factory.mktemp("build"), Novelty(minimum=0.5))
        for listed in (records, [records[at] for at in order])
    ]
    assert versions[0].manifest == versions[1].manifest
