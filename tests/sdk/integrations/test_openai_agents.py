"""The OpenAI Agents SDK with our tracing processor, against a local model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import agents
import openai
import pytest

from tests.fake_model import FakeModel
from tests.sdk.integrations.conftest import Kept
from tracemill.sdk.integrations.openai_agents import TracemillTracingProcessor


@agents.function_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


@pytest.fixture
def processor(kept: Kept) -> Iterator[TracemillTracingProcessor]:
    made = TracemillTracingProcessor(kept.collector)
    agents.set_trace_processors([made])
    agents.set_tracing_disabled(False)
    yield made
    agents.set_trace_processors([])


async def converse(interface: str, url: str) -> str:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        model: agents.Model = agents.OpenAIChatCompletionsModel("fake-model", client)
        if interface == "responses":
            model = agents.OpenAIResponsesModel("fake-model", client)
        agent = agents.Agent(name="forecaster", instructions="Be brief.", model=model, tools=[get_weather])
        with agents.trace("forecast", group_id="c7", metadata={"user_id": "ada"}):
            found = await agents.Runner.run(agent, "the weather in Oslo?")
        return str(found.final_output)


@pytest.mark.parametrize("interface", ["chat", "responses"])
def test_a_workflow(processor: TracemillTracingProcessor, fake_model: FakeModel, kept: Kept, interface: str) -> None:
    assert asyncio.run(converse(interface, fake_model.url)).startswith("You said: the weather")
    root = next(record for record in kept.interactions() if record.parent_id is None)
    calls = [record for record in kept.interactions() if record.parent_id == root.id]
    assert root.id == processor.last_interaction_id
    assert (root.kind, root.conversation_id, root.tools_used) == ("agent", "c7", ["get_weather"])
    assert root.user is not None
    assert root.response is not None
    assert root.response["content"].startswith("You said: the weather")
    assert len(calls) == 2
    assert calls[0].response is not None
    assert calls[0].response["tool_calls"][0]["function"]["name"] == "get_weather"
    assert [message["role"] for message in calls[1].messages][-2:] == ["assistant", "tool"]
    assert (calls[1].input_tokens, calls[1].output_tokens) == (11, 5)
    kinds = {step.kind for step in kept.steps()}
    assert {"agent", "tool"} <= kinds
    (tool,) = [step for step in kept.steps() if step.kind == "tool"]
    assert (tool.actions[0].tool, tool.actions[0].result) == ("get_weather", "rain in Oslo")
    assert tool.interaction_id == root.id
