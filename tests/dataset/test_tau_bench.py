"""The real trajectories: 50 tasks with four trials each, counted by brute force from the file itself."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import open_store, record_id, tau_bench
from tests.dataset.test_build import content
from tracemill.core.examples import LabelledExample, SupervisedExample, TrajectoryPreference
from tracemill.core.settings import Settings
from tracemill.dataset import shards
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.version import Version
from tracemill.store.hot import HotStore

RECIPE = Recipe(name="airline")


@pytest.fixture(scope="module")
def source(shared_data: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((shared_data / "tau_bench_airline_gpt4o.json").read_bytes())
    return rows


@pytest.fixture(scope="module")
def store(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HotStore]:
    records = list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json"))
    opened = open_store(tmp_path_factory.mktemp("store"), records)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def version(store: HotStore, tmp_path_factory: pytest.TempPathFactory) -> Version:
    return build_version(store, RECIPE, tmp_path_factory.mktemp("datasets"))


def by_task(source: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    tasks = defaultdict(list)
    for row in source:
        tasks[row["task_id"]].append(row)
    return tasks


def identity(row: dict[str, Any]) -> str:
    return record_id(f"airline {row['task_id']} {row['trial']}")


def test_every_pair_of_a_task_whose_rewards_differ_is_there_once(
    source: list[dict[str, Any]], version: Version
) -> None:
    expected = {}
    for rows in by_task(source).values():
        for one, other in combinations(rows, 2):
            if one["reward"] != other["reward"]:
                better, worse = sorted((one, other), key=lambda row: -row["reward"])
                expected[identity(better), identity(worse)] = (better["traj"], worse["traj"])
    assert len(expected) == 88
    assert version.count(type="preference") == 0  # all of them part where the simulated user speaks
    found = {}
    for example in version.examples(type="trajectory_preference"):
        assert isinstance(example, TrajectoryPreference)
        for pair in example.pairs:
            assert pair not in found
            found[pair] = (example.chosen, example.rejected)
            part = example.chosen[example.shared], example.rejected[example.shared]
            assert example.chosen[: example.shared] == example.rejected[: example.shared]
            assert part[0] != part[1]
            assert {message["role"] for message in part} == {"user"}
    assert found == expected


def test_successes_are_imitated_and_every_reward_is_a_label(source: list[dict[str, Any]], version: Version) -> None:
    rows = {identity(row): row for row in source}
    imitated = {}
    for example in version.examples(type="supervised"):
        assert isinstance(example, SupervisedExample)
        (record,) = set(example.sources) & set(rows)
        imitated[record] = [*example.messages, *example.tail]
        assert all(message["role"] != "assistant" for message in example.tail)
    assert imitated == {record: row["traj"] for record, row in rows.items() if row["reward"] == 1.0}
    labelled = {}
    for example in version.examples(type="labelled"):
        assert isinstance(example, LabelledExample)
        (record,) = set(example.sources) & set(rows)
        labelled[record] = ([*example.prompt, *example.completion, *example.tail], example.label)
    assert labelled == {record: (row["traj"], row["reward"] == 1.0) for record, row in rows.items()}


def test_no_task_and_no_customer_is_in_two_splits(source: list[dict[str, Any]], version: Version) -> None:
    rows = {identity(row): row for row in source}
    splits = defaultdict(set)
    for fate in version.fates():
        if fate.id in rows:
            splits["task", rows[fate.id]["task_id"]].add(fate.split)
            splits["user", rows[fate.id]["info"]["task"]["user_id"]].add(fate.split)
    assert len([key for key in splits if key[0] == "task"]) == 50
    assert all(len(found) == 1 for found in splits.values())


def test_a_store_filled_in_another_order_gives_the_same_bytes(
    shared_data: Path, version: Version, tmp_path: Path
) -> None:
    records = list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json"))
    random.Random(7).shuffle(records)
    other = open_store(tmp_path, records)
    assert content(build_version(other, RECIPE, tmp_path)) == content(version)
    other.close()


def _build(url: str, root: Path) -> None:
    build_version(HotStore(url, Settings()), RECIPE, root)


def test_a_build_killed_at_random_moments_ends_in_the_same_bytes(
    store: HotStore, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_PLACES", 40)
    context, moments = multiprocessing.get_context("fork"), random.Random(3)
    kills = 0
    for _ in range(6):
        process = context.Process(target=_build, args=(store.url, tmp_path))
        process.start()
        time.sleep(moments.uniform(0.02, 0.35))
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
    assert kills
    assert content(build_version(store, RECIPE, tmp_path)) == content(version)
    assert [path.name for path in (tmp_path / "airline").iterdir() if path.is_dir()] == ["v1"]
