"""Two trials of one task: which is better, where they part, and whether that makes an honest pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import calls, interaction, list_store, open_store, record_id, result, reward, says
from tracemill.core.examples import PreferenceExample, TrajectoryPreference
from tracemill.core.records import Message
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.signals.trials import Trial, compare

START = [says("system", "s"), says("user", "q")]


def trial(name: str, messages: list[Message], score: float, **fields: Any) -> Trial:
    subject = interaction(name, messages, task_id="1", platform="p", **fields)
    return Trial(subject, score, [record_id(f"reward {name}")], 0.9, False)


def compared(good: list[Message], bad: list[Message], **recipe: Any) -> PreferenceExample | TrajectoryPreference:
    example = compare(trial("bad", bad, 0.0), trial("good", good, 1.0), Recipe(**recipe))
    assert example is not None
    assert example.pairs == [(record_id("good"), record_id("bad"))]
    assert (example.chosen_score, example.rejected_score) == (1.0, 0.0)
    return example


def test_equal_scores_prefer_nothing() -> None:
    assert compare(trial("a", START, 1.0), trial("b", [], 1.0), Recipe()) is None


def test_two_answers_to_one_history_are_a_preference() -> None:
    good = [*START, says("assistant", "yes"), says("user", "thanks")]
    bad = [*START, says("assistant", "no")]
    example = compared(good, bad)
    assert isinstance(example, PreferenceExample)
    assert (example.prompt, example.chosen, example.rejected) == (START, [good[2]], [bad[2]])
    assert (example.chosen_rest, example.rejected_rest) == (1, 0)


def test_the_remainder_goes_up_to_the_last_answer() -> None:
    good = [*START, says("assistant", "1"), says("user", "2"), says("assistant", "3"), says("user", "4")]
    bad = [*START, says("assistant", "no")]
    example = compared(good, bad, preference_length="remainder")
    assert isinstance(example, PreferenceExample)
    assert (example.chosen, example.rejected) == (good[2:5], bad[2:])
    assert (example.chosen_rest, example.rejected_rest) == (1, 0)


@pytest.mark.parametrize(
    ("good", "bad", "shared"),
    [
        ([*START, says("assistant", "a"), says("user", "x")], [*START, says("assistant", "a"), says("user", "y")], 3),
        ([*START, says("assistant", "a")], START, 2),
        (START, START, 2),
        ([says("user", "x"), says("assistant", "a")], [says("user", "y"), says("assistant", "a")], 0),
        ([says("assistant", "x")], [says("assistant", "y")], 0),
        ([*START, says("assistant", "a")], [*START, says("user", "b")], 2),
        (
            [*START, calls("f", "{}", "c1"), result("c1", "1"), says("assistant", "a")],
            [*START, calls("f", "{}", "c2"), result("c2", "2"), says("assistant", "b")],
            3,
        ),
    ],
)
def test_histories_that_do_not_part_at_an_answer_are_no_preference(
    good: list[Message], bad: list[Message], shared: int
) -> None:
    example = compared(good, bad)
    assert isinstance(example, TrajectoryPreference)
    assert (example.chosen, example.rejected, example.shared) == (good, bad, shared)
    assert example.rejected_tools is None


def test_histories_that_differ_in_call_ids_only_are_the_same() -> None:
    def history(call_id: str, arguments: str, answer: str) -> list[Message]:
        return [*START, calls("f", arguments, call_id), result(call_id, "1"), says("assistant", answer)]

    example = compared(history("c1", '{"a": 1}', "x"), history("c2", '{"a":1}', "y"))
    assert isinstance(example, PreferenceExample)
    assert [message["role"] for message in example.prompt] == ["system", "user", "assistant", "tool"]
    assert example.prompt[2]["tool_calls"][0]["id"] == "c1"
    assert example.aligned_ids == {"c2": "c1"}


def test_one_id_used_twice_is_not_two_ids() -> None:
    def history(first: str, second: str) -> list[Message]:
        return [
            *START,
            calls("f", "{}", first),
            result(first, "1"),
            calls("f", "{}", second),
            result(second, "1"),
            says("assistant", first + second),
        ]

    example = compared(history("a", "a"), history("b", "c"))
    assert isinstance(example, PreferenceExample)
    assert len(example.prompt) == 4  # they part at the second call, which repeats an id on one side only


def test_reasoning_is_part_of_a_history() -> None:
    def history(reasoning: str, answer: str) -> list[Message]:
        return [*START, says("assistant", "a", reasoning=reasoning), says("user", "?"), says("assistant", answer)]

    apart, together = compared(history("r1", "x"), history("r2", "y")), compared(history("r", "x"), history("r", "y"))
    assert isinstance(apart, PreferenceExample)
    assert isinstance(together, PreferenceExample)
    assert (len(apart.prompt), len(together.prompt)) == (2, 4)


def test_other_tools_are_another_history() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    good = trial("good", [*START, says("assistant", "x")], 1.0, tools=tools)
    bad = trial("bad", [*START, says("assistant", "y")], 0.0)
    example = compare(good, bad, Recipe())
    assert isinstance(example, TrajectoryPreference)
    assert (example.tools, example.rejected_tools) == (tools, [])


def test_a_response_is_the_last_message_of_its_trial() -> None:
    good = trial("good", START, 1.0, response=says("assistant", "x"))
    bad = trial("bad", [*START, says("assistant", "y")], 0.0)
    example = compare(good, bad, Recipe())
    assert isinstance(example, PreferenceExample)
    assert (example.chosen, example.rejected) == ([says("assistant", "x")], [says("assistant", "y")])


def test_of_two_successes_the_cheaper_and_the_quicker_is_better(tmp_path: Path) -> None:
    spent = {"a": (0.1, 900.0), "b": (0.2, 300.0), "c": (0.01, 1.0)}
    records = [
        interaction(
            name,
            [says("user", "q")],
            response=says("assistant", name),
            task_id="t",
            trial=number,
            success=name != "c",
            cost_usd=cost,
            duration_ms=time,
        )
        for number, (name, (cost, time)) in enumerate(spent.items())
    ]
    store = open_store(tmp_path, records)
    for score, better in (("cost", "a"), ("duration", "b")):
        version = build_version(store, Recipe(name=score, signals=("trials",), trial_score=score), tmp_path)
        (example,) = version.examples()
        assert isinstance(example, PreferenceExample)
        assert (example.chosen[0]["content"], example.confidence) == (better, 0.6)
        assert version.manifest.drops["trials.no_score"] == 1  # c failed: cheap is not enough
    store.close()


@pytest.mark.parametrize("seed", range(6))
def test_the_scores_of_a_preference_are_those_of_its_first_pair(tmp_path: Path, seed: int) -> None:
    scores = {f"{seed} {task} {said}": task / 10 + (said == "good") / 2 for task in (1, 2) for said in ("good", "bad")}
    records = [
        one
        for name, score in scores.items()
        for one in (
            interaction(
                *(name, [says("user", "Name a river.")]),
                task_id=f"t{name.split()[1]}",
                response=says("assistant", name.split()[2]),
            ),
            reward(name, score),
        )
    ]
    version = build_version(list_store(records), Recipe(name="d", signals=("trials",)), tmp_path)
    (example,) = version.examples()
    assert isinstance(example, PreferenceExample)
    assert len(example.pairs) == 2
    by_id = {record_id(name): score for name, score in scores.items()}
    assert (example.chosen_score, example.rejected_score) == tuple(by_id[side] for side in example.pairs[0])
