"""Execution traces, steps and decisions in LLMunix's vocabulary."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies
from tracemill.core.records import Action, Decision, Failure, Interaction, Step
from tracemill.sdk.execution import decision_fields, failure_of, read_action, step_fields, trace_fields
from tracemill.sdk.fit import fit

ACTION = {
    "action_type": "tool_call",
    "tool": "FileWriterTool",
    "parameters": {"file_path": "plan.md"},
    "result": {"success": True, "file_created": "plan.md"},
    "claude_code_mapping": {"tool": "Write", "file_path": "/full/plan.md", "execution_time": "1.2s"},
    "attempt": 2,
}
STEP = {
    "step_id": "step_001",
    "step_name": "initialize_research",
    "agent": "SystemAgent",
    "start_time": "2024-01-15T10:00:00Z",
    "duration": "00:00:30",
    "inputs": {"goal": "Analyze"},
    "reasoning": "Need to establish parameters",
    "actions": [ACTION],
    "outputs": {"research_plan_created": True},
    "state_changes": {"progress_percentage": 10},
}
TRACE = {
    "trace_id": "trace_2024_001_a7b3c",
    "scenario": "MarketResearchAnalysis",
    "execution_mode": "EXECUTION",
    "start_time": "2024-01-15T10:00:00Z",
    "end_time": "2024-01-15T12:30:00Z",
    "total_duration": "02:30:00",
    "completion_status": "successful",
    "steps": [STEP],
}


def test_a_step() -> None:
    fields = fit(Step, step_fields(STEP))
    assert (fields["name"], fields["agent"], fields["duration_ms"]) == ("initialize_research", "SystemAgent", 30_000)
    assert fields["time"].isoformat() == "2024-01-15T10:00:00+00:00"
    assert fields["state_changes"] == {"progress_percentage": 10}
    (action,) = fields["actions"]
    assert (action.type, action.tool, action.success, action.duration_ms) == (
        "tool_call",
        "FileWriterTool",
        True,
        1_200,
    )
    assert action.mapping == ACTION["claude_code_mapping"]
    assert fields["extra"] == {
        "step_id": "step_001",
        "start_time": "2024-01-15T10:00:00Z",
        "duration": "00:00:30",
        "actions": {"0": {"attempt": 2}},
    }


@pytest.mark.parametrize("wrapped", [TRACE, {"execution_trace": TRACE}])
def test_a_whole_trace(wrapped: dict[str, Any]) -> None:
    given_fields, steps = trace_fields(wrapped)
    fields = fit(Interaction, given_fields)
    assert (fields["kind"], fields["scenario"], fields["execution_mode"]) == (
        "agent",
        "MarketResearchAnalysis",
        "execution",
    )
    assert (fields["duration_ms"], fields["success"], fields["completion_status"]) == (9_000_000, True, "successful")
    assert [step["index"] for step in steps] == [0]


def test_a_duration_that_is_not_stated_is_the_time_between() -> None:
    fields = step_fields({"start_time": "2024-01-15T10:00:00Z", "end_time": "2024-01-15T10:00:01.500Z"})
    assert fields["duration_ms"] == 1_500


def test_a_decision() -> None:
    trace = {
        "decision_id": "dec_001",
        "context": "pricing",
        "available_options": [
            {"option": "web", "pros": ["fresh"], "cons": "slow", "estimated_cost": "$0.15", "estimated_time": "45s"},
            {"name": "cache", "estimated_cost_usd": 0.05, "estimated_time_ms": 5000, "risk": "old"},
        ],
        "decision": "web",
        "confidence": 0.85,
        "outcome": {"actual_cost": "$0.18", "actual_time": "52s", "success": True, "quality": 0.92, "pages": 3},
    }
    for wrapped in (trace, {"decision_trace": trace}):
        fields = fit(Decision, decision_fields(wrapped))
        web, cache = fields["options"]
        assert (web.name, web.pros, web.cons) == ("web", ["fresh"], ["slow"])
        assert (web.estimated_cost_usd, web.estimated_time_ms) == (0.15, 45_000)
        assert web.extra == {"estimated_cost": "$0.15", "estimated_time": "45s"}
        assert (cache.estimated_cost_usd, cache.estimated_time_ms, cache.extra) == (0.05, 5000, {"risk": "old"})
        outcome = fields["outcome"]
        assert (outcome.actual_cost_usd, outcome.actual_time_ms, outcome.quality) == (0.18, 52_000, 0.92)
        assert outcome.extra == {"actual_cost": "$0.18", "actual_time": "52s", "pages": 3}
        assert (fields["choice"], fields["extra"]) == ("web", {"decision_id": "dec_001"})


def test_options_by_name_and_a_choice_that_is_one() -> None:
    fields = decision_fields({"options": {"a": {"pros": ["x"]}, "b": None}, "choice": {"option": "a"}})
    assert [option.name for option in fields["options"]] == ["a", "b"]
    assert fields["choice"] == "a"


def test_errors_of_every_form() -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(KeyError) as caught:
        raise KeyError("x") from OSError("disk")
    assert failure_of(caught.value) == Failure(
        type="KeyError", message="'x'", detail={"cause": "OSError", "cause_message": "disk"}
    )
    assert failure_of("late") == Failure(message="late")
    assert failure_of({"code": "rate_limit", "message": "slow down", "retry": 3}) == Failure(
        type="rate_limit", message="slow down", detail={"retry": 3}
    )
    found = failure_of(OddError())
    assert found is not None
    assert found.type == "OddError"
    assert failure_of(None) is None


def test_actions_as_they_come() -> None:
    made = Action(tool="x")
    assert read_action(made) == (made, {})
    assert read_action("did something")[0] == Action(type="note", result="did something")
    action, rest = read_action({"tool": "x", "duration": "2s", "error": "no", "success": False, "type": 5})
    assert (action.duration_ms, action.success, action.error) == (2_000, False, Failure(message="no"))
    assert rest["type"] == 5


@given(st.dictionaries(st.sampled_from([*STEP, *TRACE, "decision", "options", "outcome"]), strategies.json_values))
def test_any_values_are_taken_without_an_error(given_fields: dict[str, Any]) -> None:
    fit(Step, step_fields(given_fields))
    fit(Decision, decision_fields(given_fields))
    fields, steps = trace_fields(given_fields)
    fit(Interaction, fields)
    assert isinstance(steps, list)
