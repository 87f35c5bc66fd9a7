"""The source systems' own words, through the collector into records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.test_collector import Harness
from tests.sdk.test_execution import TRACE
from tracemill.core.difference import structural_difference
from tracemill.core.records import Channel, Feedback, Interaction, Model, Step, Validation


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Harness]:
    made = Harness(tmp_path)
    yield made
    made.close()


def test_gepeto_objects_with_everything_in_them(collector: Harness) -> None:
    @dataclass
    class ChatContextData:
        session_id: str = "550e8400-e29b-41d4-a716-446655440000"
        events: list[Any] = field(
            default_factory=lambda: [{"author": {"id": 42, "name": "ada"}, "content": "hi", "timestamp": "now"}]
        )
        chat_id: int = 123456789
        chat_name: str = "general"
        chat_type: str = "text"
        model_name: str = "gpt-4"
        model_config: dict[str, Any] = field(default_factory=lambda: {"temperature": 0.7})
        user_count: str = "some"
        message_count: int = 15
        contains_images: bool = False
        contains_attachments: bool = True
        user_name: str = "Ada Lovelace"
        user_id: int = 42

    collector.collect_interaction_data(
        chat_context_data=ChatContextData(),
        prediction_result={"response": "hello", "execution_time_ms": 5, "success": True},
        execution_time_ms=1250.5,
        tokens_used=12,
        cost_estimate=0.5,
        model_name="gpt-4o",
    )
    found = collector.one()
    assert isinstance(found, Interaction)
    assert found.session_id == "550e8400-e29b-41d4-a716-446655440000"
    assert found.channel == Channel(id=123456789, name="general", type="text", message_count=15, contains_images=False)
    assert found.model == Model(name="gpt-4o", configuration={"temperature": 0.7}), "an argument goes first"
    assert (found.duration_ms, found.success, found.usage, found.cost_usd) == (1250.5, True, {"total_tokens": 12}, 0.5)
    assert found.user == collector.user("42")
    pseudonym = collector.user(42).pseudonym
    assert found.extra["events"] == [{"index": 0, "timestamp": "now", "author_id": pseudonym}]
    assert found.extra["user_count"] == "some", "it is no count, and not lost"
    assert found.extra["contains_attachments"] is True
    assert "Ada Lovelace" not in str(found)


def test_an_error_is_a_failure_unless_it_is_said_otherwise(collector: Harness) -> None:
    collector.collect_interaction_data(error_message="late")
    collector.collect_interaction_data(error=ValueError("x"), success=True)
    collector.collect_interaction_data(prediction_result="fine")
    late, kept, unknown = collector.records()
    assert (late.success, late.error.message) == (False, "late")
    assert (kept.success, kept.error.type) == (True, "ValueError")
    assert unknown.success is None


def test_a_conversation_by_position_and_with_the_older_names(collector: Harness) -> None:
    collector.log_conversation(
        "make it",
        "done",
        "create",
        {"nodes": []},
        "zapier",
        True,
        processing_time=12.5,
        messages=({"role": "system", "content": "be brief"},),
        model_name="m",
        model_provider="p",
    )
    found = collector.one()
    assert [message["content"] for message in found.messages] == ["be brief", "make it"]
    assert (found.intent, found.platform, found.success, found.duration_ms) == ("create", "zapier", True, 12.5)
    assert (found.kind, found.artifact, found.model) == ("workflow", {"nodes": []}, Model(name="m", provider="p"))


def test_an_interaction_with_events_beside_its_messages(collector: Harness) -> None:
    collector.log_interaction(
        messages=["hi"],
        events=[{"raw": 1}],
        response={"choices": [{"message": {"role": "assistant", "content": "yes"}}]},
    )
    found = collector.one()
    assert (found.messages[0]["content"], found.response["content"], found.extra["events"]) == (
        "hi",
        "yes",
        [{"raw": 1}],
    )


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("m", Model(name="m")),
        (
            {"name": "m", "provider": "p", "configuration": {"seed": 1}},
            Model(name="m", provider="p", configuration={"seed": 1}),
        ),
        (Model(name="m"), Model(name="m")),
    ],
)
def test_a_model_of_any_form(collector: Harness, model: Any, expected: Model) -> None:
    collector.log_interaction(model=model)
    assert collector.one().model == expected


def test_an_execution_trace_and_its_steps(collector: Harness) -> None:
    identity = collector.log_execution_trace({"execution_trace": TRACE}, platform="research")
    interaction, step = collector.records()
    assert isinstance(step, Step)
    assert (interaction.id, step.interaction_id, step.platform) == (identity, identity, "research")
    assert (interaction.scenario, interaction.execution_mode, interaction.duration_ms) == (
        "MarketResearchAnalysis",
        "execution",
        9_000_000,
    )
    assert step.trace_id == interaction.trace_id == "trace_2024_001_a7b3c"
    assert step.time == interaction.time


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"feedback_type": "report", "rating": 1}, "report"),
        ({"sentiment": 1}, "thumbs_up"),
        ({"sentiment": -1, "comment": "no"}, "thumbs_down"),
        ({"rating": 4}, "rating"),
        ({"sentiment_score": 2}, "rating"),
        ({"corrected_workflow": {}}, "edit"),
        ({"correction": "Paris"}, "edit"),
        ({"score": 0.5, "name": "judge"}, "score"),
        ({"user_feedback": "very helpful"}, "comment"),
        ({}, "comment"),
    ],
)
def test_what_kind_a_feedback_is(collector: Harness, said: dict[str, Any], kind: str) -> None:
    collector.log_user_feedback(conversation_id="c", user_question="q", llm_response="a", **said)
    found = collector.one()
    assert isinstance(found, Feedback)
    assert (found.kind, found.conversation_id, found.user_question, found.llm_response) == (kind, "c", "q", "a")
    if "user_feedback" in said:
        assert found.comment == "very helpful"


def test_an_impossible_rating_is_not_lost(collector: Harness) -> None:
    collector.log_user_feedback("rating", "no-id-of-ours", rating=11)
    found = collector.one()
    assert (found.rating, found.interaction_id) == (None, None)
    assert found.extra == {"rating": 11, "interaction_id": "no-id-of-ours"}


def test_a_validation_with_large_workflows(collector: Harness) -> None:
    original = {"nodes": [{"id": number, "text": "x" * 40} for number in range(2000)]}
    edited = {"nodes": original["nodes"][:-1], "name": "new"}
    collector.log_workflow_validation(
        None, False, "no trigger", {"code": "old"}, None, original, edited, 70, validation_time=3.5
    )
    found = collector.one()
    assert isinstance(found, Validation)
    assert (found.passed, found.score, found.user_edited, found.duration_ms) == (False, 70, True, 3.5)
    assert (found.errors, found.warnings) == (["no trigger"], [{"code": "old"}])
    assert found.difference == structural_difference(original, edited)
    assert (found.original, found.edited) == (original, edited)


@pytest.mark.parametrize(
    "said",
    [
        {"user_id": "ada@example.com"},
        {"user": "ada@example.com"},
        {"user": {"id": "ada@example.com", "name": "ada@example.com", "plan": "pro"}},
        {"messages": [{"user": "ada@example.com", "text": "hi"}]},
        {"messages": [{"role": "user", "content": "hi", "author": {"email": "ada@example.com"}}]},
        {"email": "ada@example.com", "user_name": "ada@example.com"},
    ],
)
def test_ids_of_people_are_stored_only_when_asked_for(tmp_path: Path, said: dict[str, Any]) -> None:
    for keep in (False, True):
        collector = Harness(tmp_path / str(keep), keep_raw_user_ids=keep)
        collector.log_interaction(**said)
        collector.log_step(**{name: value for name, value in said.items() if name != "messages"})
        interaction, _ = collector.records()
        collector.close()
        assert ("ada@example.com" in str(interaction)) is keep
        spooled = b"".join(path.read_bytes() for path in (tmp_path / str(keep)).rglob("*") if path.is_file())
        assert keep or b"ada@example.com" not in spooled
