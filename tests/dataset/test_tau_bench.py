"""The real trajectories: 50 tasks with four trials each, counted by brute force from the file itself."""

from __future__ import annotations

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

from tests.dataset.support import open_store, tau_bench, tau_bench_source
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
def source(shared_data: Path) -> dict[str, dict[str, Any]]:
    return tau_bench_source(shared_data / "tau_bench_airline_gpt4o.json")


@pytest.fixture(scope="module")
def store(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HotStore]:
    records = list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json"))
    opened = open_store(tmp_path_factory.mktemp("store"), records)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def version(store: HotStore, tmp_path_factory: pytest.TempPathFactory) -> Version:
    return build_version(store, RECIPE, tmp_path_factory.mktemp("datasets"))


def by_task(source: dict[str, dict[str, Any]]) -> dict[int, list[tuple[str, dict[str, Any]]]]:
    tasks = defaultdict(list)
    for record, row in source.items():
        tasks[row["task_id"]].append((record, row))
    return tasks


def test_every_pair_of_a_task_whose_rewards_differ_is_there_once(
    source: dict[str, dict[str, Any]], version: Version
) -> None:
    expected = {}
    for rows in by_task(source).values():
        for one, other in combinations(rows, 2):
            if one[1]["reward"] != other[1]["reward"]:
                better, worse = sorted((one, other), key=lambda entry: -entry[1]["reward"])
                expected[better[0], worse[0]] = (better[1]["traj"], worse[1]["traj"])
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


def test_successes_are_imitated_and_every_reward_is_a_label(
    source: dict[str, dict[str, Any]], version: Version
) -> None:
    imitated = {}
    for example in version.examples(type="supervised"):
        assert isinstance(example, SupervisedExample)
        (record,) = set(example.sources) & set(source)
        imitated[record] = [*example.messages, *example.tail]
        assert all(message["role"] != "assistant" for message in example.tail)
    assert imitated == {record: row["traj"] for record, row in source.items() if row["reward"] == 1.0}
    labelled = {}
    for example in version.examples(type="labelled"):
        assert isinstance(example, LabelledExample)
        (record,) = set(example.sources) & set(source)
        labelled[record] = ([*example.prompt, *example.completion, *example.tail], example.label)
    assert labelled == {record: (row["traj"], row["reward"] == 1.0) for record, row in source.items()}


def test_no_task_and_no_customer_is_in_two_splits(source: dict[str, dict[str, Any]], version: Version) -> None:
    splits = defaultdict(set)
    for fate in version.fates():
        if fate.id in source:
            splits["task", source[fate.id]["task_id"]].add(fate.split)
            splits["user", source[fate.id]["info"]["task"]["user_id"]].add(fate.split)
    assert len([key for key in splits if key[0] == "task"]) == 50
    assert all(len(found) == 1 for found in splits.values())


def test_a_store_filled_in_another_order_gives_the_same_bytes(
    shared_data: Path, version: Version, tmp_path: Path
) -> None:
    """And under another key, so that every customer has another pseudonym."""
    records = list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json", key=b"x" * 32))
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


def test_logged_call_by_call_the_same_is_learnt(shared_data: Path, version: Version, tmp_path: Path) -> None:
    """As a proxy logs it: 2,454 calls with full histories. The last call of each trial stands for the whole of it."""
    store = open_store(tmp_path, list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json", expand=True)))
    logged = build_version(store, RECIPE, tmp_path)
    store.close()

    def imitated(built: Version) -> list[Any]:
        return sorted(
            (
                example.messages
                for example in built.examples(type="supervised")
                if isinstance(example, SupervisedExample)
            ),
            key=str,
        )

    assert imitated(logged) == imitated(version)
    assert logged.count(type="labelled") == 200
    assert sum(1 for example in logged.examples(type="trajectory_preference")) == 88
    assert logged.count(type="preference") == 0
    assert logged.manifest.records_read == 2454 + 200
