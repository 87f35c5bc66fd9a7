"""Each format: what a row looks like, what is listed as lost, what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.dataset.support import calls, record_id, result, says
from tracemill.core.examples import (
    LabelledExample,
    PreferenceExample,
    SupervisedExample,
    TrajectoryPreference,
)
from tracemill.core.records import Message
from tracemill.export.formats import FORMATS
from tracemill.export.losses import Lost, RefusedError
from tracemill.export.write import make_row

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
TALK = [says("system", "s"), says("user", "q"), calls("f", '{"a": 1}', "c1"), result("c1", "r", "f")]
WHOLE = [*TALK, says("assistant", "a")]


def supervised(messages: list[Message], **fields: Any) -> SupervisedExample:
    return SupervisedExample(id=record_id("e"), sources=[record_id("r")], signal="s", messages=messages, **fields)


def row(name: str, messages: list[Message], **fields: Any) -> tuple[dict[str, Any], list[Lost]]:
    return FORMATS[name].row(supervised(messages, **fields))


def refusal(name: str, messages: list[Message]) -> str:
    with pytest.raises(RefusedError) as caught:
        row(name, messages)
    assert caught.value.detail
    return caught.value.reason


def test_openai_chat_is_the_messages_as_they_were() -> None:
    assert row("openai-chat", WHOLE, tools=TOOLS) == ({"messages": WHOLE, "tools": TOOLS}, [])
    assert row("openai-chat", WHOLE) == ({"messages": WHOLE}, [])


def test_trl_has_arguments_as_objects_and_no_null_content() -> None:
    made, lost = row("trl-sft", WHOLE, tools=TOOLS)
    assert made["tools"] == TOOLS
    assert made["messages"][2] == {
        "role": "assistant",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}],
    }
    assert [made["messages"][at] for at in (0, 1, 3, 4)] == [WHOLE[at] for at in (0, 1, 3, 4)]
    assert lost == []


def test_several_calls_at_once_are_said_to_openai() -> None:
    two: Message = {"role": "assistant", "content": None, "tool_calls": []}
    two["tool_calls"] = [calls("f", "{}", call_id)["tool_calls"][0] for call_id in ("c1", "c2")]
    messages = [says("user", "q"), two, result("c1", "1"), result("c2", "2"), says("assistant", "a")]
    assert row("openai-chat", messages)[0]["parallel_tool_calls"] is True
    assert "parallel_tool_calls" not in row("trl-sft", messages)[0]


def test_preferences() -> None:
    example = PreferenceExample(
        id=record_id("e"),
        sources=[record_id("a"), record_id("b")],
        signal="trials",
        prompt=TALK,
        chosen=[says("assistant", "good")],
        rejected=[calls("f", "{}", "c2")],
        tools=TOOLS,
        chosen_rest=2,
        aligned_ids={"c9": "c1"},
    )
    made, lost = FORMATS["trl-dpo"].row(example)
    assert list(made) == ["prompt", "chosen", "rejected", "tools"]
    assert made["rejected"][0]["tool_calls"][0]["function"]["arguments"] == {}
    assert [(entry.path, entry.reason) for entry in lost] == [
        ("/chosen_rest", "rest_of_trajectory"),
        ("/aligned_ids", "call_ids_aligned"),
    ]
    assert lost[1].call_ids == ["c9"]


def test_labels_and_tails() -> None:
    example = LabelledExample(
        id=record_id("e"),
        sources=[record_id("a")],
        signal="feedback",
        prompt=WHOLE[:2],
        completion=WHOLE[2:3],
        label=False,
        label_source="reward",
        tail=WHOLE[3:4],
    )
    made, lost = FORMATS["trl-kto"].row(example)
    assert (list(made), made["label"]) == (["prompt", "completion", "label"], False)
    assert lost == [Lost("/tail", "after_last_answer", "1 messages after the last answer", ["c1"])]


def test_trajectory_preferences_are_kept_whole() -> None:
    odd = says("assistant", None, reasoning="r", tool_calls=[], thinking=None)
    example = TrajectoryPreference(
        id=record_id("e"),
        sources=[record_id("a"), record_id("b")],
        signal="trials",
        chosen=[*WHOLE, odd],
        rejected=TALK,
        shared=4,
        chosen_score=1.0,
        rejected_score=0.0,
        rejected_tools=TOOLS,
    )
    made, lost = FORMATS["trajectory-preference"].row(example)
    assert made == {
        "chosen": [*WHOLE, odd],
        "rejected": TALK,
        "shared": 4,
        "chosen_score": 1.0,
        "rejected_score": 0.0,
        "rejected_tools": TOOLS,
    }
    assert lost == []


def test_fields_a_format_lacks_are_listed_and_empty_ones_are_not() -> None:
    answer = says("assistant", "a", reasoning_content="why", weird={"x": 1}, refusal=None, annotations=[])
    made, lost = row("openai-chat", [says("user", "q"), answer])
    assert made["messages"][1] == says("assistant", "a")
    assert [(entry.path, entry.reason) for entry in lost] == [
        ("/messages/1/reasoning_content", "field_not_in_format"),
        ("/messages/1/weird", "field_not_in_format"),
    ]
    made, lost = row("trl-sft", [says("user", "q"), answer])
    assert made["messages"][1] == says("assistant", "a", reasoning_content="why")
    assert [entry.path for entry in lost] == ["/messages/1/weird"]


def test_fields_of_calls_are_listed_but_their_position_is_not() -> None:
    message = calls("f", "{}", "c1")
    message["tool_calls"][0] |= {"index": 0, "x/y~": 1}
    message["tool_calls"][0]["function"]["parsed"] = {"a": 1}
    for name in ("openai-chat", "trl-sft"):
        made, lost = row(name, [says("user", "q"), message])
        assert list(made["messages"][1]["tool_calls"][0]) == ["id", "type", "function"]
        assert [entry.path for entry in lost] == [
            "/messages/1/tool_calls/0/x~1y~0",
            "/messages/1/tool_calls/0/function/parsed",
        ]


def test_a_developer_is_a_system_to_trl() -> None:
    messages = [says("developer", "be nice"), says("user", "q"), says("assistant", "a")]
    made, lost = row("trl-sft", messages)
    assert made["messages"][0] == says("system", "be nice")
    assert lost == [Lost("/messages/0/role", "developer_as_system")]
    assert row("openai-chat", messages) == ({"messages": messages}, [])


def test_parts_of_text_are_joined_for_trl_and_others_refused() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [says("user", "q") | {"content": parts}, says("assistant", "a")]
    made, lost = row("trl-sft", messages)
    assert made["messages"][0]["content"] == "one\ntwo"
    assert lost == [Lost("/messages/0/content", "text_parts_joined", "2 parts")]
    assert row("openai-chat", messages)[0]["messages"] == messages
    parts.append({"type": "image_url", "image_url": {"url": "data:"}})  # type: ignore[dict-item]
    assert refusal("trl-sft", messages) == "part_not_text"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [('{"a": 1, "b": [null, 1.5]}', {"a": 1, "b": [None, 1.5]}), ({"a": 1}, {"a": 1}), ("{}", {}), ({}, {})],
)
def test_arguments_mean_the_same_in_both_forms(arguments: Any, expected: dict[str, Any]) -> None:
    message = calls("f", arguments, "c1")
    made, lost = row("trl-sft", [says("user", "q"), message])
    assert made["messages"][1]["tool_calls"][0]["function"]["arguments"] == expected
    made, _ = row("openai-chat", [says("user", "q"), message])
    text = made["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(text) == expected
    assert text == arguments or isinstance(arguments, dict)
    assert lost == []


@pytest.mark.parametrize("arguments", ["", None])
def test_empty_arguments_become_an_empty_object_and_that_is_listed(arguments: Any) -> None:
    made, lost = row("trl-sft", [says("user", "q"), calls("f", arguments, "c1")])
    assert made["messages"][1]["tool_calls"][0]["function"]["arguments"] == {}
    assert [entry.reason for entry in lost] == ["empty_arguments_as_object"]
    for name in ("axolotl", "mistral", "together"):
        data, lost, _ = make_row(supervised([says("user", "q"), calls("f", arguments, "c1")]), FORMATS[name])
        assert data is not None
        assert json.loads(data)["messages"][1]["tool_calls"][0]["function"]["arguments"] == "{}"
        assert "empty_arguments_as_object" in [entry.reason for entry in lost]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("{broken", "arguments_not_json"),
        ("[" * 100_000, "arguments_not_json"),
        ("[1]", "arguments_not_an_object"),
        ('"text"', "arguments_not_an_object"),
        ([1], "arguments_not_an_object"),
        ('{"a": 1, "a": 2}', "repeated_argument_key"),
        ('{"x": {"a": 1, "a": 2}}', "repeated_argument_key"),
        ('{"a": NaN}', "number_not_finite"),
        ('{"a": [1e999]}', "number_not_finite"),
        (f'{{"a": {2**64}}}', "integer_too_large"),
        ({"a": math.inf}, "number_not_finite"),
    ],
)
def test_arguments_that_no_object_holds_are_refused_for_trl(arguments: Any, reason: str) -> None:
    messages = [says("user", "q"), calls("f", arguments, "c1")]
    assert refusal("trl-sft", messages) == reason
    if isinstance(arguments, str):
        assert row("openai-chat", messages)[0]["messages"] == messages


def test_numbers_that_the_loader_changes_are_listed() -> None:
    message = calls("f", '{"fine": 0.125, "price": 12.99, "long": 0.12345678901, "huge": 12345678901234567.0}', "c1")
    _, lost = row("trl-sft", [says("user", "q"), message])
    assert [(entry.path.rpartition("/")[2], entry.reason) for entry in lost] == [
        ("long", "changed_when_loaded"),
        ("huge", "changed_when_loaded"),
    ]


@pytest.mark.parametrize("name", ["openai-chat", "trl-sft"])
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}, "legacy_function_call"),
        ({"role": "assistant", "tool_calls": {"id": "c1"}}, "malformed_tool_calls"),
        ({"role": "assistant", "tool_calls": ["c1"]}, "malformed_tool_calls"),
        ({"role": "assistant", "tool_calls": [{"id": "c1", "type": "custom", "custom": {}}]}, "malformed_tool_calls"),
    ],
)
def test_what_is_no_call_of_a_function_is_refused(name: str, message: Message, reason: str) -> None:
    assert refusal(name, [says("user", "q"), message]) == reason
