"""Decisions become examples of deciding; those a person overrode become preferences for what the person chose."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.dataset.support import decision, feedback, interaction, list_store, record_id, says
from tracemill.core.records import AnyRecord, Decision, Interaction, Option, Outcome
from tracemill.core.steps import Drop
from tracemill.dataset.signals.decisions import decisions, overrides
from tracemill.feedback.attach import Attached, attach
from tracemill.feedback.executions import find_executions

SUBJECT = interaction("t", [says("user", "Compare the prices."), says("assistant", "Done.")], kind="agent")
OPTIONS = [
    Option(name="web_scraping", pros=["up to date"], cons=["slow"], estimated_cost_usd=0.15),
    Option(name="cached_reports", pros=["fast"]),
]
FIELDS: dict[str, Any] = {
    "context": "Need competitor prices",
    "options": OPTIONS,
    "choice": "web_scraping",
    "reasoning": "Current prices are critical",
    "confidence": 0.85,
}


def joined(*records: AnyRecord) -> tuple[Attached, Any]:
    store = list_store([SUBJECT, *records])
    attachments = attach(store)
    attachments.executions = find_executions(store)
    (attached,) = attachments.of_batch(store, [SUBJECT.id])
    return attached, store.get


def decided(**fields: Any) -> Decision:
    return decision("d", "t", **{**FIELDS, **fields})


def test_a_decision_is_a_state_and_a_choice() -> None:
    record = decided(outcome=Outcome(success=True, quality=0.92, actual_cost_usd=0.18))
    found = decisions(SUBJECT, *joined(record))
    assert not isinstance(found, Drop)
    (example,) = found
    state = json.loads(example.prompt[0]["content"])
    assert state["context"] == "Need competitor prices"
    assert state["available_options"] == example.options
    assert example.options[0] == {
        "option": "web_scraping",
        "pros": ["up to date"],
        "cons": ["slow"],
        "estimated_cost_usd": 0.15,
    }
    assert json.loads(example.completion[0]["content"]) == {
        "decision": "web_scraping",
        "reasoning": "Current prices are critical",
    }
    assert (example.stated_confidence, example.confidence, example.execution_successful) == (0.85, 0.8, True)
    assert example.outcome == {"success": True, "quality": 0.92, "actual_cost_usd": 0.18}
    assert example.sources == sorted([SUBJECT.id, record.id])
    assert example.quality_score is not None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"choice": None}, "no_choice"),
        ({"choice": "guess"}, "choice_not_offered"),
        ({"outcome": Outcome(success=False)}, "decision_failed"),
        ({"extra": {"override": "cached_reports"}}, "overridden"),
    ],
)
def test_what_is_no_example_of_deciding(fields: dict[str, Any], reason: str) -> None:
    assert decisions(SUBJECT, *joined(decided(**fields))) == Drop(reason)
    assert decisions(SUBJECT, *joined()) == Drop("no_decision")


CORRECTION: dict[str, Any] = {"kind": "edit", "correction": "cached_reports"}


@pytest.mark.parametrize(
    ("record", "said", "reasoned"),
    [
        (decided(), feedback("f", "t", step_id=record_id("d"), **CORRECTION), False),
        (decided(), feedback("f", None, step_id=record_id("d"), **CORRECTION), False),
        (decided(step_id=record_id("s")), feedback("f", "t", step_id=record_id("s"), **CORRECTION), False),
        (
            decided(),
            feedback(
                "f",
                "t",
                step_id=record_id("d"),
                kind="edit",
                correction={"option": "cached_reports", "reasoning": "cheap"},
            ),
            True,
        ),
        (decided(extra={"override": {"choice": "cached_reports"}}), None, False),
    ],
)
def test_what_a_person_chose_instead_is_preferred(record: Decision, said: AnyRecord | None, reasoned: bool) -> None:
    found = overrides(SUBJECT, *joined(record, *([said] if said is not None else [])))
    assert not isinstance(found, Drop)
    (example,) = found
    chosen, rejected = (json.loads(side[0]["content"]) for side in (example.chosen, example.rejected))
    assert (chosen["decision"], rejected["decision"]) == ("cached_reports", "web_scraping")
    assert ("reasoning" in chosen) == ("reasoning" in rejected) == reasoned
    assert (example.signal, example.human_validated, example.confidence) == ("override", True, 1.0)
    assert example.sources == sorted([SUBJECT.id, record.id, *([said.id] if said is not None else [])])


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (feedback("f", "t", **CORRECTION), "no_override"),  # about the whole
        (feedback("f", "t", step_id=record_id("other"), **CORRECTION), "no_override"),
        (feedback("f", "t", step_id=record_id("d"), annotator_kind="LLM", **CORRECTION), "no_override"),
        (feedback("f", "t", step_id=record_id("d"), kind="edit", correction="web_scraping"), "unchanged"),
    ],
)
def test_what_overrides_nothing(said: AnyRecord, reason: str) -> None:
    assert overrides(SUBJECT, *joined(decided(), said)) == Drop(reason)
    assert overrides(SUBJECT, *joined(said)) == Drop("no_decision")


def test_a_step_with_two_decisions_does_not_say_which_is_meant() -> None:
    records = [decision(name, "t", step_id=record_id("s"), **FIELDS) for name in ("d", "e")]
    said = feedback("f", "t", step_id=record_id("s"), **CORRECTION)
    assert overrides(SUBJECT, *joined(*records, said)) == Drop("no_override")
    assert isinstance(SUBJECT, Interaction)
