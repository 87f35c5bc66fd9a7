"""The real trajectories, split in every way: what a leak check of one's own finds in the rows, and the shares they get."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.dataset.support import START, list_store, tau_bench
from tracemill.core.messages import trajectory
from tracemill.core.records import AnyRecord, Interaction
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import parse_recipe
from tracemill.dataset.version import Version
from tracemill.quality.documents import document

HALVES = {"train": 0.8, "test": 0.2}
ALL = ["user", "conversation", "session", "task", "near_duplicate"]
METHODS: dict[str, dict[str, Any]] = {
    "hold_out": {"shares": HALVES},
    "k_fold": {"folds": 5},
    "k_fold by label": {"folds": 5, "by": "label"},
    "stratified by label": {"shares": HALVES, "by": "label"},
    "stratified by label and turns": {"shares": HALVES, "by": ["label", "turns"]},
    "time": {"shares": HALVES, "by": "time"},
    "time without users": {"shares": HALVES, "by": "time", "group": [name for name in ALL if name != "user"]},
}
FARTHEST = {"hold_out": 0.05, "k_fold": 0.0, "stratified by label": 0.0, "time": 0.0, "time without users": 0.0}
"""How far a share may be from the one asked for; 0.021, four interactions, for the others."""


@pytest.fixture(scope="module")
def records(shared_data: Path) -> list[AnyRecord]:
    """The trajectories. Their file gives all of them one time; here each task has a day of its own."""
    made: list[AnyRecord] = []
    for record in tau_bench(shared_data / "tau_bench_airline_gpt4o.json"):
        if isinstance(record, Interaction):
            day = START + timedelta(days=int(record.task_id or 0), minutes=record.trial or 0)
            record = msgspec.structs.replace(record, time=day)
        made.append(record)
    return made


@pytest.fixture(scope="module")
def copied(records: list[AnyRecord]) -> list[AnyRecord]:
    """Ten of them again as other people have them: near duplicates under other names."""
    made = list(records)
    originals = [record for record in records if isinstance(record, Interaction)][::20]
    for record in originals:
        at = next(at for at, message in enumerate(record.messages) if message["role"] == "user")
        thanked = {**record.messages[at], "content": f"{record.messages[at]['content']} Thank you so much!"}
        changed = [*record.messages[:at], thanked, *record.messages[at + 1 :]]
        fields = {"conversation_id": f"copy {record.id}", "session_id": None, "task_id": None, "user": None}
        identity = record.id[:-4] + "c0de"
        made.append(msgspec.structs.replace(record, id=identity, messages=changed, success=True, **fields))
    return made


def shingles(record: Interaction) -> frozenset[tuple[str, ...]]:
    """The runs of three words of what was said, by a splitting of this test's own."""
    words = "".join(letter if letter.isalnum() else " " for letter in document(trajectory(record)).lower()).split()
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def leaks(version: Version, records: list[AnyRecord], kinds: list[str]) -> dict[str, int]:
    """How many values of each kind stand in two splits of the rows, and how many near duplicates."""
    read = {record.id: record for record in records if isinstance(record, Interaction)}
    splits: dict[str, set[str]] = defaultdict(set)
    for split in version.splits():
        for example in version.examples(split):
            for source in set(example.sources) & set(read):
                splits[source].add(split)
    found = dict.fromkeys(kinds, 0)
    for kind in kinds:
        values: dict[str, set[str]] = defaultdict(set)
        for source, names in splits.items():
            if (value := getattr(read[source], kind)) is not None:
                values[str(value)] |= names
        found[kind] = sum(len(names) > 1 for names in values.values())
    sets = {source: shingles(read[source]) for source in splits}
    found["near_duplicate"] = sum(
        1
        for one, other in combinations(sorted(splits), 2)
        if splits[one] != splits[other] and _alike(sets[one], sets[other])
    )
    return found


def _alike(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> bool:
    smaller, larger = sorted((len(one), len(other)))
    return smaller >= 0.8 * larger and len(one & other) >= 0.8 * len(one | other)


@pytest.mark.parametrize("name", METHODS)
def test_the_rows_leak_nothing_and_have_about_their_shares(
    records: list[AnyRecord], copied: list[AnyRecord], tmp_path: Path, name: str
) -> None:
    split = METHODS[name]
    kinds = ["conversation_id", "task_id", *([] if name == "time without users" else ["user"])]
    version = build_version(list_store(records), parse_recipe({"split": split}), tmp_path)
    assert set(leaks(version, records, kinds).values()) == {0}
    for share in version.manifest.shares.values():
        assert share.wanted is not None
        assert abs(share.share - share.wanted) <= FARTHEST.get(name, 0.021)
    recipe = parse_recipe({"name": "copied", "split": {"group": ALL, **split}})
    version = build_version(list_store(copied), recipe, tmp_path)
    assert set(leaks(version, copied, kinds).values()) == {0}


def test_the_check_finds_near_duplicates_that_are_parted(copied: list[AnyRecord], tmp_path: Path) -> None:
    version = build_version(list_store(copied), parse_recipe({"split": {"folds": 5}}), tmp_path)
    assert leaks(version, copied, ["user"])["near_duplicate"] >= 4
    version = build_version(
        list_store(copied), parse_recipe({"split": {"folds": 5, "group": "conversation"}}), tmp_path
    )
    parted = leaks(version, copied, ["task_id"])["task_id"]
    assert 0 < parted <= 24  # tasks of which no two trials are compared: all their rewards are equal
