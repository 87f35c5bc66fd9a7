"""Runs and their messages as records; whatever a run holds, it becomes one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.capture.langsmith.messages import answer_of, message_of, messages_of
from tracemill.capture.langsmith.runs import moment_of, record_of, trace_of
from tracemill.core.codec import decode, encode
from tracemill.core.foreign import run_record_id
from tracemill.core.ids import EPOCH
from tracemill.core.records import Interaction, Step, User

RUN, ROOT = "00000000-0000-7000-8000-000000000002", "00000000-0000-7000-8000-000000000001"


def person(raw: str) -> User:
    return User(pseudonym=raw.upper(), key_id="k")


def made(**fields: Any) -> Any:
    return record_of({"id": RUN, **fields}, ["digest"], None, EPOCH, person, None)


def constructor(name: str, /, **fields: Any) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", name], "kwargs": fields}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (constructor("HumanMessage", content="hi"), {"role": "user", "content": "hi"}),
        (constructor("AIMessageChunk", content="ho"), {"role": "assistant", "content": "ho"}),
        (constructor("SystemMessage", content="be"), {"role": "system", "content": "be"}),
        ({"type": "human", "content": "hi"}, {"role": "user", "content": "hi"}),
        ({"type": "ChatMessage", "role": "critic", "content": "no"}, {"role": "critic", "content": "no"}),
        (["human", "hi"], {"role": "user", "content": "hi"}),
        ({"role": "user", "content": "hi", "name": None}, {"role": "user", "content": "hi"}),
        (
            constructor("ToolMessage", content="rain", tool_call_id="c", name="w"),
            {"role": "tool", "content": "rain", "tool_call_id": "c", "name": "w"},
        ),
        ({"a": 1}, None),
        ("hi", None),
        ({"type": "human"}, None),
    ],
)
def test_a_message(value: Any, expected: Any) -> None:
    assert message_of(value) == expected


def test_reasoning_and_calls_leave_the_content() -> None:
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "ho"}, {"type": "tool_use", "id": "c"}]
    calls = [{"id": "c", "name": "look", "args": {"a": 1}}]
    assert message_of(constructor("AIMessage", content=content, tool_calls=calls)) == {
        "role": "assistant",
        "content": "ho",
        "reasoning_content": "hm",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}],
    }


def test_what_a_call_was_given() -> None:
    human = constructor("HumanMessage", content="hi")
    expected = [{"role": "user", "content": "hi"}]
    for inputs in (
        {"messages": [[human]]},
        {"messages": [human]},
        {"messages": [["human", "hi"]]},
        {"prompts": ["hi"]},
    ):
        assert messages_of(inputs) == expected
    assert messages_of({"system": "be", "messages": expected})[0] == {"role": "system", "content": "be"}
    assert messages_of({"q": "hi"}) == []


def test_what_a_call_answered() -> None:
    message = constructor("AIMessage", content="ho", response_metadata={"model_name": "m-1", "finish_reason": "stop"})
    told = {"token_usage": {"prompt_tokens": 3}}
    found = answer_of({"generations": [[{"message": message}, {"text": "or"}]], "llm_output": told})
    assert (found["response"], found["answered_by"]) == ({"role": "assistant", "content": "ho"}, "m-1")
    assert (found["finish_reason"], found["usage"]) == ("stop", {"prompt_tokens": 3})
    assert found["choices"] == [{"role": "assistant", "content": "or"}]
    content = [{"type": "text", "text": "ho"}, {"type": "tool_use", "id": "c", "name": "look", "input": {"a": 1}}]
    block = {"type": "message", "role": "assistant", "content": content, "stop_reason": "tool_use", "model": "claude"}
    for outputs in (block, {"message": block}):
        found = answer_of(outputs)
        assert found["response"]["content"] == "ho"
        assert found["response"]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"a":1}'}
        assert (found["finish_reason"], found["answered_by"]) == ("tool_use", "claude")
    assert answer_of({"output": "text"}) == {}


def test_the_model_its_settings_and_its_tools() -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    record = made(
        trace_id=ROOT,
        parent_run_id=ROOT,
        run_type="llm",
        extra={
            "metadata": {"ls_model_name": "m", "ls_provider": "openai", "ls_temperature": 0.5},
            "invocation_params": {"model": "m", "top_p": 0.9, "stop": None, "tools": tools, "_type": "openai"},
        },
    )
    assert isinstance(record, Interaction)
    assert record.model is not None
    assert (record.model.name, record.model.provider) == ("m", "openai")
    assert record.model.configuration == {"top_p": 0.9, "temperature": 0.5}
    assert (record.tools, record.parent_id) == (tools, run_record_id(ROOT))


def test_a_call_that_litellm_tells_of() -> None:
    given = {
        "litellm_call_id": "c",
        "model": "m",
        "custom_llm_provider": "openai",
        "model_parameters": {"temperature": 0.5},
        "messages": [{"role": "user", "content": "hi"}],
        "response_time": 0.1,
    }
    record = made(trace_id=RUN, run_type="llm", inputs=given)
    assert isinstance(record, Interaction)
    assert record.model is not None
    assert (record.model.provider, record.model.name) == ("openai", "m")
    assert record.model.configuration == {"temperature": 0.5}
    assert record.messages == [{"role": "user", "content": "hi"}]
    assert record.extra["litellm"]["response_time"] == 0.1


@pytest.mark.parametrize(
    ("error", "kind", "message", "detail"),
    [
        ("ValueError('bad')\n\nTraceback …", "ValueError", "bad", "Traceback …"),
        ('openai.RateLimitError("slow (down)")', "openai.RateLimitError", "slow (down)", None),
        ("it broke", None, "it broke", None),
        ({"code": 1}, None, "{'code': 1}", {"code": 1}),
    ],
)
def test_an_error(error: Any, kind: str | None, message: str, detail: Any) -> None:
    failure = made(error=error).error
    assert (failure.type, failure.message, failure.detail) == (kind, message, detail)
    assert made(error=error).completion_status == "failed"


def test_a_trace_and_a_time_are_found_where_they_are_stated() -> None:
    order = f"20260301T100000000001Z{ROOT}.20260301T100001000001Z{RUN}"
    assert trace_of({"id": RUN, "dotted_order": order}) == ROOT
    assert trace_of({"id": RUN}) == RUN
    record = made(dotted_order=order, parent_run_id=ROOT)
    assert isinstance(record, Step)
    assert record.time == moment_of("2026-03-01T10:00:01.000001Z")
    assert moment_of(0) == EPOCH
    assert moment_of(1_795_232_301.5) == moment_of(1_795_232_301_500) == moment_of("2026-11-21T03:38:21.5")
    for nothing in (None, True, "soon", 1e300, "0001-01-01T00:00:00+23:00"):
        assert moment_of(nothing) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["messages", "role", "content", "type", "lc", "id", "kwargs", "tool_calls", "function", "name", "output", "choices",
         "message", "generations", "usage_metadata", "usage", "metadata", "input_tokens", "invocation_params", "model", "tools",
         "input", "llm_output", "response_metadata", "text", "total_cost", "thread_id", "user_id", "object", "x"]
    ), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
NAMES = st.sampled_from(
    ["inputs", "outputs", "extra", "error", "events", "tags", "attachments", "start_time", "end_time", "name", "trace_id",
     "parent_run_id", "dotted_order", "session_name", "serialized", "x"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=8), st.sampled_from(["llm", "tool", "chain", None, 3]))
def test_whatever_a_run_holds_it_becomes_a_record(fields: dict[str, Any], kind: Any) -> None:
    record = made(**fields, run_type=kind)
    assert decode(encode(record)) == record
