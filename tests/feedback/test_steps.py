"""Annotations that name a span or a run find their interaction, whatever it became and whichever came first."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.dataset.support import list_store
from tracemill.capture.annotations import annotation, kind_of
from tracemill.core.foreign import run_record_id, span_record_id, trace_record_id
from tracemill.core.ids import EPOCH
from tracemill.core.records import SCHEMA_VERSION, AnyRecord, Interaction, Step
from tracemill.feedback.attach import attach

TRACE = "ab" * 16
BASE: dict[str, Any] = {"time": EPOCH, "schema_version": SCHEMA_VERSION, "producer": "t", "sequence": 0}
ROOT = Interaction(id=trace_record_id(TRACE), **BASE, trace_id=TRACE, extra={"span_id": "1" * 16})
CALL = Interaction(id=span_record_id("2" * 16), **BASE, parent_id=ROOT.id, extra={"span_id": "2" * 16})
TOOL = Step(id=span_record_id("3" * 16), **BASE, interaction_id=ROOT.id, extra={"span_id": "3" * 16})
RUN = Interaction(id=run_record_id("r"), **BASE)


def said(**about: Any) -> AnyRecord:
    return annotation("test", None, name="quality", score=1.0, time=EPOCH, **about)


@pytest.mark.parametrize(
    ("about", "target", "about_step"),
    [
        ({"trace_id": TRACE}, ROOT, False),
        ({"span_id": "1" * 16, "trace_id": TRACE}, ROOT, False),
        ({"span_id": "1" * 16}, ROOT, False),
        ({"span_id": "2" * 16}, CALL, False),
        ({"span_id": "2" * 16, "trace_id": TRACE}, CALL, False),
        ({"span_id": "3" * 16}, ROOT, True),
        ({"run_id": "r"}, RUN, False),
    ],
)
def test_it_is_joined_in_any_order(about: dict[str, Any], target: Interaction, about_step: bool) -> None:
    feedback = said(**about)
    for order in itertools.permutations([feedback, ROOT, CALL, TOOL, RUN]):
        attachments = attach(list_store(list(order)))
        assert attachments.unmatched == []
        (mark,) = attachments.of(target.id).feedback
        assert (mark.id, mark.about_step) == (feedback.id, about_step)


def test_of_two_with_the_same_span_it_is_one_and_the_same_in_any_order() -> None:
    feedback = said(span_id="7" * 16)
    twins = [Interaction(id=run_record_id(name), **BASE, extra={"span_id": "7" * 16}) for name in ("one", "other")]
    meant = {
        tuple(bool(attachments.of(twin.id).feedback) for twin in twins)
        for order in itertools.permutations([feedback, *twins])
        for attachments in [attach(list_store(list(order)))]
    }
    assert len(meant) == 1
    assert sum(next(iter(meant))) == 1


def test_what_names_nothing_that_is_there_is_unmatched() -> None:
    attachments = attach(list_store([said(span_id="9" * 16), said(span_id="9" * 16, trace_id=TRACE), said(run_id="x")]))
    assert {entry.reason for entry in attachments.unmatched} == {"no_such_step"}
    assert len(attachments.unmatched) == 3


def test_what_names_a_conversation_is_about_all_of_it() -> None:
    feedback = said(conversation_id="c")
    attachments = attach(list_store([feedback, ROOT]))
    assert [mark.id for mark in attachments.of_conversation("c").feedback] == [feedback.id]
    assert attachments.unmatched == []
    assert not attachments.of_conversation("d")


def test_contradicting_annotations_are_both_kept() -> None:
    up = annotation("t", "1", name="thumbs", score=1, time=EPOCH, trace_id=TRACE)
    down = annotation("t", "1", name="thumbs", score=0, time=EPOCH, trace_id=TRACE)
    again = annotation("t", "1", name="thumbs", score=1, time=EPOCH, trace_id=TRACE)
    assert up == again
    attachments = attach(list_store([up, down, ROOT]))
    assert {mark.kind for mark in attachments.of(ROOT.id).feedback} == {"thumbs_up", "thumbs_down"}


@pytest.mark.parametrize(
    ("name", "score", "label", "comment", "correction", "annotator", "kind"),
    [
        ("thumbs_up", None, None, None, None, "HUMAN", "thumbs_up"),
        ("Thumbs-Up", 1, None, None, None, "HUMAN", "thumbs_up"),
        ("thumbs_up", 0, None, None, None, "HUMAN", "score"),
        ("thumbs_down", 1, None, None, None, "HUMAN", "thumbs_down"),
        ("user_feedback", 1, None, None, None, "HUMAN", "thumbs_up"),
        ("user_feedback", True, None, None, None, "HUMAN", "thumbs_up"),
        ("user_feedback", 0, None, None, None, "HUMAN", "thumbs_down"),
        ("user_feedback", -1, None, None, None, "HUMAN", "thumbs_down"),
        ("user_feedback", 0.7, None, None, None, "HUMAN", "score"),
        ("user_feedback", None, "👍", None, None, "HUMAN", "thumbs_up"),
        ("user_feedback", 1, None, None, None, "LLM", "score"),
        ("accuracy", 1, None, None, None, "HUMAN", "score"),
        ("note", None, None, "hm", None, "HUMAN", "comment"),
        ("note", None, None, "hm", "better", "HUMAN", "edit"),
        (None, None, "good", None, None, "HUMAN", "score"),
    ],
)
def test_what_kind_of_feedback_an_annotation_is(
    name: str | None, score: Any, label: str | None, comment: str | None, correction: Any, annotator: Any, kind: str
) -> None:
    assert kind_of(name, score, label, comment, correction, annotator) == kind
