"""An answer after which nearly the same was asked again was probably not what was wanted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import calls, interaction, result, says
from tracemill.core.steps import Drop
from tracemill.dataset.signals.rephrases import FEWEST, SIMILAR, rephrases, similarity

ASK = says("user", "How do I reset my router password?")
AGAIN = says("user", "how do i reset the router password")
ANSWER = says("assistant", "Routers connect networks.")


def test_the_answer_before_the_second_question_is_not_wanted() -> None:
    subject = interaction("t", [says("system", "s"), ASK, ANSWER, AGAIN], response=says("assistant", "Press reset."))
    found = rephrases(subject)
    assert not isinstance(found, Drop)
    (example,) = found
    assert (example.prompt, example.completion, example.label) == ([says("system", "s"), ASK], [ANSWER], False)
    likeness = 6 / 8  # how do i reset router password, of these and my, the
    assert example.score == likeness
    assert example.confidence == pytest.approx(0.4 * likeness)
    assert (example.sources, example.label_source) == ([subject.id], "rephrase")


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([ASK, ANSWER], "no_second_question"),
        ([ASK, ANSWER, says("user", "What does a modem do then?")], "no_rephrase"),
        ([ASK, says("assistant", "Which router is it?"), AGAIN], "no_rephrase"),
        ([ASK, says("assistant", "I can. Please confirm the model."), AGAIN], "no_rephrase"),
        ([ASK, AGAIN], "no_rephrase"),
        ([says("user", "Yes, please"), ANSWER, says("user", "Yes, please")], "no_rephrase"),
        ([ASK, calls("f", "{}", "c"), result("c", "x"), AGAIN], "no_rephrase"),
    ],
)
def test_what_is_no_rephrase(messages: list[dict[str, Any]], reason: str) -> None:
    assert rephrases(interaction("t", messages)) == Drop(reason)


_text = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]), max_size=8).map(" ".join)


@given(_text, _text)
def test_similarity_is_jaccard_and_symmetric(one: str, other: str) -> None:
    mine, theirs = set(one.split()), set(other.split())
    expected = 0.0
    if len(mine) >= FEWEST and len(theirs) >= FEWEST:
        expected = sum(word in theirs for word in mine) / len([*mine, *(theirs - mine)])
    assert similarity(one, other) == similarity(other, one) == expected


@given(st.lists(_text, min_size=1, max_size=6))
def test_by_brute_force(questions: list[str]) -> None:
    messages = [
        message
        for number, question in enumerate(questions)
        for message in (says("user", question), says("assistant", f"answer {number}"))
    ]
    found = rephrases(interaction("t", messages))
    expected = [
        f"answer {number}"
        for number in range(len(questions) - 1)
        if similarity(questions[number], questions[number + 1]) >= SIMILAR
    ]
    assert ([] if isinstance(found, Drop) else [example.completion[0]["content"] for example in found]) == expected
