"""The measures against their formulas, worked out by hand, and laws that hold for all."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import base, calls, interaction, result, says
from tracemill.core.records import Decision, Failure, Option, Outcome, Step
from tracemill.quality.metrics import (
    WEIGHTS,
    Expected,
    MeasureName,
    Said,
    alignment,
    clarity,
    efficiency,
    is_failure,
    measure,
    measure_decision,
    quality_of_decision,
    score_of,
    table,
)

TALK = [says("user", "Which flights go to Seattle?"), says("assistant", "Two.")]
WEB = Option(name="web", pros=["current", "complete"], cons=["slow"], estimated_cost_usd=0.15, estimated_time_ms=45_000)
CACHE = Option(name="cache", pros=["fast"], cons=["outdated"], estimated_cost_usd=0.05, estimated_time_ms=5_000)
REASON = "Current pricing is critical for an accurate analysis, so it is worth the extra cost"


def decision(**fields: Any) -> Decision:
    given_fields: dict[str, Any] = {"options": [WEB, CACHE], "choice": "web", "reasoning": REASON, **fields}
    return Decision(**base("decision"), **given_fields)


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"success": True, "completion_status": "failed"}, 1.0),
        ({"success": False}, 0.0),
        ({"completion_status": "partial"}, 0.5),
        ({"error": Failure(message="no")}, 0.0),
        ({}, None),
    ],
)
def test_success(fields: dict[str, Any], value: float | None) -> None:
    assert measure(interaction("x", TALK, **fields)).value("success") == value


def test_success_of_steps() -> None:
    steps = [Step(**base(f"s{at}"), success=at > 0, reasoning=REASON) for at in range(4)]
    quality = measure(interaction("x", TALK), steps=steps)
    assert quality.value("success") == 0.75
    assert quality.value("clarity") == 1.0


@pytest.mark.parametrize(
    ("cost", "time", "expected", "value"),
    [
        (0.2, 1000, Expected(cost_usd=0.1, duration_ms=2000), (0.5 + 1) / 2),
        (0.2, None, Expected(cost_usd=0.1, duration_ms=2000), 0.5),
        (0.0, None, Expected(cost_usd=0.1), 1.0),
        (0.2, 1000, Expected(), None),
    ],
)
def test_efficiency(cost: float | None, time: float | None, expected: Expected, value: float | None) -> None:
    assert efficiency(cost, time, expected).value == value


def test_accuracy_and_satisfaction() -> None:
    said = Said(thumbs=(True, False), ratings=(5, 4), checks=(1.0, 0.4), scores=(0.1,))
    quality = measure(interaction("x", TALK), said=said)
    assert quality.value("accuracy") == pytest.approx(0.5)
    assert quality.value("satisfaction") == pytest.approx((1 + 0 + 1 + 0.75) / 4)
    talk = [*TALK, says("user", "That's wrong."), says("assistant", "Three.")]
    assert measure(interaction("x", talk)).value("satisfaction") == 0.5
    assert measure(interaction("x", TALK)).value("satisfaction") is None


def test_calls_that_fail_or_repeat_are_no_good_ones() -> None:
    talk = [
        *(TALK[0], calls("search", '{"a": 1}', "c1"), result("c1", "Error: no such city")),
        *(calls("search", '{"a": 2}', "c2"), result("c2", '{"error": null, "flights": []}')),
        *(calls("search", '{"a": 2}', "c3"), result("c3", "[]"), calls("book", "{}", "c4"), result("c4", "booked")),
        TALK[1],
    ]
    quality = measure(interaction("x", talk, success=True))
    assert quality.value("appropriateness") == 0.5
    assert quality.measures["appropriateness"].reason == "4 calls, 1 failed, 1 repeated"
    assert quality.value("learning") == pytest.approx(1 - (1 - 0.6) * (1 - 0.3) * (1 - 0.2))


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("Error: x", True),
        (' {"error": "x"}', True),
        ("Traceback (most recent call last):", True),
        ('{"error": ""}', False),
        ('{"error": null}', False),
        ('{"errors": 0}', False),
        ("No error occurred", False),
        ("", False),
    ],
)
def test_failed_results(text: str, failed: bool) -> None:
    assert is_failure(text) is failed


@pytest.mark.parametrize(
    ("reasoning", "value"),
    [
        (REASON, 1.0),
        ("", 0.0),
        ("Maybe this one", 0.0),
        ("Perhaps we take it because the current price is needed", 2 / 3),
        ("go", 1 / 3),
        ("word " * 500, 1 / 3),
    ],
)
def test_clarity(reasoning: str, value: float) -> None:
    assert clarity(reasoning).value == pytest.approx(value)


def test_clarity_of_a_decision_wants_a_reference() -> None:
    assert clarity(REASON, decision()).value == 1.0
    assert clarity("We need that because others said it should be so", decision()).value == pytest.approx(0.75)


def test_reasoning_is_read_wherever_it_stands() -> None:
    assert measure(interaction("x", TALK)).value("clarity") is None
    assert measure(interaction("x", TALK, reasoning="go")).value("clarity") == pytest.approx(1 / 3)
    with_field = [TALK[0], says("assistant", "Two.", reasoning_content=REASON)]
    assert measure(interaction("x", with_field)).value("clarity") == 1.0
    thought = [TALK[0], calls("think", '{"thought": "go"}', "c1"), result("c1", ""), TALK[1]]
    assert measure(interaction("x", thought)).value("clarity") == pytest.approx(1 / 3)


def test_a_decision_is_appropriate_unless_another_option_is_better_in_every_respect() -> None:
    assert measure_decision(decision())["appropriateness"].value == 1.0
    better = Option(name="better", pros=["a", "b", "c"], estimated_cost_usd=0.1, estimated_time_ms=1)
    judged = measure_decision(decision(options=[WEB, CACHE, better]))["appropriateness"]
    assert (judged.value, judged.reason) == (0.5, "better in every respect: better")
    assert measure_decision(decision(choice="none"))["appropriateness"].value == 0.0
    assert measure_decision(decision(options=[]))["appropriateness"].value is None


def test_alignment() -> None:
    outcome = Outcome(actual_cost_usd=0.18, actual_time_ms=52_000, success=True, quality=0.92)
    value = alignment(decision(outcome=outcome, confidence=0.85)).value
    expected = ((1 - 0.03 / 0.18) + (1 - 7 / 52) + (1 - 0.15**2)) / 3
    assert value == pytest.approx(expected)
    assert alignment(decision()).value is None
    assert alignment(decision(outcome=Outcome())).value is None
    row = quality_of_decision(decision(outcome=outcome, confidence=0.85))
    assert (row.value("success"), row.value("accuracy")) == (1.0, 0.92)
    assert row.value("learning") == pytest.approx(1 - 0.6 * 0.7 * 0.7)


VALUES = st.none() | st.floats(0, 1)


@given(st.fixed_dictionaries(dict.fromkeys(WEIGHTS, VALUES)), st.booleans())
def test_the_score_is_a_mean(values: dict[MeasureName, float | None], defective: bool) -> None:
    score = score_of(values, defective=defective)
    known = {name: value for name, value in values.items() if value is not None}
    if set(known) <= {"text"}:
        assert score is None
        return
    assert score is not None
    highest = min(max(known.values()), 0.5 if defective else 1.0)
    assert min(min(known.values()), 0.5 if defective else 1.0) - 1e-9 <= score <= highest + 1e-9
    for name, value in known.items():  # no measure gets better by making the score worse
        raised = score_of({**values, name: min(1.0, value + 0.1)}, defective=defective)
        assert raised is not None
        assert raised >= score - 1e-9


def test_a_defect_caps_the_score_and_is_named() -> None:
    quality = measure(interaction("x", TALK, success=True, finish_reason="length"))
    assert quality.score == 0.5
    assert quality.defects == ("truncated",)
    assert quality.value("text") == 0.5
    assert "truncated" in quality.reasons
    assert measure(interaction("x", TALK)).score is None


def test_the_table_has_a_column_and_a_reason_for_every_measure() -> None:
    (row,) = table([measure(interaction("x", TALK, success=True))])
    for name in [*WEIGHTS, "learning"]:
        assert {name, f"{name}_reason"} <= row.keys()
    assert math.isclose(row["score"], 1.0)
    assert row["success_reason"] == "marked successful"
