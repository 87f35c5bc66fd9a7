"""DataValidator: worked data against each limit, and anything at all, which must be reported and never raise."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import says, tau_bench
from tracemill import DataValidator
from tracemill.core.errors import SettingError
from tracemill.core.messages import trajectory
from tracemill.core.records import Interaction
from tracemill.quality import reading
from tracemill.quality.reading import read_samples

TEXTS = [
    "Where is the parcel that I ordered last week?",
    "Please change my flight to the one on Friday morning.",
    "The invoice for March shows two charges for one hotel night.",
    "How do I reset the password of my account?",
    "Our printer prints only blank pages since the update.",
    "Which vaccinations do I need for a journey to Kenya?",
]
RANDOM = np.random.default_rng(3)
VECTORS = RANDOM.normal(size=(len(TEXTS), 384))
SMALL = {"min_embedding_dim": 2, "max_embedding_dim": 4, "min_examples": 1, "min_unique_words": 1}


def validator(**limits: Any) -> DataValidator:
    return DataValidator(limits, clock=lambda: datetime(2024, 3, 7, 12, tzinfo=UTC))


def reasons(result: dict[str, Any]) -> set[str]:
    json.dumps(result, allow_nan=False)  # every result can be written down
    return set(result["problem_counts"])


def test_good_embeddings_have_the_shape_of_the_result() -> None:
    result = validator().validate_embedding_data(TEXTS, VECTORS)
    assert result["is_valid"] is True
    assert result["message"] == "Data validation successful"
    assert result["timestamp"].startswith("2024-03-07T12:00:00")
    metrics = result["metrics"]
    lengths = [len(text.split()) for text in TEXTS]
    assert metrics["num_samples"] == 6
    assert metrics["avg_sequence_length"] == pytest.approx(np.mean(lengths))
    assert metrics["std_sequence_length"] == pytest.approx(np.std(lengths))
    assert metrics["quality_score"] == 1.0
    assert metrics["duplicate_ratio"] == 0.0
    assert metrics["embedding_dim"] == 384
    assert 0.5 < metrics["tfidf_score"] <= 1


def test_tfidf_score_is_one_minus_the_mean_cosine_of_all_pairs() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    from tracemill.quality.text import words

    vectors = TfidfVectorizer(analyzer=words).fit_transform(TEXTS).toarray()
    pairs = [vectors[i] @ vectors[j] for i in range(6) for j in range(i)]
    result = validator().validate_embedding_data(TEXTS, VECTORS)
    assert result["metrics"]["tfidf_score"] == pytest.approx(1 - np.mean(pairs))
    same = validator().validate_embedding_data([TEXTS[0]] * 6, VECTORS)
    assert same["metrics"]["tfidf_score"] == pytest.approx(0, abs=1e-9)
    assert {"low_tfidf", "too_many_duplicates", "low_quality"} <= reasons(same)
    assert same["metrics"]["duplicate_ratio"] == pytest.approx(5 / 6)
    assert same["metrics"]["quality_score"] == pytest.approx(1 / 6)
    assert same["duplicates"] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("vector", "reason"),
    [
        ([math.nan, 1.0], "not_finite"),
        ([math.inf, 1.0], "not_finite"),
        ([10**400, 1], "not_finite"),
        ([1.0, 2.0, 3.0], "wrong_dimension"),
        ([], "empty_embedding"),
        ([0.0, 0.0], "zero_embedding"),
        (["1", "2"], "wrong_type"),
        ([True, False], "wrong_type"),
        ([None, 1.0], "wrong_type"),
        ([[1.0], [2.0]], "wrong_type"),
        (None, "wrong_type"),
        ("1,2", "wrong_type"),
        (np.array([np.nan, 0.0]), "not_finite"),
        (np.float64(1.0), "wrong_type"),
    ],
)
def test_a_bad_embedding_is_named(vector: Any, reason: str) -> None:
    given_vectors: list[Any] = [[1.0, 2.0], [2.0, 1.0], [1.5, 1.5], vector]
    result = validator(**SMALL).validate_embedding_data(TEXTS[:4], given_vectors)
    assert reasons(result) == {reason}
    assert [one["index"] for one in result["problems"]] == [3]
    assert result["metrics"]["quality_score"] == 0.75
    assert result["metrics"]["valid_samples"] == 3
    assert reason in result["message"]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"min_examples": 7}, "too_few_examples"),
        ({"max_examples": 5}, "too_many_examples"),
        ({"min_sequence_length": 10}, "too_short"),
        ({"max_sequence_length": 8}, "too_long"),
        ({"min_unique_words": 1000}, "too_few_unique_words"),
        ({"min_embedding_dim": 400}, "dimension_out_of_range"),
        ({"max_embedding_dim": 383}, "dimension_out_of_range"),
        ({"min_tfidf_score": 0.99999}, "low_tfidf"),
    ],
)
def test_every_limit_is_kept(limits: dict[str, Any], reason: str) -> None:
    assert reason in reasons(validator(**limits).validate_embedding_data(TEXTS, VECTORS))


def test_outliers_are_noted_and_do_not_make_data_invalid() -> None:
    texts = [f"{text} Number {at} of many." for at, text in enumerate(TEXTS * 4)]
    texts[7] = " ".join(f"word{at}" for at in range(100))
    vectors = [[1.0, 0.1 * (at % 5)] for at in range(24)]
    vectors[3] = [40.0, 0.0]
    limits = {**SMALL, "max_duplicate_ratio": 1.0, "quality_threshold": 0.0}
    result = validator(**limits).validate_embedding_data(texts, vectors)
    assert result["is_valid"], result["message"]
    assert [(one["index"], one["reason"]) for one in result["warnings"]] == [
        (3, "embedding_outlier"),
        (7, "length_outlier"),
    ]
    calm = validator(**{**limits, "outlier_threshold": 9.0}).validate_embedding_data(texts, vectors)
    assert calm["warnings"] == []


GOOD = [{"prompt": text, "completion": f"About that: {text.lower()}"} for text in TEXTS]


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        ("text", "wrong_type"),
        (None, "wrong_type"),
        ({}, "missing_field"),
        ({"prompt": "What?"}, "missing_field"),
        ({"prompt": "What?", "completion": ""}, "empty_answer"),
        ({"prompt": "What?", "completion": 5}, "wrong_type"),
        ({"messages": []}, "no_assistant"),
        ({"messages": "hello"}, "wrong_type"),
        ({"messages": [says("user", "Hello?")]}, "no_assistant"),
        ({"messages": [says("user", "Hello?"), says("robot", "Hi.")]}, "unknown_role"),
        ({"messages": [says("user", "Hello?"), says("assistant", "")]}, "empty_message"),
        ({"chosen": "Yes.", "rejected": "Yes."}, "equal_sides"),
        ({"prompt": "What?", "chosen": "Yes."}, "missing_field"),
        ({"prompt": "Is it?", "completion": "Yes, it is.", "weight": math.nan}, "not_finite"),
        ({"text": "  "}, "empty"),
        ({"text": ["a"]}, "wrong_type"),
    ],
)
def test_a_bad_example_is_named(example: Any, reason: str) -> None:
    assert reasons(validator().validate_llm_data(GOOD)) == set()
    result = validator().validate_llm_data([*GOOD, example])
    assert reason in reasons(result)
    assert {one["index"] for one in result["problems"]} == {6}


@pytest.mark.parametrize(
    "example",
    [
        {"messages": [says("user", "Is it far?"), says("assistant", "No, two hours.")]},
        {"conversations": [{"from": "human", "value": "Is it far?"}, {"from": "gpt", "value": "No, two hours."}]},
        {"instruction": "Translate.", "input": "Gut.", "output": "Good."},
        {"question": "Is it far?", "answer": "No, two hours."},
        {"prompt": [says("user", "Is it far?")], "chosen": [says("assistant", "No.")], "rejected": [says("assistant", "Go!")]},
        {"prompt": "Is it far?", "chosen": "No.", "rejected": "Go!"},
        {"text": "It is not far."},
    ],
)  # fmt: skip
def test_usual_shapes_are_read(example: dict[str, Any]) -> None:
    result = validator(min_examples=1, min_unique_words=1).validate_llm_data([example])
    assert result["is_valid"], result["message"]
    assert "unknown" not in result["metrics"]["shapes"]


def test_defects_of_text_lower_the_score() -> None:
    cut = {"messages": [says("user", "Tell me about trains."), says("assistant", "Trains run on rails,")]}
    result = validator().validate_llm_data([*GOOD, cut])
    assert result["warning_counts"]["truncated"] == 1
    assert result["metrics"]["quality_score"] == pytest.approx((6 + 0.5) / 7)


def test_the_real_trajectories_are_valid(shared_data: Path) -> None:
    found = [one for one in tau_bench(shared_data / "tau_bench_airline_gpt4o.json") if isinstance(one, Interaction)]
    result = validator(max_sequence_length=10_000).validate_llm_data([{"messages": trajectory(one)} for one in found])
    assert result["problem_counts"] == {}
    assert result["metrics"]["num_samples"] == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["messages", "role", "content", "prompt", "completion", "chosen", "rejected", "text", "tool_calls", "function",
         "arguments", "conversations", "from", "value", "weight", "x"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON, JSON)
def test_anything_is_reported_and_nothing_raises(one: Any, other: Any) -> None:
    for result in (
        validator().validate_llm_data(one),
        validator().validate_llm_data([one, other]),
        validator().validate_embedding_data(one, other),
        validator().validate_embedding_data([one, other], [other, one]),
    ):
        assert result["is_valid"] is False
        assert result["problems"]
        json.dumps(result, allow_nan=False)


def test_the_wrong_container_is_reported() -> None:
    for texts, vectors in (
        (None, VECTORS),
        ("text", VECTORS),
        (TEXTS, None),
        (TEXTS, 5),
        ({}, {}),
        (TEXTS, VECTORS[:2]),
    ):
        assert reasons(validator().validate_embedding_data(texts, vectors))
    empty = validator().validate_embedding_data([], [])
    assert reasons(empty) == {"too_few_examples", "too_few_unique_words", "low_quality"}
    generated = validator().validate_embedding_data((text for text in TEXTS), iter(VECTORS))
    assert generated["is_valid"]


def test_a_limit_nobody_knows_is_the_callers_mistake() -> None:
    with pytest.raises(SettingError, match="min_exmaples"):
        validator(min_exmaples=3)
    with pytest.raises(SettingError, match="max_examples"):
        validator(max_examples="many")


def test_numbers_of_numpy_in_a_plain_list_are_numbers() -> None:
    vectors = [[np.float32(at + n) for n in range(4)] for at in range(5)]
    found = DataValidator({"min_embedding_dim": 4}).validate_embedding_data(
        [f"text number {n}" for n in range(5)], vectors
    )
    assert "wrong_type" not in found["problem_counts"]
    flags = DataValidator({"min_embedding_dim": 4}).validate_embedding_data(["a"], [[np.bool_(True), True]])
    assert "wrong_type" in flags["problem_counts"]


def test_bad_embeddings_without_a_text_make_no_text_invalid() -> None:
    found = DataValidator().validate_embedding_data(["some text"], [[1.0, 2.0], [], [], []])
    assert found["metrics"]["valid_samples"] == 1
    assert found["problem_counts"]["empty_embedding"] == 3


# -- nested without end


def nested(levels: int, kind: str) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"a": value} if kind == "object" else [value]
    return value


def asks(arguments: Any) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    answer = {"role": "tool", "tool_call_id": "c", "content": "r"}
    return {"messages": [says("user", "please look"), asked, answer, says("assistant", "done")]}


DEEP = {
    "arguments": asks(nested(3000, "object")),
    "arguments as text": asks('{"a": ' * 3000 + "1" + "}" * 3000),
    "lists as text": asks("[" * 100_000 + "]" * 100_000),
    "a preference": {"prompt": "q", "chosen": [asks(nested(3000, "list"))["messages"][1]], "rejected": "b"},
    "a role": {"messages": [{"role": nested(3000, "object"), "content": "x"}]},
    "a sender": {"conversations": [{"from": nested(3000, "list"), "value": "x"}]},
    "an older call": {"messages": [{"role": "assistant", "function_call": {"arguments": nested(3000, "object")}}]},
}


@pytest.mark.parametrize("example", DEEP.values(), ids=DEEP)
def test_what_is_nested_too_deep_is_named_and_its_mates_are_as_they_were(example: dict[str, Any]) -> None:
    mates = [asks("{}"), {"prompt": "what is it", "completion": "it is a bird"}]
    found = validator().validate_llm_data([mates[0], example, mates[1]])
    assert [one["reason"] for one in found["problems"] if one["index"] == 1] == ["nested_too_deep"]
    assert [one for one in found["problems"] if one["index"] in (0, 2)] == []
    assert found["metrics"]["valid_samples"] == 2


def test_what_is_nested_as_deep_as_anybody_nests_is_read() -> None:
    for arguments in (nested(150, "object"), json.dumps(nested(190, "list")), '{"a": "' + "[" * 500 + '"}'):
        assert not reasons(validator().validate_llm_data([asks(arguments)])) & {"nested_too_deep"}


def test_what_holds_itself_and_what_stands_in_many_places_is_read_in_time() -> None:
    own: dict[str, Any] = {"role": "user", "content": "q"}
    own["meta"] = own
    shared: Any = "x"
    for _ in range(60):
        shared = [shared, shared]
    found = validator().validate_llm_data([{"messages": [own, says("assistant", "a")]}, {"text": "a", "meta": shared}])
    assert [one["index"] for one in found["problems"] if one["reason"] == "nested_too_deep"] == [0]


def test_an_integer_that_python_does_not_write_out_is_no_reason_to_raise() -> None:
    assert validator().validate_llm_data([asks({"a": 10**5000})])["metrics"]["valid_samples"] == 1


@pytest.mark.parametrize("array", [False, True])
def test_a_file_with_one_sample_that_is_nested_too_deep_keeps_the_others(tmp_path: Path, array: bool) -> None:
    good = [json.dumps({"text": f'a "fine, [text" {number}'}) for number in range(3)]
    lines = [good[0], '{"text": "x", "meta": ' + "[" * 5000 + "]" * 5000 + "}", *good[1:]]
    path = tmp_path / "data.json"
    path.write_text("[" + ",\n ".join(lines) + "]" if array else "\n".join(lines))
    found = validator().validate_llm_data(read_samples(path))
    assert [(one["index"], one["reason"]) for one in found["problems"] if one["index"] >= 0] == [(1, "nested_too_deep")]
    assert found["metrics"]["num_samples"] == 4


@given(st.lists(JSON.filter(lambda value: value != ""), max_size=5))
def test_the_elements_of_an_array_are_told_apart(values: list[Any]) -> None:
    text = json.dumps(values)
    assert [json.dumps(json.loads(element)) for element in reading._elements(text)] == [json.dumps(v) for v in values]
