"""LangChain's own core with our callback: chains, models that call tools, retrievers, errors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from tests.sdk.integrations.conftest import Kept
from tracemill.sdk.integrations.langchain import TracemillCallbackHandler

CALL = {"name": "get_weather", "args": {"city": "Oslo"}, "id": "call_1", "type": "tool_call"}


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    if city == "nowhere":
        raise ValueError("no such city")
    return f"rain in {city}"


class Shelf(BaseRetriever):
    """Finds the same thing always."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        del run_manager
        return [Document(page_content=f"about {query}", metadata={"n": 1})]


def model_saying(*answers: Any) -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=iter(answers))


def test_an_agent_s_run(kept: Kept) -> None:
    usage: Any = {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16}
    model = model_saying(
        AIMessage("", tool_calls=[CALL], usage_metadata=usage),
        AIMessage("It rains.", response_metadata={"finish_reason": "stop", "model_name": "fake"}),
    )

    def run(given: dict[str, Any]) -> dict[str, Any]:
        messages = [SystemMessage("Be brief."), *given["messages"]]
        Shelf().invoke("weather")
        first = model.invoke(messages)
        told = get_weather.invoke(first.tool_calls[0])
        last = model.invoke([*messages, first, told])
        return {"messages": [*messages, first, told, last]}

    handler = TracemillCallbackHandler(kept.collector)
    config: Any = {"callbacks": [handler], "metadata": {"thread_id": "t7", "user_id": "ada"}, "run_name": "forecaster"}
    RunnableLambda(run).invoke({"messages": [HumanMessage("the weather?")]}, config)
    root = next(record for record in kept.interactions() if record.parent_id is None)
    calls = [record for record in kept.interactions() if record.parent_id == root.id]
    assert root.id == handler.last_interaction_id
    assert (root.kind, root.conversation_id, root.tools_used) == ("agent", "t7", ["get_weather"])
    assert root.response == {"role": "assistant", "content": "It rains."}
    assert [message["role"] for message in root.messages] == ["system", "user", "assistant", "tool"]
    assert len(calls) == 2
    assert [message["role"] for message in calls[0].messages] == ["system", "user"]
    assert calls[0].response is not None
    assert calls[0].response["tool_calls"][0]["function"]["name"] == "get_weather"
    assert (calls[0].input_tokens, calls[0].output_tokens) == (11, 5)
    assert (calls[1].finish_reason, calls[1].conversation_id) == ("stop", "t7")
    steps = {step.kind: step for step in kept.steps()}
    assert set(steps) == {"tool", "retriever"}
    assert steps["tool"].actions[0].tool == "get_weather"
    assert (steps["tool"].actions[0].parameters, steps["tool"].actions[0].result) == ({"city": "Oslo"}, "rain in Oslo")
    assert steps["retriever"].inputs == "weather"
    assert steps["tool"].interaction_id == root.id


def test_a_model_alone_and_asynchronously(kept: Kept) -> None:
    handler = TracemillCallbackHandler(kept.collector)

    async def converse() -> None:
        model = model_saying("hello there", "streamed words")
        assert (await model.ainvoke("Say hello", {"callbacks": [handler]})).content == "hello there"
        assert len([piece async for piece in model.astream("Again", {"callbacks": [handler]})]) > 1

    asyncio.run(converse())
    first, second = kept.interactions()
    assert (first.kind, first.messages) == ("chat", [{"role": "user", "content": "Say hello"}])
    assert first.response == {"role": "assistant", "content": "hello there"}
    assert second.response is not None
    assert second.response["content"] == "streamed words"


def test_errors_pass_and_are_recorded(kept: Kept) -> None:
    handler = TracemillCallbackHandler(kept.collector)

    def run(question: str) -> str:
        return str(get_weather.invoke({"city": question}))

    with pytest.raises(ValueError, match="no such city"):
        RunnableLambda(run).invoke("nowhere", {"callbacks": [handler]})
    root = kept.one()
    assert root.error is not None
    assert (root.error.type, root.success) == ("ValueError", False)
    (step,) = kept.steps()
    assert step.success is False


def test_what_we_cannot_read_never_fails_the_chain(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monkeypatch.setattr("tracemill.sdk.integrations.langchain._chat", broken)
    handler = TracemillCallbackHandler(kept.collector)
    assert model_saying("fine").invoke("x", {"callbacks": [handler]}).content == "fine"
