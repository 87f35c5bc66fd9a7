"""The real client of OpenAI, wrapped, against a local model."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from tests.fake_model import MODEL, FakeModel
from tests.sdk.integrations.conftest import Kept
from tracemill.sdk.integrations import last_interaction_id
from tracemill.sdk.integrations.openai import wrap_openai

ASK: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello"}]
TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}


def client_of(model: FakeModel, kept: Kept) -> openai.OpenAI:
    return wrap_openai(openai.OpenAI(base_url=f"{model.url}/v1", api_key="none", max_retries=0), kept.collector)


def test_a_call_is_what_it_was_and_is_recorded(fake_model: FakeModel, kept: Kept) -> None:
    with client_of(fake_model, kept) as client:
        wrap_openai(client, kept.collector)  # twice records once
        answer = client.chat.completions.create(
            model="m", messages=ASK, temperature=0.5, user="ada", metadata={"conversation_id": "c7"}
        )
    assert isinstance(answer, openai.types.chat.ChatCompletion)
    record = kept.one()
    assert record.id == last_interaction_id()
    assert record.messages == ASK
    assert record.response == {"role": "assistant", "content": "You said: Say hello"}
    assert record.model is not None
    assert record.model_requested is not None
    assert (record.model.name, record.model_requested.name) == (MODEL, "m")
    assert record.model_requested.configuration == {"temperature": 0.5}
    assert (record.input_tokens, record.output_tokens, record.finish_reason) == (11, 5, "stop")
    assert (record.conversation_id, record.platform, record.success) == ("c7", "support", True)
    assert record.user is not None


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls(fake_model: FakeModel, kept: Kept, stream: bool) -> None:
    with client_of(fake_model, kept) as client:
        ask: list[Any] = [{"role": "user", "content": "the weather?"}]
        answer: Any = client.chat.completions.create(model="m", messages=ask, tools=[TOOL], stream=stream)
        if stream:
            assert isinstance(answer, openai.Stream)
            assert len(list(answer)) > 3
        else:
            message = answer.choices[0].message
            told: Any = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "rain"}
            client.chat.completions.create(model="m", messages=[*ask, message, told], tools=[TOOL])
    first = kept.interactions()[0]
    assert first.response is not None
    assert first.response["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
    assert first.tools == [TOOL]
    if not stream:
        assert [entry["role"] for entry in kept.interactions()[1].messages] == ["user", "assistant", "tool"]


def test_a_stream_is_the_client_s_own_and_is_put_together(fake_model: FakeModel, kept: Kept) -> None:
    with (
        client_of(fake_model, kept) as client,
        client.chat.completions.create(
            model="m", messages=ASK, stream=True, stream_options={"include_usage": True}
        ) as stream,
    ):
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    record = kept.one()
    assert record.response == {"role": "assistant", "content": text}
    assert (record.output_tokens, record.completion_status) == (5, "successful")


def test_a_stream_that_is_left_is_interrupted(fake_model: FakeModel, kept: Kept) -> None:
    with client_of(fake_model, kept) as client:
        stream = client.chat.completions.create(model="m", messages=ASK, stream=True)
        for number, _ in enumerate(stream):
            if number == 2:
                break
        stream.close()
        del stream
    record = kept.one()
    assert record.completion_status == "interrupted"
    assert record.response is not None
    assert record.response["content"].startswith("You")


@pytest.mark.parametrize("stream", [False, True])
def test_the_responses_interface(fake_model: FakeModel, kept: Kept, stream: bool) -> None:
    with client_of(fake_model, kept) as client:
        answer = client.responses.create(model="m", input="Say hello", instructions="Be brief.", stream=stream)
        if stream:
            assert len(list(answer)) > 3
    record = kept.one()
    assert record.messages == ASK
    assert record.response == {"role": "assistant", "content": "You said: Say hello"}
    assert (record.input_tokens, record.output_tokens) == (11, 5)


def test_embeddings(fake_model: FakeModel, kept: Kept) -> None:
    with client_of(fake_model, kept) as client:
        assert len(client.embeddings.create(model="m", input=["a"], encoding_format="float").data) == 1
    record = kept.one()
    assert record.extra["embeddings"] == {"count": 1, "dimensions": 2}


def test_errors_pass_and_are_recorded(fake_model: FakeModel, kept: Kept) -> None:
    with client_of(fake_model, kept) as client, pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "error 429"}])
    record = kept.one()
    assert record.error is not None
    assert (record.error.type, record.success) == ("RateLimitError", False)


def test_the_async_client(fake_model: FakeModel, kept: Kept) -> None:
    async def converse() -> None:
        plain = openai.AsyncOpenAI(base_url=f"{fake_model.url}/v1", api_key="none", max_retries=0)
        async with wrap_openai(plain, kept.collector) as client:
            answers = await asyncio.gather(
                *(
                    client.chat.completions.create(model="m", messages=[{"role": "user", "content": f"n{number}"}])
                    for number in range(10)
                )
            )
            assert [answer.choices[0].message.content for answer in answers] == [f"You said: n{n}" for n in range(10)]
            async with await client.chat.completions.create(model="m", messages=ASK, stream=True) as stream:
                assert isinstance(stream, openai.AsyncStream)
                assert len([chunk async for chunk in stream]) > 3
            slow: list[Any] = [{"role": "user", "content": "slow " * 100}]
            waiting = asyncio.create_task(
                _read(await client.chat.completions.create(model="m", messages=slow, stream=True))
            )
            await asyncio.sleep(0.3)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(converse())
    found = kept.interactions()
    assert len(found) == 12
    for record in found[:11]:
        assert record.response is not None
        assert record.response["content"] == f"You said: {record.messages[-1]['content']}"
    assert found[-1].completion_status == "interrupted"


async def _read(stream: Any) -> None:
    async for _ in stream:
        pass


def test_what_we_cannot_read_never_fails_the_call(
    fake_model: FakeModel, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monkeypatch.setattr("tracemill.sdk.integrations.openai.chat_answer", broken)
    monkeypatch.setattr("tracemill.sdk.integrations.openai._request", broken)
    with client_of(fake_model, kept) as client:
        answer = client.chat.completions.create(model="m", messages=ASK)
    assert answer.choices[0].message.content == "You said: Say hello"
