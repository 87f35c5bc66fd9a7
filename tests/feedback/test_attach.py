"""Feedback finds its interaction by id, or by conversation and texts; what it cannot find is listed, not guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import feedback, interaction, list_store, open_store, record_id, says, validation
from tracemill.core.records import AnyRecord, Interaction
from tracemill.feedback.attach import Attachments, Scale, attach, question_and_answer

SCALES = {"reward": Scale(positive=1.0, negative=0.0)}


def turn(name: str, question: str, answer: str, *, minutes: float = 0, **fields: Any) -> Interaction:
    fields = {"conversation_id": "c1", **fields}
    return interaction(name, [says("user", question)], response=says("assistant", answer), minutes=minutes, **fields)


def joined(*records: AnyRecord) -> Attachments:
    return attach(list_store(records))


def test_feedback_is_joined_by_id_whatever_came_first(tmp_path: Path) -> None:
    thumb = feedback("f1", "t1", kind="thumbs_up")
    store = open_store(tmp_path, [thumb, turn("t1", "hi", "hello")])
    assert [mark.id for mark in attach(store).of(record_id("t1")).feedback] == [thumb.id]


def test_feedback_is_joined_by_conversation_and_text_whitespace_aside() -> None:
    found = joined(
        turn("t1", "How  do I\n pay?", "By card."),
        turn("t2", "And by cash?", "No."),
        feedback(
            "f1", kind="thumbs_up", conversation_id="c1", user_question=" How do I pay?", llm_response="By card. "
        ),
        feedback("f2", kind="thumbs_down", conversation_id="c1", llm_response="No."),
    )
    assert [mark.id for mark in found.of(record_id("t1")).feedback] == [record_id("f1")]
    assert [mark.id for mark in found.of(record_id("t2")).feedback] == [record_id("f2")]
    assert found.unmatched == []


def test_of_several_turns_the_latest_before_the_feedback_is_meant() -> None:
    turns = [turn(f"t{minutes}", "again", "no", minutes=minutes) for minutes in (1, 5, 9)]
    found = joined(*turns, feedback("f", kind="thumbs_down", conversation_id="c1", user_question="again", minutes=6))
    assert found.of(record_id("t5"))
    assert not found.of(record_id("t1"))
    assert not found.of(record_id("t9"))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "no_link"),
        ({"user_question": "again"}, "no_link"),
        ({"conversation_id": "c2", "user_question": "again"}, "no_such_turn"),
        ({"conversation_id": "c1", "user_question": "Again"}, "no_such_turn"),
        ({"conversation_id": "c1", "user_question": "again", "llm_response": "yes"}, "no_such_turn"),
        ({"conversation_id": "c1", "user_question": "again", "platform": "other"}, "no_such_turn"),
        ({"conversation_id": "c1", "user_question": "again"}, "no_turn_before"),
    ],
)
def test_what_matches_nothing_is_listed_with_a_reason(fields: dict[str, Any], reason: str) -> None:
    turns = [turn(f"t{minutes}", "again", "no", minutes=minutes) for minutes in (5, 9)]
    found = joined(*turns, feedback("f", kind="thumbs_down", minutes=1, **fields))
    assert [(entry.id, entry.reason) for entry in found.unmatched] == [(record_id("f"), reason)]
    assert list(found.targets()) == []


def test_a_validation_is_joined_by_its_original_artifact() -> None:
    made = interaction("t1", [says("user", "build")], conversation_id="c1", artifact={"a": 1, "b": 2})
    found = joined(
        made,
        validation("v1", conversation_id="c1", original={"b": 2, "a": 1}, edited={"a": 2}),
        validation("v2", conversation_id="c1", original={"a": 1.0, "b": 2}),
        validation("v3", conversation_id="c1"),
    )
    assert [check.id for check in found.of(made.id).validations] == [record_id("v1")]
    assert {entry.id: entry.reason for entry in found.unmatched} == {
        record_id("v2"): "no_such_turn",
    }


def test_contradicting_feedback_is_all_kept_in_order_of_time() -> None:
    found = joined(
        turn("t1", "q", "a"),
        feedback("f1", "t1", kind="thumbs_down", minutes=2),
        feedback("f2", "t1", kind="thumbs_up", minutes=1),
        feedback("f3", "t1", kind="rating", rating=3),
    ).of(record_id("t1"))
    assert [label.source for label in found.labels(SCALES)] == ["thumbs_up", "thumbs_down"]


@pytest.mark.parametrize(
    ("fields", "positive"),
    [
        ({"kind": "thumbs_up"}, True),
        ({"kind": "thumbs_down"}, False),
        ({"kind": "rating", "rating": 5}, True),
        ({"kind": "rating", "rating": 4}, True),
        ({"kind": "rating", "rating": 3}, None),
        ({"kind": "rating", "rating": 2}, False),
        ({"kind": "score", "name": "reward", "score": 1.0}, True),
        ({"kind": "score", "name": "reward", "score": 0.5}, None),
        ({"kind": "score", "name": "reward", "score": 0.0}, False),
        ({"kind": "score", "name": "reward", "score": float("nan")}, None),
        ({"kind": "score", "name": "toxicity", "score": 1.0}, None),
        ({"kind": "comment", "comment": "bad!"}, None),
        ({"kind": "report"}, None),
        ({"kind": "thumbs_up", "step_id": record_id("step")}, None),
    ],
)
def test_labels(fields: dict[str, Any], positive: bool | None) -> None:
    attached = joined(turn("t1", "q", "a"), feedback("f1", "t1", **fields)).of(record_id("t1"))
    assert [label.positive for label in attached.labels(SCALES)] == ([] if positive is None else [positive])


def test_scores_of_one_name_are_averaged_and_ratings_are_a_score() -> None:
    attached = joined(
        turn("t1", "q", "a"),
        feedback("f1", "t1", kind="score", name="reward", score=1.0),
        feedback("f2", "t1", kind="score", name="reward", score=0.0),
        feedback("f3", "t1", kind="rating", rating=4),
        feedback("f4", "t1", kind="score", name="reward", score=7.0, step_id=record_id("step")),
        feedback("f5", "t1", kind="score", name="reward", score=float("inf")),
    ).of(record_id("t1"))
    assert (attached.score("reward"), attached.score("rating"), attached.score("other")) == (0.5, 4.0, None)


def test_corrections_reports_and_failed_validations() -> None:
    attached = joined(
        turn("t1", "q", "a"),
        feedback("f1", "t1", kind="edit", correction="b"),
        feedback("f2", "t1", kind="report"),
        validation("v1", "t1", passed=False, original={"a": 1}, edited={"a": 2}, user_edited=True),
        validation("v2", "t1", passed=True, original={"a": 1}, edited={"a": 2}, user_edited=False),
    ).of(record_id("t1"))
    assert attached.corrections() == [record_id("f1"), record_id("v1")]
    assert attached.reported()
    assert attached.failed_validation()
    assert set(attached.ids()) == {record_id(name) for name in ("f1", "f2", "v1", "v2")}


def test_only_records_up_to_the_watermark_are_read(tmp_path: Path) -> None:
    store = open_store(tmp_path, [turn("t1", "q", "a"), feedback("f1", "t1", kind="thumbs_up")])
    watermark = store.watermark()
    store.append([feedback("f2", "t1", kind="thumbs_down")])
    assert [mark.id for mark in attach(store, up_to=watermark).of(record_id("t1")).feedback] == [record_id("f1")]


def test_a_trajectory_is_asked_and_answered_by_its_last_exchange() -> None:
    whole = interaction("t", [says("user", "a"), says("assistant", "b"), says("user", "c"), says("assistant", "d")])
    assert question_and_answer(whole) == ("c", "d")
    assert question_and_answer(interaction("u", [])) == ("", "")
