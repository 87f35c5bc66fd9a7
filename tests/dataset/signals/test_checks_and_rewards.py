"""Failed checks are completions that are not wanted; scores are rows of their own, whatever their scale."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dataset.support import feedback, interaction, list_store, says, validation
from tracemill.core.records import AnyRecord, Interaction
from tracemill.core.steps import Drop
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.signals.checks import checks
from tracemill.dataset.signals.confidence import BY_ANNOTATOR
from tracemill.dataset.signals.rewards import rewards
from tracemill.feedback.attach import Attached, attach

ASK, ANSWER = says("user", "Build it."), says("assistant", "{}")
SUBJECT = interaction("t", [ASK], response=ANSWER)


def attached(subject: Interaction, *said: AnyRecord) -> Attached:
    return attach(list_store([subject, *said])).of(subject.id)


def test_an_answer_that_failed_a_check_is_not_wanted() -> None:
    said = [
        validation("v1", "t", passed=False, score=40),
        validation("v2", "t", passed=False),
        validation("v3", "t", score=90),
    ]
    found = checks(SUBJECT, attached(SUBJECT, *said))
    assert not isinstance(found, Drop)
    (example,) = found
    assert (example.prompt, example.completion, example.label) == ([ASK], [ANSWER], False)
    assert (example.score, example.confidence, example.label_source) == (40, 0.9, "validation")
    assert example.sources == sorted([SUBJECT.id, said[0].id, said[1].id])


@pytest.mark.parametrize(
    ("subject", "passed", "reason"),
    [
        (SUBJECT, [], "no_failed_check"),
        (SUBJECT, [True, None], "no_failed_check"),
        (SUBJECT, [True, False], "checks_disagree"),
        (interaction("t", [ASK]), [False], "no_answer"),
        (interaction("t", [], response=ANSWER), [False], "no_prompt"),
    ],
)
def test_what_checks_do_not_tell(subject: Interaction, passed: list[bool | None], reason: str) -> None:
    said = [validation(f"v{number}", "t", passed=value) for number, value in enumerate(passed)]
    assert checks(subject, attached(subject, *said)) == Drop(reason)


def test_every_score_is_a_row_with_its_mean() -> None:
    said: list[AnyRecord] = [
        feedback("f1", "t", kind="score", name="helpful", score=0.25, annotator_kind="LLM"),
        feedback("f2", "t", kind="score", name="helpful", score=0.75, annotator_kind="CODE"),
        feedback("f3", "t", kind="rating", rating=2),
        feedback("f4", "t", kind="score", name="odd", score=float("nan")),
        feedback("f5", "t", kind="score", name="part", score=1.0, step_id="00000000-0000-7000-8000-000000000000"),
    ]
    found = rewards(SUBJECT, attached(SUBJECT, *said), Recipe())
    assert not isinstance(found, Drop)
    rows = {example.score_name: example for example in found}
    assert {name: example.score for name, example in rows.items()} == {"helpful": 0.5, "rating": 2.0}
    assert rows["helpful"].sources == sorted([SUBJECT.id, said[0].id, said[1].id])
    assert rows["helpful"].confidence == BY_ANNOTATOR["CODE"]
    assert (rows["helpful"].human_validated, rows["rating"].human_validated) == (False, True)
    assert all((example.prompt, example.completion) == ([ASK], [ANSWER]) for example in found)


@pytest.mark.parametrize(
    ("subject", "fields", "reason"),
    [
        (SUBJECT, {"kind": "thumbs_up"}, "no_score"),
        (interaction("t", [ASK]), {"kind": "rating", "rating": 3}, "no_assistant_message"),
        (interaction("t", [], response=ANSWER), {"kind": "rating", "rating": 3}, "no_prompt"),
    ],
)
def test_what_is_not_scored(subject: Interaction, fields: dict[str, Any], reason: str) -> None:
    assert rewards(subject, attached(subject, feedback("f", "t", **fields)), Recipe()) == Drop(reason)
