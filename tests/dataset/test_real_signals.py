"""What each signal gives of the real trajectories, counted by brute force from the file itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import open_store, tau_bench, tau_bench_source
from tracemill.core.examples import ActionExample, Example
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import SIGNALS, Recipe
from tracemill.dataset.signals.confidence import RECOVERED
from tracemill.dataset.version import Version
from tracemill.export.formats import FORMATS
from tracemill.export.write import make_row
from tracemill.quality.metrics import is_failure

RECIPE = Recipe(name="all", signals=SIGNALS, split={"train": 1.0})
FILE = "tau_bench_airline_gpt4o.json"


def built(shared_data: Path, folder: Path, *, expand: bool = False, recipe: Recipe = RECIPE) -> Version:
    store = open_store(folder, list(tau_bench(shared_data / FILE, expand=expand)))
    version = build_version(store, recipe, folder)
    store.close()
    return version


@pytest.fixture(scope="module")
def version(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Version:
    return built(shared_data, tmp_path_factory.mktemp("whole"))


def _failed(messages: list[dict[str, Any]], at: int) -> bool | None:
    """Whether the one call of a message failed; None where it makes none or has no result."""
    if at >= len(messages) or not messages[at].get("tool_calls"):
        return None
    assert len(messages[at]["tool_calls"]) == 1  # these agents call one tool at a time
    after = messages[at + 1] if at + 1 < len(messages) else {"role": ""}
    return is_failure(after["content"]) if after["role"] == "tool" else None


def _recoveries(messages: list[dict[str, Any]]) -> int:
    found = 0
    for at in range(len(messages)):
        if _failed(messages, at):
            after = at + 2
            while _failed(messages, after) is False and _tool(messages, after) == "think":
                after += 2
            found += _failed(messages, after) is False
    return found


def _tool(messages: list[dict[str, Any]], at: int) -> str:
    return str(messages[at]["tool_calls"][0]["function"]["name"])


def test_recoveries_are_those_of_the_file(shared_data: Path, tmp_path: Path) -> None:
    version = built(shared_data, tmp_path, recipe=Recipe(name="recovered", signals=("recoveries",)))
    runs = tau_bench_source(shared_data / FILE)
    assert version.count() == sum(_recoveries(run["traj"]) for run in runs.values()) == 24
    assert Counter(example.signal for example in version.examples()) == {"other_tool": 17, "corrected_arguments": 7}


def test_the_others_give_what_such_records_hold(version: Version) -> None:
    by_signal = Counter(example.signal for example in version.examples())
    assert (by_signal["score"], by_signal["success"], by_signal["feedback"]) == (200, 84, 200)
    assert by_signal["next_action"] > 300
    drops = version.manifest.drops
    for signal, reason in (
        *(("checks", "no_failed_check"), ("decisions", "no_decision"), ("overrides", "no_decision")),
        *(("retrieval", "nothing_retrieved"), ("edits", "no_correction")),
    ):
        assert drops[f"{signal}.{reason}"] == 200  # such records are not among these
    assert version.verify() == []


def test_every_action_stands_in_its_trajectory_where_it_says(version: Version, shared_data: Path) -> None:
    runs = tau_bench_source(shared_data / FILE)
    found = 0
    for example in version.examples(type="action"):
        assert isinstance(example, ActionExample)
        (record,) = set(example.sources) & set(runs)
        messages, at = runs[record]["traj"], len(example.prompt)
        assert messages[:at] == example.prompt
        assert [messages[at]] == example.completion
        results = example.outcome.get("results", [])
        assert messages[at + 1 : at + 1 + len(results)] == results
        assert not any(is_failure(result["content"]) for result in results)
        found += 1
    assert found == version.count(type="action")


def test_logged_call_by_call_the_same_is_learnt(version: Version, shared_data: Path, tmp_path: Path) -> None:
    logged = built(shared_data, tmp_path, expand=True)

    kinds = ("corrected_arguments", "other_tool", "retried", "next_action", "rephrase")
    whole, calls = ({one.id: one for one in of.examples() if one.signal in kinds} for of in (version, logged))
    assert calls.keys() <= whole.keys()
    for missing in whole.keys() - calls.keys():  # a last call is logged before its result is known
        example = whole[missing]
        assert isinstance(example, ActionExample)
        assert example.signal in RECOVERED
        assert str(example.tool) == "transfer_to_human_agents"
    assert len(whole.keys() - calls.keys()) == 1
    assert not [example for example in logged.examples() if example.signal.startswith("regenerated")]


@pytest.mark.parametrize("name", ["next-action", "agent-execution", "reward", "conversation-example"])
def test_every_row_is_exported_or_refused_with_a_reason(version: Version, name: str) -> None:
    made = FORMATS[name]
    tag = str(made.example.__struct_config__.tag)
    refused: Counter[str] = Counter()
    examples: list[Example] = list(version.examples(type=tag))
    for example in examples:
        data, _, why = make_row(example, made)
        assert (data is None) == (why is not None)
        if why is not None:
            refused[why.reason] += 1
    assert len(examples) > 50
    assert sum(refused.values()) < len(examples) / 20, refused
