"""DataAugmentor over texts, conversations and examples: marks, reasons, the seed, and what it never touches."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import tau_bench
from tests.quality.test_scenarios import CITIES, TALK, TOOLS
from tracemill import DataAugmentor
from tracemill.core.errors import SettingError
from tracemill.core.messages import role, trajectory
from tracemill.core.records import Interaction
from tracemill.quality.augment import OTHER_NAMES, SCENARIOS, TEXT_OPERATIONS
from tracemill.quality.meaning import changed_facts
from tracemill.quality.rewording import REWORDINGS

QUESTION = "please show me the quickest way to change the address on my account without calling the shop again"
SYNONYMS = {"show": ["tell"], "quickest": ["fastest"], "address": ["residence"], "shop": ["store"]}
EVERY = DataAugmentor((*REWORDINGS, *SCENARIOS), synonyms=SYNONYMS, slots=CITIES, similarity=0.5, per_example=2)


def augmented(example: dict[str, Any], *operations: str, **given_options: Any) -> list[dict[str, Any]]:
    return DataAugmentor(operations, **given_options).augment_llm_data([example])[1:]


def test_rows_are_marked_and_the_source_stays() -> None:
    example = {"id": "e7", "prompt": QUESTION, "completion": "On the page of your account.", "weight": 2.0}
    before = copy.deepcopy(example)
    rows = DataAugmentor(seed=5, per_example=2).augment_llm_data([example])
    assert rows[0] == before
    assert len(rows) > 3
    for row in rows[1:]:
        assert row["completion"] == before["completion"]
        assert row["prompt"] != before["prompt"]
        assert row["augmented"]["source"] == "e7"
        assert row["augmented"]["seed"] in (5, 6)
        assert row["augmented"]["operation"] in ("insertion", "deletion", "swap")
        assert "id" not in row
        assert changed_facts(QUESTION, row["prompt"]) == []


def test_answers_calls_and_results_are_not_reworded() -> None:
    for row in augmented({"messages": TALK, "tools": TOOLS}, *REWORDINGS, similarity=0.3, rate=0.5, synonyms=SYNONYMS):
        for before, after in zip(TALK, row["messages"], strict=True):
            if role(before) != "user":
                assert after == before
        assert row["tools"] == TOOLS
        assert "Boston" in row["messages"][1]["content"]


def test_values_of_calls_stand_in_what_users_say() -> None:
    talk = [
        {"role": "user", "content": "find green apples and cheap pears near the old station for my kitchen"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {
            "name": "search", "arguments": '{"what": "green apples and cheap pears near the old station"}'}}]},
        {"role": "tool", "tool_call_id": "c", "content": "[]"},
        {"role": "assistant", "content": "There are none."},
    ]  # fmt: skip
    for seed in range(5):
        for row in augmented({"messages": talk}, "deletion", "swap", rate=1.0, similarity=0.0, seed=seed):
            said = row["messages"][0]["content"]
            assert all(word in said for word in ["green", "apples", "cheap", "pears", "near", "old", "station"])


def test_what_cannot_be_varied_is_counted() -> None:
    augmentor = DataAugmentor(("synonyms", "scenario_variation"))
    rows: list[Any] = [{"prompt": QUESTION}, {"x": 1}, 5, {"prompt": 3}, {"prompt": QUESTION, "split": "test"}]
    assert augmentor.augment_llm_data(rows) == rows
    assert augmentor.refused == {
        "synonyms.no_synonyms": 1,
        "needs_messages": 1,
        "unknown_shape": 1,
        "wrong_type": 2,
        "not_train": 1,
    }
    strict = DataAugmentor(("deletion",), rate=0.5, similarity=0.99)
    assert len(strict.augment_llm_data([{"text": QUESTION}])) == 1
    assert strict.refused == {"deletion.meaning_changed": 1}


def test_scenarios_say_what_they_need() -> None:
    rows = augmented({"messages": TALK, "tools": TOOLS}, *SCENARIOS, slots=CITIES, per_example=8)
    names = {row["augmented"]["operation"] for row in rows}
    assert {"scenario_variation", "failure_injection.timeout", "failure_injection.error"} <= names
    assert {"edge_cases.unicode", "edge_cases.empty", "difficulty_progression"} <= names | {"difficulty_progression"}
    for row in rows:
        ends_well = role(row["messages"][-1]) == "assistant"
        assert ends_well is ("needs" not in row), row["augmented"]
    whole = augmented({"messages": TALK, "tools": TOOLS}, *SCENARIOS, slots=CITIES, per_example=8, whole_only=True)
    assert whole
    assert not [row for row in whole if "needs" in row]


def test_embedding_rows_have_no_borrowed_embedding() -> None:
    rows = DataAugmentor(("insertion",)).augment_embedding_data([QUESTION, 7], [[1.0, 2.0], [0.0, 1.0]])
    assert rows[0] == {"text": QUESTION, "embedding": [1.0, 2.0], "augmented": None}
    assert rows[1]["text"] == 7
    (made,) = rows[2:]
    assert made["embedding"] is None
    assert made["augmented"] == {"operation": "insertion", "source": "0", "seed": 0}
    with pytest.raises(SettingError, match="1 texts and 0 embeddings"):
        DataAugmentor().augment_embedding_data([QUESTION], [])


@given(st.integers(0, 1000), st.sampled_from((*REWORDINGS, *SCENARIOS)))
def test_the_seed_decides_everything(seed: int, operation: str) -> None:
    example = {"messages": TALK, "tools": TOOLS}
    options: dict[str, Any] = {"seed": seed, "synonyms": SYNONYMS, "slots": CITIES, "similarity": 0.4}
    once, twice = (augmented(example, operation, **options) for _ in range(2))
    assert once == twice
    assert example == {"messages": TALK, "tools": TOOLS}


def test_other_operations_change_no_draw() -> None:
    alone = augmented({"text": QUESTION}, "swap")
    among = augmented({"text": QUESTION}, "deletion", "swap", "insertion")
    assert alone == [row for row in among if row["augmented"]["operation"] == "swap"]


@pytest.mark.parametrize("wrong", [{"operations": ["rot13"]}, {"rate": 0}, {"similarity": 2}, {"per_example": 0}])
def test_wrong_options_are_the_callers_mistake(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        DataAugmentor(**wrong)


@pytest.mark.parametrize(("operation", "says"), [("context", "masked_model"), ("back_translation", "translation")])
def test_models_must_be_given(operation: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        augmented({"text": QUESTION}, operation)


def test_the_real_trajectories(shared_data: Path) -> None:
    made = 0
    for record in tau_bench(shared_data / "tau_bench_airline_gpt4o.json"):
        if isinstance(record, Interaction):
            whole = trajectory(record)
            for variation in DataAugmentor(whole_only=True).vary(whole, record.tools, source=record.id):
                made += 1
                assert [message for message in variation.made.messages if role(message) != "user"] == [
                    message for message in whole if role(message) != "user"
                ]
                assert variation.similarity >= 0.8
    assert made > 300


def test_other_names_of_operations_are_taken() -> None:
    known = {*TEXT_OPERATIONS, *SCENARIOS}
    assert {*OTHER_NAMES.values()} <= known
    assert not known & OTHER_NAMES.keys()
    example = {"text": "Please book the very first flight that leaves in the morning."}
    assert augmented(example, "random_deletion") == augmented(example, "deletion") != []
