"""The real client of Anthropic, wrapped, against a local model."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest

from tests.fake_model import MODEL, FakeModel
from tests.sdk.integrations.conftest import Kept
from tracemill.sdk.integrations import anthropic as anthropic_integration
from tracemill.sdk.integrations.anthropic import wrap_anthropic

ASK: Any = {
    "model": "m",
    "max_tokens": 50,
    "system": "Be brief.",
    "messages": [{"role": "user", "content": "Say hello"}],
}
TOOL: Any = {"name": "get_weather", "description": "d", "input_schema": {"type": "object", "properties": {}}}


def client_of(model: FakeModel, kept: Kept) -> anthropic.Anthropic:
    return wrap_anthropic(anthropic.Anthropic(base_url=model.url, api_key="none", max_retries=0), kept.collector)


def check_hello(kept: Kept) -> None:
    record = kept.one()
    assert record.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello"}]
    assert record.response == {"role": "assistant", "content": "You said: Say hello"}
    assert record.model is not None
    assert record.model_requested is not None
    assert (record.model.name, record.model_requested.configuration) == (MODEL, {"max_tokens": 50})
    assert (record.input_tokens, record.output_tokens, record.finish_reason) == (11, 5, "stop")
    assert record.success


def test_a_call(fake_model: FakeModel, kept: Kept) -> None:
    with client_of(fake_model, kept) as client:
        wrap_anthropic(client, kept.collector)
        assert isinstance(client.messages.create(**ASK), anthropic.types.Message)
    check_hello(kept)


def test_a_stream(fake_model: FakeModel, kept: Kept) -> None:
    with client_of(fake_model, kept) as client, client.messages.create(**ASK, stream=True) as stream:
        assert isinstance(stream, anthropic.Stream)
        assert len(list(stream)) > 3
    check_hello(kept)


def test_the_stream_helper(fake_model: FakeModel, kept: Kept) -> None:
    with client_of(fake_model, kept) as client, client.messages.stream(**ASK) as stream:
        assert "".join(stream.text_stream) == "You said: Say hello"
        assert stream.get_final_message().stop_reason == "end_turn"
    check_hello(kept)


def test_the_async_client(fake_model: FakeModel, kept: Kept) -> None:
    async def converse() -> None:
        plain = anthropic.AsyncAnthropic(base_url=fake_model.url, api_key="none", max_retries=0)
        async with wrap_anthropic(plain, kept.collector) as client:
            await client.messages.create(**ASK)
            async with await client.messages.create(**ASK, stream=True) as stream:
                assert len([event async for event in stream]) > 3
            async with client.messages.stream(**ASK) as helper:
                assert "".join([text async for text in helper.text_stream]) == "You said: Say hello"

    asyncio.run(converse())
    found = kept.interactions()
    assert len(found) == 3
    assert {json.dumps(record.response) for record in found} == {json.dumps(found[0].response)}


@pytest.mark.parametrize("stream", [False, True])
def test_tools(fake_model: FakeModel, kept: Kept, stream: bool) -> None:
    asked: list[Any] = [{"role": "user", "content": "the weather?"}]
    with client_of(fake_model, kept) as client:
        answer: Any = client.messages.create(model="m", max_tokens=50, messages=asked, tools=[TOOL], stream=stream)
        if stream:
            list(answer)
        else:
            told = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "rain"}]}]
            whole: list[Any] = [
                *asked,
                {"role": "assistant", "content": answer.content},
                {"role": "user", "content": told},
            ]
            client.messages.create(model="m", max_tokens=50, messages=whole, tools=[TOOL])
    first = kept.interactions()[0]
    assert first.response is not None
    (call,) = first.response["tool_calls"]
    assert (call["id"], json.loads(call["function"]["arguments"])) == ("toolu_1", {"city": "Oslo"})
    assert (first.finish_reason, first.tools[0]["function"]["name"]) == ("tool_calls", "get_weather")
    if not stream:
        second = kept.interactions()[1]
        assert [message["role"] for message in second.messages] == ["user", "assistant", "tool"]
        assert second.messages[2]["content"] == "rain"


def test_errors_pass_and_are_recorded(fake_model: FakeModel, kept: Kept) -> None:
    wrong: Any = {**ASK, "messages": [{"role": "user", "content": "error 429"}]}
    with client_of(fake_model, kept) as client:
        with pytest.raises(anthropic.RateLimitError):
            client.messages.create(**wrong)
        with pytest.raises(anthropic.RateLimitError), client.messages.stream(**wrong):
            pass
    assert [record.error.type for record in kept.interactions() if record.error] == ["RateLimitError"] * 2


def test_streamed_input_that_no_reader_can_read_is_kept_as_its_text() -> None:
    for text in ('{"a": ', "[" * 100_000 + "]" * 100_000):
        assert anthropic_integration._parsed(text) == text
    assert anthropic_integration._parsed('{"a": 1}') == {"a": 1}
