"""The check finds whatever is changed, missing or out of order in a row."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataset.examples import examples
from tests.dataset.support import calls, record_id, result, says
from tests.export.test_formats import TOOLS, WHOLE, supervised
from tracemill.core.examples import (
    ActionExample,
    Example,
    LabelledExample,
    PreferenceExample,
    RetrievalExample,
    RewardExample,
)
from tracemill.core.records import Message
from tracemill.export.check import check_row
from tracemill.export.formats import FORMATS
from tracemill.export.losses import Lost, is_empty
from tracemill.export.write import make_row

RICH = [
    {"role": "developer", "content": [{"type": "text", "text": "be"}, {"type": "text", "text": "nice"}]},
    says("user", "q", name="ann"),
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "first look",
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "index": 0,
                "function": {"name": "f", "arguments": '{"a": {"b": [1, 2.5]}}'},
            },
            {"id": "c2", "function": {"name": "g", "arguments": {"x": None, "y": True}}},
        ],
    },
    result("c1", "r1", "f"),
    result("c2", "r2", "g"),
    says("assistant", "a", custom=1),
]
LABELLED = LabelledExample(
    id=record_id("e"),
    sources=[record_id("a")],
    signal="feedback",
    prompt=WHOLE[:2],
    completion=WHOLE[2:],
    label=True,
    label_source="reward",
)
PREFERENCE = PreferenceExample(
    id=record_id("e"),
    sources=[record_id("a")],
    signal="trials",
    prompt=WHOLE[:4],
    chosen=[says("assistant", "good")],
    rejected=[says("assistant", "bad")],
    tools=TOOLS,
)
_SOURCE: dict[str, Any] = {"id": record_id("e"), "sources": [record_id("a")], "tools": TOOLS}
ACTION = ActionExample(
    **_SOURCE,
    signal="next_action",
    prompt=WHOLE[:2],
    completion=WHOLE[2:3],
    action="tool_request",
    tool="search",
    parameters={"q": "x"},
    reasoning="to know",
    goal="an answer",
    state={"step": 2},
    available_tools=["search"],
    outcome={"success": True},
    scenario="desk",
    quality_score=0.5,
    execution_successful=True,
    training_type="tool_selection",
)
REWARD = RewardExample(
    **_SOURCE, signal="reward", prompt=WHOLE[:4], completion=WHOLE[4:], score=0.25, score_name="helpful"
)
RETRIEVED = RetrievalExample(
    id=record_id("e"), sources=[record_id("a")], signal="retrieval", query="q", positive="yes", negative="no"
)
TALK = [says("system", "s"), says("user", "q1"), says("assistant", "a1"), says("user", "q2"), says("assistant", "a2")]
GOOD: list[tuple[str, Example]] = [
    *(
        (name, supervised(RICH, tools=TOOLS))
        for name in (
            *("openai-chat", "trl-sft", "trl-prompt-completion", "sharegpt", "axolotl"),
            *("gemini", "mistral", "together", "embedding-pairs", "atif"),
        )
    ),
    ("alpaca", supervised(TALK, tools=TOOLS)),
    (
        "conversation-example",
        supervised(RICH, tools=TOOLS, scenario="desk", quality_score=0.5, training_type="quality"),
    ),
    ("next-action", ACTION),
    ("agent-execution", ACTION),
    ("reward", REWARD),
    ("retrieval-pairs", RETRIEVED),
    ("retrieval-triplets", RETRIEVED),
    ("trl-kto", LABELLED),
    ("sharegpt-kto", msgspec.structs.replace(LABELLED, prompt=WHOLE[:4], completion=WHOLE[4:], tools=TOOLS)),
    *(
        (name, PREFERENCE)
        for name in (
            *("trl-dpo", "openai-preference", "together-preference", "sharegpt-preference"),
            "embedding-triplets",
        )
    ),
]


def test_every_format_is_tried() -> None:
    assert {name for name, _ in GOOD} == FORMATS.keys() - {"trajectory-preference"}


def changed(value: Any) -> Iterator[Any]:
    """Every version of a value with one thing changed in it: a leaf altered, a key or element taken away or doubled."""
    if isinstance(value, dict):
        for key, child in value.items():
            if not is_empty(child):
                yield {other: kept for other, kept in value.items() if other != key}
            for altered in changed(child):
                yield {**value, key: altered}
        yield {**value, "intruder": 1}
    elif isinstance(value, list):
        for at, child in enumerate(value):
            yield [*value[:at], *value[at + 1 :]]
            yield [*value[: at + 1], *value[at:]]
            for altered in changed(child):
                yield [*value[:at], altered, *value[at + 1 :]]
    elif isinstance(value, bool):
        yield not value
        yield int(value)
    elif isinstance(value, str):
        yield value + "x"
        yield value[:-1] if value else "x"
    elif isinstance(value, (int, float)):
        yield value + 1
        yield str(value)
    else:
        yield "was null"


@pytest.mark.parametrize(("name", "example"), GOOD)
def test_every_single_change_is_noticed(name: str, example: Example) -> None:
    data, lost, refused = make_row(example, FORMATS[name])
    assert data is not None, refused
    count = 0
    for row in changed(msgspec.json.decode(data)):
        fault = check_row(msgspec.json.encode(row), example, FORMATS[name], lost)
        assert fault is not None, row
        count += 1
    assert count > (20 if FORMATS[name].sides and not FORMATS[name].texts else 4)


@pytest.mark.parametrize(("name", "example"), GOOD)
def test_what_is_lost_has_to_be_listed(name: str, example: Example) -> None:
    data, lost, _ = make_row(example, FORMATS[name])
    assert data is not None
    for entry in lost:
        others = [other for other in lost if other is not entry]
        assert check_row(data, example, FORMATS[name], others) is not None, entry


def test_a_tail_has_to_be_listed() -> None:
    example = supervised(WHOLE, tail=[says("user", "thanks")])
    data, lost, _ = make_row(example, FORMATS["openai-chat"])
    assert data is not None
    assert [entry.path for entry in lost] == ["/tail"]
    fault = check_row(data, example, FORMATS["openai-chat"], [])
    assert fault is not None
    assert fault.reason == "tail_not_listed"


def test_listing_a_thing_as_lost_does_not_excuse_another_value_in_its_place() -> None:
    example = supervised(WHOLE)
    row = {"messages": copy.deepcopy(WHOLE)}
    row["messages"][4]["content"] = "b"
    fault = check_row(msgspec.json.encode(row), example, FORMATS["openai-chat"], [Lost("/messages/4/content", "x")])
    assert fault is not None
    assert fault.reason == "value_changed"


CALL = calls("f", "{}", "c1")


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "no_messages"),
        ([says("user", "q")], "last_message_not_assistant"),
        ([says("user", "q"), CALL, result("c1", "r")], "last_message_not_assistant"),
        ([says("user", "q"), CALL, says("assistant", "a")], "unanswered_call"),
        ([says("user", "q"), CALL, result("c1", "r"), result("c2", "r"), says("assistant", "a")], "orphan_result"),
        ([says("user", "q"), says("system", "s"), says("assistant", "a")], "late_system"),
        ([says("user", "q"), says("critic", "c"), says("assistant", "a")], "unknown_role"),
        ([says("user", "q"), says("assistant", "")], "empty_message"),
        (
            [says("user", "q"), {**CALL, "tool_calls": CALL["tool_calls"] * 2}, result("c1", "r")],
            "repeated_call_id",
        ),
    ],
)
@pytest.mark.parametrize("name", ["openai-chat", "trl-sft"])
def test_a_conversation_no_trainer_takes_is_refused(name: str, messages: list[Message], reason: str) -> None:
    data, _, refused = make_row(supervised(messages), FORMATS[name])
    assert data is None
    assert refused is not None
    assert refused.reason == reason


@pytest.mark.parametrize(
    "messages",
    [
        [says("assistant", "Hello."), says("user", "q"), says("assistant", "a")],
        [says("user", "q"), CALL],
        [says("user", "q"), CALL, result("c1", "r"), CALL, result("c1", "r"), says("assistant", "a")],
        [says("developer", "d"), says("user", "q"), says("user", "q2"), says("assistant", "a")],
    ],
)
@pytest.mark.parametrize("name", ["openai-chat", "trl-sft"])
def test_a_conversation_trainers_take_is_written(name: str, messages: list[Message]) -> None:
    data, _, refused = make_row(supervised(messages), FORMATS[name])
    assert data is not None, refused


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"prompt": []}, "prompt_is_empty"),
        ({"prompt": WHOLE[:1]}, "prompt_ends_with_system"),
        ({"rejected": [says("assistant", "good", note="n")]}, "sides_equal"),
        ({"chosen": [says("user", "good")]}, "last_message_not_assistant"),
        ({"chosen": []}, "last_message_not_assistant"),
        ({"prompt": WHOLE[:3]}, "unanswered_call"),
    ],
)
def test_a_preference_that_is_none_is_refused(fields: dict[str, Any], reason: str) -> None:
    _, _, refused = make_row(msgspec.structs.replace(PREFERENCE, **fields), FORMATS["trl-dpo"])
    assert refused is not None
    assert refused.reason == reason


@pytest.mark.parametrize("name", ["sharegpt-preference", "openai-preference", "together-preference"])
@pytest.mark.parametrize("role", ["system", "user", "tool"])
def test_an_answer_that_nobody_gave_is_refused(name: str, role: str) -> None:
    example = msgspec.structs.replace(PREFERENCE, rejected=[says(role, "x")])
    _, _, refused = make_row(example, FORMATS[name])
    assert refused is not None
    assert refused.reason in ("last_message_not_assistant", "late_system", "orphan_result")


def test_text_that_utf_8_cannot_hold_is_refused() -> None:
    for name in ("openai-chat", "trl-sft"):
        _, _, refused = make_row(supervised([says("user", "\ud800"), says("assistant", "a")]), FORMATS[name])
        assert refused is not None
        assert refused.reason == "lone_surrogate"
    _, _, refused = make_row(supervised([says("user", "q"), calls("f", '{"a": "\\ud800"}', "c")]), FORMATS["trl-sft"])
    assert refused is not None
    assert refused.reason == "lone_surrogate"


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, Example]:
    example = draw(examples)
    return draw(st.sampled_from([name for name, made in FORMATS.items() if isinstance(example, made.example)])), example


@settings(max_examples=400)
@given(cases())
def test_a_row_is_either_right_or_refused(case: tuple[str, Example]) -> None:
    name, example = case
    made = FORMATS[name]
    data, lost, refused = make_row(example, made)
    assert (data is None) == (refused is not None)
    if data is not None:
        row = msgspec.json.decode(data)
        if made.fold is None:
            for side in made.sides:
                assert len(row[side]) == len(getattr(example, side))
        assert row.keys() <= {*made.columns, *made.optional}
        assert check_row(data, example, made, lost) is None
    elif refused is not None and readable(example):
        assert refused.reason not in OUR_FAULT, refused.detail


def readable(example: Example) -> bool:
    """Whether JSON holds every number of an example: integers beyond 64 bits come back as other numbers."""
    plain = msgspec.to_builtins(example)
    try:
        return repr(msgspec.json.decode(msgspec.json.encode(plain))) == repr(plain)
    except (UnicodeEncodeError, OverflowError):
        return False


OUR_FAULT = {"value_lost", "value_changed", "value_invented", "messages_missing", "tail_not_listed", "unknown_key"}
OUR_FAULT |= {"not_of_the_format"}
