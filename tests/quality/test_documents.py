"""What of a conversation is compared: not the system prompt, not what tools gave, not what all conversations share."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import calls, result, says
from tracemill.quality.documents import Boilerplate, document

GREETING = "Welcome to the airline, how can I help?"


def test_what_is_said_and_called_is_the_document() -> None:
    talk = [
        *(says("system", "Be kind."), says("user", "To Seattle"), calls("search", '{"to": "SEA"}', "c1")),
        *(result("c1", "[1, 2]"), says("assistant", "Two.")),
    ]
    assert document(talk) == 'To Seattle\nsearch {"to": "SEA"}\nTwo.'
    assert document(talk, results=True) == 'To Seattle\nsearch {"to": "SEA"}\n[1, 2]\nTwo.'


@given(
    st.lists(st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), st.none() | st.text() | st.integers()))
)
def test_any_messages_have_a_document(messages: list[dict[str, Any]]) -> None:
    assert isinstance(document(messages), str)


def test_lines_that_many_share_are_left_out_and_copies_never_vanish() -> None:
    own = [
        f"{GREETING}\nMy booking number {at} of day {at} needs two more bags for {at} people.\nYes" for at in range(60)
    ]
    copies = ["The same question about the same flight again.\nYes"] * 40
    boilerplate = Boilerplate(share=0.2, least=20)
    for at, content in enumerate(own + copies):
        boilerplate.count(content.replace(GREETING, f"  {GREETING.upper()}") if at % 2 else content)
    for content in own:
        assert boilerplate.without(content) == content.removeprefix(f"{GREETING}\n")
    for content in copies:
        assert boilerplate.without(content) == content


@given(
    st.randoms(use_true_random=False), st.lists(st.sampled_from(["a b c d", "e f g h i", "j"]), min_size=1, max_size=30)
)
def test_boilerplate_knows_no_order(draw: random.Random, contents: list[str]) -> None:
    shuffled = contents[:]
    draw.shuffle(shuffled)
    counted = []
    for order in (contents, shuffled):
        boilerplate = Boilerplate(share=0.3, least=2)
        for content in order:
            boilerplate.count(content)
        counted.append([boilerplate.without(content) for content in contents])
    assert counted[0] == counted[1]


def test_rare_lines_are_no_boilerplate_however_small_the_corpus() -> None:
    boilerplate = Boilerplate(share=0.2, least=20)
    for at in range(19):
        boilerplate.count(f"{GREETING}\nNumber {at} wants something else altogether, and says so at length.")
    assert GREETING in boilerplate.without(
        f"{GREETING}\nNumber 1 wants something else altogether, and says so at length."
    )
