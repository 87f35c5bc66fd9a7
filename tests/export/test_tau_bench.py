"""The real trajectories in every format: each message, tool call, id and argument is in a row or on the list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import open_store, tau_bench, tau_bench_source
from tracemill.core.errors import ExportError
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.version import Version
from tracemill.export.write import export_version


@pytest.fixture(scope="module")
def source(shared_data: Path) -> dict[str, dict[str, Any]]:
    return tau_bench_source(shared_data / "tau_bench_airline_gpt4o.json")


@pytest.fixture(scope="module")
def version(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Version:
    folder = tmp_path_factory.mktemp("workspace")
    store = open_store(folder, list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json")))
    built = build_version(store, Recipe(name="airline"), folder / "datasets")
    store.close()
    return built


def lines(path: Path) -> Iterator[Any]:
    for line in path.read_bytes().splitlines():
        yield json.loads(line)


def exported(version: Version, name: str) -> list[tuple[set[str], dict[str, Any], int]]:
    """Each row with the records it came from and how many messages of the source the list says it lacks."""
    report = export_version(version, name)
    assert report.manifest.refused == {}
    tails = {}
    for loss in lines(report.path / "losses.jsonl"):
        assert (loss["path"], loss["reason"]) == ("/tail", "after_last_answer")
        tails[loss["split"], loss["row"]] = int(loss["detail"].split()[0])
    found = []
    for split in report.manifest.rows:
        tag = {"trl-kto": "labelled", "trajectory-preference": "trajectory_preference"}.get(name, "supervised")
        rows = list(lines(report.path / f"{split}.jsonl"))
        for number, (row, example) in enumerate(zip(rows, version.examples(split, tag), strict=True), 1):
            found.append((set(example.sources), row, tails.get((split, number), 0)))
    return found


def spoken(messages: list[dict[str, Any]]) -> list[Any]:
    """What a trajectory says, whatever the form of its arguments: roles, texts, call ids, names, argument values."""
    said = []
    for message in messages:
        calls = []
        for call in message.get("tool_calls") or ():
            arguments = call["function"]["arguments"]
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
            calls.append((call["id"], call["function"]["name"], arguments))
        said.append((message["role"], message.get("content"), message.get("name"), message.get("tool_call_id"), calls))
    return said


@pytest.mark.parametrize("name", ["openai-chat", "trl-sft"])
def test_every_success_is_a_row_that_lacks_only_its_listed_tail(
    name: str, source: dict[str, dict[str, Any]], version: Version
) -> None:
    seen = set()
    for sources, row, tail in exported(version, name):
        (record,) = sources & source.keys()
        seen.add(record)
        trajectory = source[record]["traj"]
        assert spoken(row["messages"]) == spoken(trajectory[: len(trajectory) - tail])
        assert all(message["role"] != "assistant" for message in trajectory[len(trajectory) - tail :])
        if name == "openai-chat":
            assert row["messages"] == trajectory[: len(trajectory) - tail]
    assert seen == {record for record, row in source.items() if row["reward"] == 1.0}


def test_every_tool_call_of_the_source_is_in_the_kto_export(
    source: dict[str, dict[str, Any]], version: Version
) -> None:
    calls = 0
    seen = set()
    for sources, row, tail in exported(version, "trl-kto"):
        (record,) = sources & source.keys()
        seen.add(record)
        trajectory = source[record]["traj"]
        whole = [*row["prompt"], *row["completion"]]
        assert spoken(whole) == spoken(trajectory[: len(trajectory) - tail])
        assert row["label"] == (source[record]["reward"] == 1.0)
        calls += sum(len(message.get("tool_calls") or ()) for message in whole)
    assert seen == set(source)
    assert calls == 1164 == sum(len(m.get("tool_calls") or ()) for row in source.values() for m in row["traj"])


def test_results_that_follow_the_last_answer_are_listed_by_their_call_ids(
    source: dict[str, dict[str, Any]], version: Version
) -> None:
    report = export_version(version, "trl-kto")
    listed = sorted(call_id for loss in lines(report.path / "losses.jsonl") for call_id in loss.get("call_ids", []))
    last = [row["traj"][-1] for row in source.values()]
    assert listed == sorted(message["tool_call_id"] for message in last if message["role"] == "tool")
    assert len(listed) == 51


def test_trajectory_preferences_hold_both_sides_whole(source: dict[str, dict[str, Any]], version: Version) -> None:
    rows = exported(version, "trajectory-preference")
    assert len(rows) == 88
    for sources, row, _ in rows:
        sides = [source[record]["traj"] for record in sources & source.keys()]
        assert row["chosen"] in sides
        assert row["rejected"] in sides
        assert (row["chosen_score"], row["rejected_score"]) == (1.0, 0.0)


def test_none_of_them_is_dressed_up_as_dpo(version: Version) -> None:
    with pytest.raises(ExportError, match="no preference examples"):
        export_version(version, "trl-dpo")
