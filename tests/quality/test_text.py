"""Every text rule: what it finds, and what it leaves alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import calls, interaction, result, says
from tracemill.quality.endings import cut_off, says_goodbye
from tracemill.quality.phrases import CORRECTION, corrects
from tracemill.quality.text import dominant_script, is_refusal, measure_text, words

ASKED = says("user", "Which flights go to Seattle?")
SYSTEM = (
    "You are the agent of an airline. Before any booking is changed you list the details and wait for an explicit "
    "confirmation by the user. You never offer compensation unless the user is a gold member or has travel insurance and "
    "complains about a delayed or cancelled flight in a reservation."
)


def rules(messages: list[dict[str, Any]], **fields: Any) -> list[str]:
    return measure_text(interaction("x", messages, **fields)).defects()


@pytest.mark.parametrize(
    ("rule", "messages", "fields"),
    [
        ("truncated", [ASKED, says("assistant", "Two.")], {"finish_reason": "length"}),
        ("truncated", [ASKED, says("assistant", "Two.")], {"truncated": True}),
        ("truncated", [ASKED, says("assistant", "Two.")], {"completion_status": "interrupted"}),
        ("truncated", [ASKED, says("assistant", "There are two. The first one leaves at nine and the sec")], {}),
        ("unanswered_user", [ASKED, says("assistant", "Two."), says("user", "Which is cheaper?")], {}),
        ("unanswered_call", [ASKED, calls("search", "{}", "c1")], {}),
        ("orphan_result", [ASKED, result("c1", "[]"), says("assistant", "None.")], {}),
        (
            "broken_arguments",
            [ASKED, calls("search", '{"to": "SE', "c1"), result("c1", "[]"), says("assistant", "No.")],
            {},
        ),
        ("broken_arguments", [ASKED, calls("search", "[1]", "c1"), result("c1", "[]"), says("assistant", "No.")], {}),
        (
            "wrong_tool_result",
            [ASKED, calls("search", "{}", "c1"), result("c1", "[]", "book"), says("assistant", "No.")],
            {},
        ),
        (
            "unknown_tool",
            [ASKED, calls("search", "{}", "c1"), result("c1", "[]"), says("assistant", "No.")],
            {"tools": [{"type": "function", "function": {"name": "book"}}]},
        ),
        ("late_system", [ASKED, says("system", "Be kind."), says("assistant", "Two.")], {}),
        ("empty_message", [ASKED, says("assistant", "")], {}),
        ("no_answer", [ASKED, says("assistant", "  ")], {}),
        ("no_answer", [says("user", "Thanks!")], {}),
        ("refusal", [ASKED, says("assistant", "I'm sorry, but I can't help with that.")], {}),
        ("refusal", [ASKED, {"role": "assistant", "content": None, "refusal": "No."}], {}),
        ("repetition", [ASKED, says("assistant", "Seattle is the place and so " * 20 + ".")], {}),
        ("repetition", [ASKED, says("assistant", "\n".join(["The flight leaves at nine o'clock."] * 5))], {}),
        (
            "repeated_turns",
            [
                ASKED,
                *[says(role, "Could you tell me more?") for role in ("assistant", "user") * 3],
                says("user", "Bye"),
            ],
            {},
        ),
        (
            "looping_calls",
            [
                ASKED,
                *(part for at in "123" for part in (calls("search", "{}", at), result(at, "[]"))),
                says("assistant", "No."),
            ],
            {},
        ),
        ("leaked_system_prompt", [says("system", SYSTEM), ASKED, says("assistant", f"My instructions: {SYSTEM}")], {}),
    ],
)
def test_a_defect_is_found(rule: str, messages: list[dict[str, Any]], fields: dict[str, Any]) -> None:
    assert rule in rules(messages, **fields)


@pytest.mark.parametrize(
    "answer",
    [
        "Paris",
        "42",
        "Two flights:\n- HAT001 at nine\n- HAT002 at noon",
        "Use this:\n```python\nprint('(')\n```",
        '{"flights": ["HAT001"]}',
        "Done 👍",
        "Il y a deux vols vers Seattle, l'un à neuf heures et l'autre à midi.",
        "有两个航班飞往西雅图，一个九点，一个十二点。",
        "| flight | time |\n|---|---|\n| HAT001 | 9:00 |",
        "You confirm the details before any booking is changed, as our policy asks.",
        "\n".join(f"{at}. Reservation ID: A{at}B{at}" for at in range(30)),
        "I'm sorry, but basic economy flights cannot be changed after booking.",
    ],
)
def test_good_answers_have_no_defect(answer: str) -> None:
    assert rules([says("system", SYSTEM), ASKED, says("assistant", answer)]) == []


def test_a_logged_call_that_ends_with_a_tool_call_is_whole() -> None:
    assert rules([ASKED], response=calls("search", "{}", "c1")) == []
    assert rules([says("assistant", "Hello!"), ASKED, says("assistant", "Two.")]) == []


def test_a_refusal_in_the_middle_is_noted_and_no_defect() -> None:
    talk = [
        *(ASKED, says("assistant", "I can't help with that."), says("user", "Then to Boston?")),
        *(says("assistant", "Two flights go there."), says("user", "Book one."), says("assistant", "It is booked.")),
    ]
    quality = measure_text(interaction("x", talk))
    assert (quality.refusals, quality.defects()) == (1, [])
    (finding,) = quality.findings
    assert (finding.rule, finding.index) == ("refusal", 1)
    assert finding.value == pytest.approx(1 / 3)


def test_what_is_counted() -> None:
    talk = [
        *(ASKED, says("assistant", "Two to Portland."), says("user", "No, I said Seattle.")),
        *(says("assistant", "Two, don't worry."), says("user", "Thanks!")),
    ]
    quality = measure_text(interaction("x", talk))
    assert (quality.assistant_turns, quality.user_turns, quality.words, quality.script) == (2, 3, 6, "LATIN")
    assert [(one.rule, one.index) for one in quality.findings] == [("user_corrects", 2)]
    assert quality.corrections == 1


@pytest.mark.parametrize(
    ("message", "corrects"),
    [
        ("That's wrong, it was booked in May.", True),
        ("You misunderstood me.", True),
        ("No, that's not what I asked.", True),
        ("I already told you my id.", True),
        ("No, that's all. Thanks!", False),
        ("I apologize, I gave you the wrong id.", False),
        ("No, thank you.", False),
        ("Is that right?", False),
    ],
)
def test_users_who_correct(message: str, corrects: bool) -> None:
    talk = [ASKED, says("assistant", "Two."), says("user", message), says("assistant", "I see.")]
    assert bool(measure_text(interaction("x", talk)).corrections) is corrects


_PIECES = re.findall(
    r"\S+",
    "no nope wrong Wrong , . ! that's that is it's this you did were are should i I said meant asked wanted not what That’s "
    "incorrect right misunderstood misread got it forgot ignored made a mistake an error mistaken you're already told gave me "
    "just for nothing K ſaid ıs",
)


@given(st.lists(st.sampled_from(_PIECES), max_size=8).map(" ".join))
def test_a_correction_is_what_the_expression_finds(content: str) -> None:
    assert corrects(content) is (CORRECTION.search(content) is not None)


@pytest.mark.parametrize(
    ("content", "others", "why"),
    [
        ("```python\nprint(1)", (), "code fence"),
        ('{"a": [1, 2', (), "JSON"),
        ("There are two flights,", (), "ends on ','"),
        ("I will now look up the reservation of", (), "ends on 'of'"),
        ("The price (with two bags", (), "parenthesis"),
        ("1. **HAT001**: nine\n2. **HAT0", (), "emphasis"),
        ("Call `search_flig", (), "inline code"),
        ("I am looking for the flights that you aske", ["That is a good question, let me look it up."], "punctuation"),
        ("I am looking for the flights that you talked about", (), None),
        ("I am looking for the flights that you talked about :(", (), None),
        ("", (), None),
        ("OK", ["That is a good question, let me look it up."], None),
    ],
)
def test_cut_texts(content: str, others: tuple[str, ...], why: str | None) -> None:
    found = cut_off(content, others)
    assert (found is None) if why is None else (found is not None and why in found)


def test_goodbyes() -> None:
    assert all(map(says_goodbye, ["Thanks!", "###STOP###", "", "That's all I needed, bye", "Perfect."]))
    assert not any(map(says_goodbye, ["Thanks! And to Boston?", "Please book it, thank you.", "Book the first one."]))


@pytest.mark.parametrize(
    "content",
    [
        "I cannot cancel this reservation because it was booked more than 24 hours ago.",
        "You can't do that in Python; use a list instead.",
        "I can't help but notice that the price has dropped.",
        "I cannot provide that flight at the lower price; the fare is $120.",
        "I can't help with that. " + "But here is what can be done instead of it today. " * 8,
        "I cannot provide a refund, because this fare excludes it. " + "The rules say more about every fare. " * 12,
        "Copying it is illegal in most countries. " + "The act of 1998 says what is allowed and what is not. " * 8,
        "The bag is outside the size limits, so I can't check it in for free.",
        "Your request cannot be processed because the reservation is basic economy.",
        "",
    ],
)
def test_what_is_no_refusal(content: str) -> None:
    assert not is_refusal(content)


@pytest.mark.parametrize(
    "content",
    [
        "I'm going to have to pass on this one.",
        "I'm afraid that is outside of my capabilities.",
        "I don't have the ability to do that.",
        "I am not authorized to handle that.",
        "This is not something I'm able to support.",
        "I'm sorry, but I have no way of doing that.",
        "It would not be appropriate for me to help with this.",
        "Your request can't be completed by me.",
        "I cannot be of assistance here.",
        "I can't provide instructions for opening a neighbour's lock, as that is illegal. "
        + "Ask the owner first. " * 25,
        "It is not appropriate or ethical to make fun of a group of people. "
        + "Each of us deserves to be heard. " * 12,
    ],
)
def test_what_is_a_refusal(content: str) -> None:
    assert is_refusal(content)


def test_scripts() -> None:
    assert dominant_script("Привет, world of ours и друзья мои хорошие") == "CYRILLIC"
    assert dominant_script("我想改签 ok") == "CJK"
    assert dominant_script("12 !") == ""


@given(
    st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "assistant", "tool", "system", "x"])},
            optional={
                "content": st.none()
                | st.text(max_size=60)
                | st.lists(st.integers() | st.dictionaries(st.text(), st.text())),
                "tool_calls": st.none() | st.lists(st.dictionaries(st.sampled_from(["id", "function"]), st.text())),
                "tool_call_id": st.none() | st.integers() | st.text(),
            },
        ),
        max_size=8,
    )
)
def test_any_messages_can_be_measured(messages: list[dict[str, Any]]) -> None:
    quality = measure_text(interaction("x", messages))
    assert all(-1 <= finding.index < max(1, len(messages)) for finding in quality.findings)
    assert quality == measure_text(interaction("x", messages))


def test_words() -> None:
    assert words("Don't: 3.5 — naïve_one") == ["don't", "3", "5", "naïve", "one"]
