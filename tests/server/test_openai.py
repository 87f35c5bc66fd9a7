"""The official client against the proxy, a local model behind it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import openai
import pytest

from tests.fake_model import MODEL, FakeModel
from tests.server.conftest import Serve, Served
from tracemill.core.records import Interaction

ASK: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello"}]
TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture
def served(serve: Serve, fake_model: FakeModel) -> Served:
    return serve(upstream_url=f"{fake_model.url}/v1", upstream_api_key="sk-upstream")


def client_of(served: Served, **arguments: Any) -> openai.OpenAI:
    client = openai.OpenAI(base_url=f"{served.url}/v1", **{"api_key": "none", "max_retries": 0, **arguments})
    served.clients.append(client)
    return client


def recorded(served: Served, number: int = 1) -> list[Interaction]:
    found = served.wait_for(number, "interaction")
    assert len(found) == number
    return [record for record in found if isinstance(record, Interaction)]


def test_a_call_is_answered_and_recorded(served: Served, fake_model: FakeModel) -> None:
    raw = client_of(served).chat.completions.with_raw_response.create(
        model="m", messages=ASK, temperature=0.3, user="ada", metadata={"conversation_id": "c7"}
    )
    answer = raw.parse()
    assert answer.choices[0].message.content == "You said: Say hello"
    assert answer.usage is not None
    (record,) = recorded(served)
    assert record.id == raw.headers["x-tracemill-interaction-id"]
    assert raw.headers["x-request-id"]
    assert record.messages == ASK
    assert record.response == {"role": "assistant", "content": "You said: Say hello"}
    assert record.model is not None
    assert record.model_requested is not None
    assert (record.model.name, record.model_requested.name) == (MODEL, "m")
    assert record.model.configuration == {"temperature": 0.3}
    assert (record.input_tokens, record.output_tokens, record.finish_reason) == (11, 5, "stop")
    assert (record.conversation_id, record.success, record.completion_status) == ("c7", True, "successful")
    assert record.user == served.context.pseudonymizer.user("ada")
    assert record.duration_ms is not None
    seen = fake_model.requests[-1]
    assert seen["headers"]["authorization"] == "Bearer sk-upstream"
    assert seen["body"]["temperature"] == 0.3


@pytest.mark.parametrize("usage", [True, False])
def test_a_stream_is_passed_on_and_put_together(served: Served, usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if usage else {}
    with client_of(served).chat.completions.create(model="m", messages=ASK, stream=True, **options) as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == "You said: Say hello"
    (record,) = recorded(served)
    assert record.response == {"role": "assistant", "content": text}
    assert record.output_tokens == (5 if usage else None)
    assert record.extra["time_to_first_byte_ms"] > 0


def test_a_stream_is_not_held_back(served: Served) -> None:
    began = time.monotonic()
    with client_of(served).chat.completions.create(
        model="m", messages=[{"role": "user", "content": "slow " * 20}], stream=True
    ) as stream:
        moments = [time.monotonic() - began for _ in stream]
    assert moments[-1] - moments[0] > 0.5  # twenty pieces with pauses between them: they did not come at once


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_are_recorded_as_the_client_saw_them(served: Served, stream: bool) -> None:
    ask: list[Any] = [{"role": "user", "content": "the weather?"}]
    answer = client_of(served).chat.completions.create(model="m", messages=ask, tools=[TOOL], stream=stream)
    if stream:
        for _ in answer:
            pass
    (record,) = recorded(served)
    assert record.response is not None
    (call,) = record.response["tool_calls"]
    assert call["id"] == "call_1"
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
    assert (record.finish_reason, record.tools_used, record.tools) == ("tool_calls", ["get_weather"], [TOOL])


@pytest.mark.parametrize("stream", [False, True])
def test_the_responses_interface(served: Served, stream: bool) -> None:
    client = client_of(served)
    answer = client.responses.create(model="m", input="Say hello", instructions="Be brief.", stream=stream)
    if stream:
        for _ in answer:
            pass
    (record,) = recorded(served)
    assert record.messages == ASK
    assert record.response == {"role": "assistant", "content": "You said: Say hello"}
    assert (record.input_tokens, record.output_tokens, record.response_id) == (11, 5, "resp_1")
    tool: Any = {"type": "function", "name": "get_weather", "parameters": {}, "strict": False}
    told: list[Any] = [
        {"role": "user", "content": "the weather?"},
        {"type": "function_call", "call_id": "call_0", "name": "get_weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_0", "output": "rain"},
        {"role": "user", "content": [{"type": "input_text", "text": "and the weather now?"}]},
    ]
    client.responses.create(model="m", input=told, tools=[tool])
    record = max(recorded(served, 2), key=lambda found: found.id)
    assert [message["role"] for message in record.messages] == ["user", "assistant", "tool", "user"]
    assert record.messages[3]["content"] == "and the weather now?"
    assert record.response is not None
    assert record.response["tool_calls"][0]["id"] == "call_1"


def test_embeddings_and_models(served: Served) -> None:
    client = client_of(served)
    assert len(client.embeddings.create(model="m", input=["a", "b"], encoding_format="float").data) == 2
    (record,) = recorded(served)
    assert record.extra["embeddings"] == {"count": 2, "dimensions": 2}
    assert [entry.id for entry in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")
    assert len(served.records()) == 1


def test_the_model_s_own_errors_are_passed_through(served: Served) -> None:
    client = client_of(served)
    with pytest.raises(openai.RateLimitError) as limited:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "error 429"}])
    assert limited.value.response.headers["retry-after"] == "7"
    assert limited.value.code == "fake_429"
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "error 500"}])
    first, second = sorted(recorded(served, 2), key=lambda record: record.id)
    assert first.error is not None
    assert second.error is not None
    assert (first.error.type, first.error.message, first.success) == ("fake_error", "as asked for", False)
    assert second.error.detail == {"status": 500, "code": "fake_500"}


def test_a_client_that_goes_away_is_told_upstream_and_the_rest_is_kept(served: Served, fake_model: FakeModel) -> None:
    stream = client_of(served).chat.completions.create(
        model="m", messages=[{"role": "user", "content": "slow " * 200}], stream=True
    )
    for number, _ in enumerate(stream):
        if number == 5:
            break
    stream.close()
    assert fake_model.gone.wait(10)
    (record,) = recorded(served)
    assert (record.completion_status, record.success) == ("interrupted", False)
    assert record.response is not None
    assert record.response["content"].startswith("You said: slow")


def test_several_at_once_do_not_mix(served: Served) -> None:
    async def ask(client: openai.AsyncOpenAI, number: int) -> str:
        answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": f"n{number}"}])
        return answer.choices[0].message.content or ""

    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="x") as client:
            return await asyncio.gather(*(ask(client, number) for number in range(40)))

    assert asyncio.run(all_of_them()) == [f"You said: n{number}" for number in range(40)]
    for record in recorded(served, 40):
        assert record.response is not None
        assert record.response["content"] == f"You said: {record.messages[0]['content']}"


def test_a_failed_recording_never_fails_the_call(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracemill.core.errors import StoreError

    def broken(*_arguments: Any, **_named: Any) -> None:
        raise StoreError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(served.workspace.store, "append_encoded", broken)
        answer = client_of(served).chat.completions.create(model="m", messages=ASK)
        assert answer.choices[0].message.content == "You said: Say hello"
        with client_of(served).chat.completions.create(model="m", messages=ASK, stream=True) as stream:
            assert len(list(stream)) > 3
        ends = time.monotonic() + 10
        while served.context.recorder.counts().captured < 2 and time.monotonic() < ends:
            time.sleep(0.01)
        patch.setattr("tracemill.capture.proxy.exchange.Exchange.fields", broken)
        assert client_of(served).chat.completions.create(model="m", messages=ASK).choices
        counted, ends = b'tracemill_capture_failures_total{source="proxy"} 1.0', time.monotonic() + 10
        while counted not in (page := served.client().get("/metrics").content) and time.monotonic() < ends:
            time.sleep(0.05)
        assert counted in page, [line for line in page.splitlines() if b"capture" in line]
    assert len(recorded(served, 2)) == 2  # the spool kept them while the store was broken


def test_what_is_no_json_is_passed_on_too(served: Served) -> None:
    reply = served.client().post("/v1/chat/completions", content=b"not json")
    assert reply.status_code >= 400 or reply.content  # whatever the model makes of it


def test_without_a_model_it_says_what_to_set(serve: Serve) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        client_of(serve()).chat.completions.create(model="m", messages=ASK)
    assert raised.value.status_code == 503
    assert "upstream_url" in raised.value.response.json()["error"]["hint"]


def test_a_model_that_is_away(serve: Serve) -> None:
    served = serve(upstream_url="http://127.0.0.1:9/v1")
    with pytest.raises(openai.InternalServerError) as raised:
        client_of(served).chat.completions.create(model="m", messages=ASK)
    assert raised.value.status_code == 502
    (record,) = recorded(served)
    assert record.error is not None
    assert record.error.type == "upstream_unreachable"


def test_our_keys_stay_here(serve: Serve, fake_model: FakeModel) -> None:
    served = serve(upstream_url=f"{fake_model.url}/v1")
    client_of(served, api_key="sk-their-own").chat.completions.create(model="m", messages=ASK)
    assert fake_model.requests[-1]["headers"]["authorization"] == "Bearer sk-their-own"
    key = served.key("ingest", project="support")
    with pytest.raises(openai.AuthenticationError):
        client_of(served).chat.completions.create(model="m", messages=ASK)
    client_of(served, api_key=key).chat.completions.create(model="m", messages=ASK)
    assert key not in str(fake_model.requests[-1])
    assert recorded(served, 2)[-1].platform == "support"
