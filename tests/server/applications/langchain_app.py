"""An application of LangChain that traces because the environment says so."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers.langchain import wait_for_all_tracers

USAGE = {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16}


@tool
def get_weather(city: str) -> str:
    """What the weather is like."""
    return f"rain in {city}"


CALL = {"name": "get_weather", "args": {"city": "Oslo"}, "id": "call_1"}
ANSWERS = [
    AIMessage(content="", tool_calls=[CALL], usage_metadata=USAGE),
    AIMessage(content=[{"type": "text", "text": "It rains."}], response_metadata={"finish_reason": "stop"}),
]
model = GenericFakeChatModel(messages=iter(ANSWERS))


def agent(given: dict[str, Any]) -> dict[str, Any]:
    """A model that calls a tool, and is told what it answered."""
    messages = [SystemMessage("Be brief."), *given["messages"]]
    asked = model.invoke(messages)
    told = get_weather.invoke(asked.tool_calls[0])
    final = model.invoke([*messages, asked, told])
    return {"messages": [*messages, asked, told, final]}


question = {"messages": [HumanMessage("What is the weather in Oslo?")]}
RunnableLambda(agent).with_config(metadata={"session_id": "session-7"}).invoke(question)
wait_for_all_tracers()
