"""The collector's methods, through the real spool into records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.support import Memory, settings
from tracemill.core.records import (
    Consent,
    Decision,
    Feedback,
    Interaction,
    SessionEnd,
    Step,
    Validation,
)
from tracemill.sdk.client import Client
from tracemill.sdk.collector import Collector


class Harness(Collector):
    """A collector whose records can be looked at."""

    def __init__(self, path: Path, **arguments: Any) -> None:
        self.memory = Memory()
        super().__init__(Client(path, settings(path, **arguments), lambda: self.memory))

    def records(self) -> list[Any]:
        assert self.deliver(20)
        return list(self.memory.records.values())

    def one(self) -> Any:
        (record,) = self.records()
        return record


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Harness]:
    made = Harness(tmp_path)
    yield made
    made.close()


PREDICTION = {
    "trajectory": {
        "thought_0": "I should look it up.",
        "tool_name_0": "search",
        "tool_args_0": {"query": "parcel"},
        "observation_0": "in transit",
        "thought_1": "And ask the depot.",
        "tool_name_1": "call_depot",
        "tool_args_1": {},
        "observation_1": "Execution error in call_depot: line busy",
        "tool_name_2": "finish",
        "tool_args_2": {},
        "observation_2": "Completed.",
        "thought_2": "I know enough.",
    },
    "reasoning": "The parcel is on its way.",
    "answer": "It arrives tomorrow.",
}


def test_a_chat_context_and_a_react_prediction(collector: Harness) -> None:
    identity = collector.collect_interaction_data(
        chat_context_data={
            "events": ["hello", {"author": "bot", "text": "hi"}, {"role": "user", "content": "where is it?"}],
            "chat_id": 123456789,
            "chat_name": "general",
            "chat_type": "text",
            "user_count": 3,
            "message_count": 15,
            "contains_images": False,
            "user_id": "ada@example.com",
            "session_id": "s-1",
            "weather": "fine",
        },
        prediction_result=PREDICTION,
        execution_time_ms=1250.5,
        success=True,
        model_name="gpt-4",
        model_config={"temperature": 0.7},
    )
    interaction, *steps = collector.records()
    assert isinstance(interaction, Interaction)
    assert interaction.id == identity
    assert [message["role"] for message in interaction.messages] == ["user", "assistant", "user"]
    assert interaction.channel is not None
    assert (interaction.channel.id, interaction.channel.user_count) == (123456789, 3)
    assert interaction.model is not None
    assert (interaction.model.name, interaction.model.configuration) == ("gpt-4", {"temperature": 0.7})
    assert interaction.user is not None
    assert interaction.user.raw_id is None
    assert (interaction.session_id, interaction.duration_ms, interaction.success) == ("s-1", 1250.5, True)
    assert (interaction.tools_used, interaction.tool_call_count) == (["search", "call_depot"], 2)
    assert interaction.response == {"role": "assistant", "content": "It arrives tomorrow."}
    assert interaction.extra["weather"] == "fine"
    assert [step.reasoning for step in steps] == ["I should look it up.", "And ask the depot.", "I know enough."]
    assert [step.actions[0].success for step in steps] == [True, False, True]
    assert {step.interaction_id for step in steps} == {identity}


def test_a_real_dspy_agent(collector: Harness) -> None:
    dspy = pytest.importorskip("dspy")

    def search(query: str) -> str:
        """Find something."""
        return f"found {query}"

    answers = [
        {"next_thought": "look", "next_tool_name": "search", "next_tool_args": {"query": "x"}},
        {"next_thought": "done", "next_tool_name": "finish", "next_tool_args": {}},
        {"reasoning": "it was found", "answer": "yes"},
    ]
    with dspy.context(lm=dspy.utils.DummyLM(answers)):
        result = dspy.ReAct("question -> answer", tools=[search])(question="is it there?")
    collector.collect_interaction_data(chat_context_data={"events": ["is it there?"]}, prediction_result=result)
    interaction, *steps = collector.records()
    assert interaction.tools_used == ["search"]
    assert interaction.response["content"] == "yes"
    assert [(step.actions[0].type, step.actions[0].tool) for step in steps] == [
        ("tool_call", "search"),
        ("finish", None),
    ]


def test_a_conversation_and_what_was_said_of_it(collector: Harness) -> None:
    identity = collector.log_conversation(
        "make a workflow",
        "here it is",
        intent="create_workflow",
        workflow_json={"nodes": [1, 2]},
        platform="zapier",
        success=True,
        processing_time_ms=12.0,
        model_version="2026-01",
        user_id="ada",
        mood="calm",
    )
    collector.log_workflow_validation(
        identity, passed=False, score=70, errors="no trigger", original_workflow={"a": 1}, edited_workflow={"a": 2}
    )
    collector.log_user_feedback(
        "thumbs_down", identity, rating=2, categories=["incomplete"], corrected_workflow={"a": 2}
    )
    collector.log_user_feedback("shrug", identity, comment="eh")
    interaction, validation, thumb, shrug = collector.records()
    assert isinstance(interaction, Interaction)
    assert (interaction.kind, interaction.platform, interaction.artifact) == ("workflow", "zapier", {"nodes": [1, 2]})
    assert interaction.extra == {"mood": "calm"}
    assert isinstance(validation, Validation)
    assert (validation.user_edited, validation.errors) == (True, ["no trigger"])
    assert validation.difference is not None
    assert validation.difference.modified == {"/a": [1, 2]}
    assert isinstance(thumb, Feedback)
    assert (thumb.kind, thumb.rating, thumb.correction) == ("thumbs_down", 2, {"a": 2})
    assert (shrug.kind, shrug.extra) == ("comment", {"feedback_type": "shrug"})


def test_a_decision_with_amounts_as_text(collector: Harness) -> None:
    collector.log_decision(
        context="prices",
        options=[
            {
                "option": "scrape",
                "pros": ["fresh"],
                "cons": ["slow"],
                "estimated_cost": "$0.15",
                "estimated_time": "45s",
            },
            {"name": "cache", "estimated_cost_usd": 0.05, "estimated_time_ms": 5000},
            "nothing",
        ],
        decision="scrape",
        confidence=0.85,
        outcome={"actual_cost": "$0.18", "actual_time": "52s", "success": True, "quality": 0.92},
    )
    decision = collector.one()
    assert isinstance(decision, Decision)
    scrape, cache, nothing = decision.options
    assert (scrape.estimated_cost_usd, scrape.estimated_time_ms) == (0.15, 45_000.0)
    assert scrape.extra == {"estimated_cost": "$0.15", "estimated_time": "45s"}
    assert (cache.estimated_cost_usd, cache.estimated_time_ms, nothing.name) == (0.05, 5000.0, "nothing")
    assert decision.outcome is not None
    assert (decision.outcome.actual_cost_usd, decision.outcome.actual_time_ms) == (0.18, 52_000.0)


def test_session_ends_and_consent(collector: Harness) -> None:
    collector.log_session_end("s-1", user_id=7, message_count=12, reason="timeout", start_time="2026-01-02T03:04:05Z")
    collector.log_consent(7, "train", granted=False, basis="withdrawn")
    end, consent = collector.records()
    assert isinstance(end, SessionEnd)
    assert isinstance(consent, Consent)
    assert end.user == consent.user
    assert (consent.purpose, consent.granted) == ("train", False)


def test_raw_ids_are_kept_only_when_asked_for(tmp_path: Path) -> None:
    collector = Harness(tmp_path, keep_raw_user_ids=True)
    collector.log_conversation("x", "y", user_id="ada")
    assert collector.one().user.raw_id == "ada"
    collector.close()


def test_the_context_manager_times_and_collects(collector: Harness) -> None:
    with collector.interaction(platform="support", user_id="ada") as call:
        call.message({"role": "user", "content": "find it"})
        with call.tool("search", {"q": 1}) as tool:
            tool.result = "found"
        with call.step("think", reasoning="so it is there") as step:
            step.set(outputs={"ok": True})
        call.response("there")
        call.usage(input_tokens=3, output_tokens=2, cost_usd=0.1, cached_tokens=1)
        call.model("gpt", provider="openai", temperature=0)
    collector.log_user_feedback("thumbs_up", call.interaction_id)
    tool_step, think, interaction, thumb = collector.records()
    assert interaction.id == call.interaction_id == thumb.interaction_id == tool_step.interaction_id
    assert (interaction.success, interaction.completion_status, interaction.tools_used) == (
        True,
        "successful",
        ["search"],
    )
    assert interaction.duration_ms > 0
    assert (interaction.input_tokens, interaction.cost_usd, interaction.usage) == (3, 0.1, {"cached_tokens": 1})
    assert tool_step.actions[0].result == "found"
    assert (think.index, think.reasoning, think.outputs) == (1, "so it is there", {"ok": True})


def test_errors_are_kept_and_passed_on(collector: Harness) -> None:
    with pytest.raises(ValueError, match="broken"), collector.interaction() as call, call.tool("search"):
        raise ValueError("broken")
    step, interaction = collector.records()
    assert (interaction.success, interaction.completion_status) == (False, "failed")
    assert (interaction.error.type, interaction.error.message) == ("ValueError", "broken")
    assert step.actions[0].success is False


def test_nested_calls_know_their_parent(collector: Harness) -> None:
    with collector.interaction() as outer, collector.interaction() as inner:
        pass
    first, second = collector.records()
    assert (first.id, first.parent_id) == (inner.interaction_id, outer.interaction_id)
    assert second.parent_id is None


def test_what_the_host_hands_over_never_raises_outside_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Harness(tmp_path, raise_errors="never")

    class Hostile:
        def __iter__(self) -> Iterator[Any]:
            raise RuntimeError("do not touch me")

    assert collector.log_decision(options=Hostile())
    assert collector.log_user_feedback("thumbs_up", Hostile())  # type: ignore[arg-type]
    assert collector.collect_interaction_data(chat_context_data={"events": [Hostile()]})
    assert collector.deliver(20)
    assert collector.counts().unaccounted == 0
    collector.close()


def test_steps_may_be_logged_by_themselves(collector: Harness) -> None:
    collector.log_step(name="look", index="3", actions=[], outputs=7)
    step = collector.one()
    assert isinstance(step, Step)
    assert (step.name, step.index, step.outputs) == ("look", 3, 7)
