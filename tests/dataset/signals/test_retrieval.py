"""A passage counts as used when the answer repeats its words, and as not used when it repeats none of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import calls, feedback, interaction, list_store, result, says
from tracemill.core.examples import RetrievalExample
from tracemill.core.records import AnyRecord, Interaction
from tracemill.core.steps import Drop
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.signals.retrieval import FEWEST, SHARE, judge_passages, retrieval
from tracemill.feedback.attach import attach

QUERY = "When does the museum open on Sundays?"
HOURS = "The museum opens at eleven in the morning on Sundays and closes at five in the afternoon."
PARKING = "Parking costs four euros an hour in the garage behind the station."
CAFE = "Soup and bread are served all day in the small café beside the river."
ANSWER = "On Sundays it opens at eleven in the morning and closes at five in the afternoon."


def run(subject: Interaction, *said: AnyRecord) -> list[RetrievalExample] | Drop:
    store = list_store([subject, *said])
    return retrieval(subject, attach(store).of(subject.id), Recipe(), store.get)


def asked(answer: str = ANSWER, chunks: Any = (PARKING, HOURS, CAFE)) -> Interaction:
    return interaction("t", [says("user", QUERY)], response=says("assistant", answer), retrieved_chunks=list(chunks))


def rows(found: list[RetrievalExample] | Drop) -> list[tuple[str, str, str | None]]:
    assert not isinstance(found, Drop)
    return [(example.query, example.positive, example.negative) for example in found]


@pytest.mark.parametrize(
    "shape", [lambda text: text, lambda text: {"text": text, "score": 1}, lambda text: {"page_content": text}]
)
def test_chunks_of_any_shape(shape: Any) -> None:
    found = run(asked(chunks=[shape(PARKING), shape(HOURS), shape(CAFE)]))
    assert rows(found) == [(QUERY, HOURS, PARKING), (QUERY, HOURS, CAFE)]
    assert not isinstance(found, Drop)
    assert {(example.signal, example.confidence, example.human_validated) for example in found} == {
        ("retrieved_chunks", 0.6, False)
    }


def test_results_of_a_search_tool_are_passages() -> None:
    messages = [
        says("user", "I plan a visit."),
        calls("search", json.dumps({"query": QUERY}), "c1"),
        result("c1", json.dumps({"results": [{"snippet": PARKING}, {"snippet": HOURS}]})),
        says("assistant", ANSWER),
    ]
    found = run(interaction("t", messages))
    assert rows(found) == [(QUERY, HOURS, PARKING)]


def test_a_correction_decides_what_should_have_been_used() -> None:
    subject = asked("Parking costs four euros an hour in the garage, so come on Sundays.")
    assert rows(run(subject)) == [(QUERY, PARKING, HOURS), (QUERY, PARKING, CAFE)]
    down = feedback("f", "t", kind="thumbs_down")
    assert run(subject, down) == Drop("negative_feedback")
    better = feedback("g", "t", kind="edit", correction=ANSWER)
    found = run(subject, down, better)
    assert rows(found) == [(QUERY, HOURS, PARKING), (QUERY, HOURS, CAFE)]
    assert not isinstance(found, Drop)
    assert found[0].human_validated
    assert found[0].sources == sorted([subject.id, better.id])


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        (asked(chunks=[]), "nothing_retrieved"),
        (asked(chunks=["too short", 7, {"id": 3}]), "nothing_retrieved"),
        (asked(answer="I do not know."), "nothing_used"),
        (asked(answer=""), "no_answer_given"),
    ],
)
def test_what_tells_nothing(subject: Interaction, reason: str) -> None:
    assert run(subject) == Drop(reason)


def test_where_everything_was_used_there_is_no_negative() -> None:
    assert rows(run(asked(answer=HOURS + " " + PARKING, chunks=[HOURS, PARKING]))) == [
        (QUERY, HOURS, None),
        (QUERY, PARKING, None),
    ]


_words = st.lists(st.sampled_from(["red", "blue", "green", "pink"]), max_size=9).map(" ".join)


@given(_words, st.lists(_words, max_size=4, unique=True), _words)
def test_by_brute_force(query: str, passages: list[str], answer: str) -> None:
    def threes(value: str) -> set[str]:
        found = value.split()
        return {" ".join(found[at : at + 3]) for at in range(max(0, len(found) - 2))}

    everywhere = [run for run in threes(" ".join(passages)) if all(run in threes(one) for one in passages)]
    ignored = threes(query) | (set(everywhere) if len(passages) > 1 else set())
    used, unused = judge_passages(query, passages, answer)
    for passage in passages:
        rest, said = threes(passage) - ignored, threes(answer) - ignored
        shared = len([one for one in rest if one in said])
        assert (passage in unused) == (shared == 0)
        assert (passage in used) == (shared >= FEWEST and shared / min(len(rest), len(said)) >= SHARE)
