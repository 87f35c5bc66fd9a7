"""What changed between two versions: counted again by brute force, and every reason once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dataset.support import (
    calls,
    feedback,
    interaction,
    list_store,
    open_store,
    record_id,
    result,
    says,
    tau_bench,
    user,
)
from tracemill.core.errors import DatasetError
from tracemill.core.examples import Tombstone
from tracemill.core.ids import now
from tracemill.core.records import AnyRecord
from tracemill.dataset.build import build_version
from tracemill.dataset.diff import RowChange, compare
from tracemill.dataset.erase import VersionsPlace
from tracemill.dataset.recipe import Recipe, Source, parse_recipe
from tracemill.dataset.version import Version, open_version
from tracemill.privacy.subject import Subject

RECIPE = Recipe(name="d", split={"train": 0.6, "test": 0.4})


def chat(name: str, **fields: Any) -> AnyRecord:
    fields = {"success": True, "user": user(f"user {name}"), **fields}
    said = fields.pop("said", f"a{name}")
    return interaction(name, [says("user", f"q{name}")], response=says("assistant", said), **fields)


def both(tmp_path: Path, one: list[AnyRecord], other: list[AnyRecord], **changed: Any) -> tuple[Version, Version]:
    recipe = msgspec.structs.replace(RECIPE, **changed)
    return (
        build_version(list_store(one), RECIPE, tmp_path / "one"),
        build_version(list_store(other), recipe, tmp_path / "other"),
    )


def places(version: Version) -> dict[str, str]:
    return {
        json.loads(line)["id"]: file.path.partition("-")[0]
        for file in version.manifest.files
        if file.path != "fates.jsonl"
        for line in (version.path / file.path).read_bytes().splitlines()
    }


@given(one=st.sets(st.integers(0, 12)), other=st.sets(st.integers(0, 12)), seed=st.integers(0, 3))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_is_the_difference_of_two_sets(
    one: set[int], other: set[int], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = [[record for n in sorted(side) for record in (chat(str(n)), thumb(n))] for side in (one, other)]
    before, after = both(tmp_path_factory.mktemp("d"), *made, seed=seed)
    old, new = places(before), places(after)
    seen: list[RowChange] = []
    changes = compare(before, after, on_row=seen.append)
    assert {row.id for row in seen if row.change == "dropped"} == old.keys() - new.keys()
    assert {row.id for row in seen if row.change == "added"} == new.keys() - old.keys()
    moved = {key: (old[key], new[key]) for key in old.keys() & new.keys() if old[key] != new[key]}
    assert {row.id: (row.before, row.after) for row in seen if row.change == "moved"} == moved
    assert changes.moved == Counter(f"{a} → {b}" for a, b in moved.values())
    assert len(seen) == len({row.id for row in seen})
    for tag, counts in changes.examples.items():
        assert counts.before == counts.kept + counts.dropped == before.count(type=tag)
        assert counts.after == counts.kept + counts.added == after.count(type=tag)
    assert sum(changes.dropped.values()) == len(old.keys() - new.keys())
    assert changes.dropped == Counter(row.reason for row in seen if row.change == "dropped")
    back = compare(after, before)
    assert {tag: (counts.added, counts.dropped) for tag, counts in back.examples.items()} == {
        tag: (counts.dropped, counts.added) for tag, counts in changes.examples.items()
    }


def thumb(number: int) -> AnyRecord:
    return feedback(f"f{number}", str(number), kind="thumbs_up" if number % 3 else "thumbs_down")


def test_a_version_is_no_different_from_itself(tmp_path: Path) -> None:
    before, after = both(tmp_path, [chat("1"), thumb(1)], [chat("1"), thumb(1)])
    seen: list[RowChange] = []
    changes = compare(before, after, on_row=seen.append)
    assert seen == []
    assert changes.lost_share == 0
    assert (changes.added, changes.dropped, changes.moved) == ({}, {}, {})
    assert not any(drift.notable for drift in changes.numbers)
    assert changes.recipe.modified == changes.recipe.added == changes.recipe.removed == {}


def test_a_step_that_drops_is_the_reason(tmp_path: Path) -> None:
    records = [chat("1"), chat("2", tags=["test"])]
    steps = parse_recipe({"steps": [{"tagged": {"none": ["test"]}}]}).steps
    changes = compare(*both(tmp_path, records, records, steps=steps))
    assert changes.dropped == {"steps.tagged": 1}
    assert changes.recipe.added.keys() | changes.recipe.modified.keys() == {"/steps/0"}
    back = compare(*reversed(both(tmp_path, records, records, steps=steps)))
    assert back.added == {"steps.tagged": 1}


def test_a_signal_that_makes_nothing_any_more_is_the_reason(tmp_path: Path) -> None:
    later = feedback("late", "1", kind="report")
    changes = compare(*both(tmp_path, [chat("1")], [chat("1"), later]))
    assert changes.dropped == {"supervised.reported": 1}


def test_a_recovery_that_is_none_any_more_says_so(tmp_path: Path) -> None:
    def tried(failure: str) -> AnyRecord:
        messages = [
            says("user", "Look it up."),
            *(calls("search", "{}", "c1"), result("c1", failure)),
            *(calls("search", '{"q": 1}', "c2"), result("c2", "It is Oslo.")),
        ]
        return interaction("t", messages, response=says("assistant", "Oslo."), success=True)

    recipe = Recipe(name="d", signals=("recoveries",))
    before, after = (
        build_version(list_store([tried(said)]), recipe, tmp_path / said) for said in ("Error: no query", "nothing")
    )
    assert before.count(type="action") == 1
    assert compare(before, after).dropped == {"recoveries.no_failed_call": 1}


def test_a_call_that_a_later_one_repeats_is_superseded(tmp_path: Path) -> None:
    first = chat("1", conversation_id="c", minutes=0)
    history = [says("user", "q1"), says("assistant", "a1"), says("user", "more")]
    longer = interaction(
        "2", history, response=says("assistant", "b"), success=True, conversation_id="c", user=user("user 1"), minutes=1
    )
    changes = compare(*both(tmp_path, [first], [first, longer]))
    assert changes.dropped == {"supervised.superseded": 1}
    assert changes.added == {"new_record": 1}


def test_what_the_source_does_not_name_is_not_read_and_what_is_gone_was_erased(tmp_path: Path) -> None:
    records = [chat("1", platform="a"), chat("2", platform="b"), chat("3", platform="b")]
    before, after = both(tmp_path, records, records[:2], source=Source(platforms=("a",)))
    stored = {record_id("1"), record_id("2")}
    changes = compare(before, after, known=lambda ids: stored & set(ids))
    assert changes.dropped == {"erased": 1, "not_read": 1}
    assert compare(before, after).dropped == {"not_read": 2}  # nobody who could tell was asked
    assert changes.recipe.added == {"/source/platforms/0": "a"}


def test_other_content_of_the_same_record_is_a_change(tmp_path: Path) -> None:
    steps = parse_recipe({"steps": [{"without_fields": {"fields": ["name"]}}]}).steps
    spoken: list[AnyRecord] = [
        interaction("1", [says("user", "q", name="ann")], response=says("assistant", "a"), success=True)
    ]
    changes = compare(*both(tmp_path, spoken, spoken, steps=steps))
    assert (changes.dropped, changes.added) == ({"changed": 1}, {"changed": 1})


def test_rows_that_were_erased_are_not_compared(tmp_path: Path) -> None:
    before, after = both(tmp_path, [chat("1")], [chat("2")])
    VersionsPlace(tmp_path / "one", lambda: "r").erase(
        Subject(kind="interaction", value="", ids=frozenset([record_id("1")]))
    )
    buried = open_version(before.path)
    assert isinstance(buried.tombstone, Tombstone)
    assert buried.tombstone.erased <= now()
    changes = compare(buried, after)
    assert not changes.compared
    assert changes.examples["supervised"].before == 1
    assert changes.numbers == []


def test_a_damaged_version_is_an_error(tmp_path: Path) -> None:
    before, after = both(tmp_path, [chat("1")], [chat("2")])
    (path,) = [before.path / file.path for file in before.manifest.files if "supervised" in file.path]
    path.chmod(0o644)
    path.write_bytes(b"{}\n")
    with pytest.raises(DatasetError, match=f"{path.name} cannot be read"):
        compare(before, after)


def test_the_numbers_that_moved_are_named(shared_data: Path, tmp_path: Path) -> None:
    """The real trajectories against those of them that failed."""
    records = list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json"))
    store = open_store(tmp_path, records)
    failed = msgspec.structs.replace(RECIPE, name="failed", source=Source(success=False))
    changes = compare(*(build_version(store, recipe, tmp_path) for recipe in (RECIPE, failed)), known=store.known)
    store.close()
    found = {drift.name: drift for drift in changes.numbers}
    outcome = found["interactions.outcome"]
    assert (outcome.before, outcome.after, outcome.size, outcome.notable) == (0.42, 0.0, -0.42, True)
    assert not found["labelled.confidence"].notable
    assert found["interactions.platform"].size == 0
    assert changes.dropped["not_read"] >= 84  # every supervised row, and the labels of what succeeded
    assert changes.examples["supervised"].after == 0
