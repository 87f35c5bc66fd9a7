"""Thumbs, ratings and rewards become labelled completions of a turn or of a whole trajectory."""

from __future__ import annotations

from typing import Any

from tests.dataset.support import calls, feedback, interaction, list_store, result, reward, says
from tracemill.core.examples import LabelledExample
from tracemill.core.records import AnyRecord, Interaction
from tracemill.core.steps import Drop
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.signals.labelled import labelled
from tracemill.feedback.attach import Scale, attach

WHOLE = [
    says("system", "s"),
    says("user", "q"),
    calls("search", "{}", "c1"),
    result("c1", "found"),
    says("assistant", "a"),
    says("user", "thanks"),
]


def run(subject: Interaction, *said: AnyRecord, **recipe: Any) -> list[LabelledExample] | Drop:
    return labelled(subject, attach(list_store([subject, *said])).of(subject.id), Recipe(**recipe))


def made(subject: Interaction, *said: AnyRecord, **recipe: Any) -> list[LabelledExample]:
    examples = run(subject, *said, **recipe)
    assert not isinstance(examples, Drop)
    return examples


def test_a_turn_with_a_response_is_labelled_as_one_completion() -> None:
    subject = interaction("t", [says("user", "q")], response=says("assistant", "a"))
    (example,) = made(subject, feedback("f", "t", kind="thumbs_down"), labelled_unit="turn")
    assert (example.prompt, example.completion) == (subject.messages, [subject.response])
    assert (example.label, example.label_source, example.score) == (False, "thumbs_down", None)


def test_a_whole_trajectory_is_prompt_and_completion_around_its_first_answer() -> None:
    (example,) = made(interaction("t", WHOLE), reward("t", 1.0))
    assert (example.prompt, example.completion, example.tail) == (WHOLE[:2], WHOLE[2:5], WHOLE[5:])
    assert (example.label, example.label_source, example.score, example.confidence) == (True, "reward", 1.0, 0.9)


def test_by_turn_every_answer_has_its_history_as_prompt() -> None:
    examples = made(interaction("t", WHOLE), reward("t", 0.0), labelled_unit="turn")
    assert [(example.prompt, example.completion) for example in examples] == [
        (WHOLE[:2], [WHOLE[2]]),
        (WHOLE[:4], [WHOLE[4]]),
    ]
    assert [example.tail for example in examples] == [[], WHOLE[5:]]
    assert not any(example.label for example in examples)


def test_labels_for_and_against_give_an_example_each() -> None:
    subject = interaction("t", [says("user", "q")], response=says("assistant", "a"))
    up, five, down = (
        feedback("f1", "t", kind="thumbs_up"),
        feedback("f2", "t", kind="rating", rating=5),
        feedback("f3", "t", kind="thumbs_down"),
    )
    wanted, unwanted = made(subject, up, five, down)
    assert (wanted.label, wanted.label_source, wanted.score) == (True, "rating+thumbs_up", 5.0)
    assert wanted.sources == sorted([subject.id, up.id, five.id])
    assert (unwanted.label, unwanted.sources) == (False, sorted([subject.id, down.id]))
    assert wanted.id != unwanted.id


def test_a_scale_of_the_recipe_makes_a_score_a_label() -> None:
    mark = feedback("f", "t", kind="score", name="helpful", score=8.0, annotator_kind="LLM")
    subject = interaction("t", [says("user", "q")], response=says("assistant", "a"))
    assert run(subject, mark) == Drop("no_label")
    (example,) = made(subject, mark, scales={"helpful": Scale(positive=7, negative=3)})
    assert (example.label, example.label_source, example.score, example.confidence) == (True, "helpful", 8.0, 0.7)


def test_why_nothing_is_made() -> None:
    thumb = feedback("f", "t", kind="thumbs_up")
    assert run(interaction("t", WHOLE)) == Drop("no_label")
    assert run(interaction("t", [says("user", "q")]), thumb) == Drop("no_assistant_message")
    assert run(interaction("t", [], response=says("assistant", "hi")), thumb) == Drop("no_prompt")
    assert run(interaction("t", [says("assistant", "hi")]), thumb) == Drop("no_prompt")
