"""DSPy's own package with our callback."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdk.integrations.conftest import Kept

pytestmark = pytest.mark.filterwarnings("ignore")  # the package's own


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


def test_a_module_that_asks_a_model(kept: Kept) -> None:
    import dspy
    from dspy.utils import DummyLM

    from tracemill.sdk.integrations.dspy import TracemillCallback

    callback = TracemillCallback(kept.collector)
    with dspy.context(lm=DummyLM([{"answer": "forty-two"}]), callbacks=[callback]):
        found = dspy.Predict("question -> answer")(question="How many?")
    assert found.answer == "forty-two"
    root, call = sorted(kept.interactions(), key=lambda record: record.parent_id is not None)
    assert root.id == callback.last_interaction_id
    assert root.messages == [{"role": "user", "content": "How many?"}]
    assert root.response == {"role": "assistant", "content": "forty-two"}
    assert call.parent_id == root.id
    assert call.messages[-1]["role"] == "user"
    assert call.response is not None
    assert "forty-two" in call.response["content"]


def test_an_agent_with_a_tool(kept: Kept) -> None:
    import dspy
    from dspy.utils import DummyLM

    from tracemill.sdk.integrations.dspy import TracemillCallback

    said: list[dict[str, Any]] = [
        {"next_thought": "look", "next_tool_name": "get_weather", "next_tool_args": {"city": "Oslo"}},
        {"next_thought": "done", "next_tool_name": "finish", "next_tool_args": {}},
        {"reasoning": "it says so", "answer": "It rains."},
    ]
    with dspy.context(lm=DummyLM(said), callbacks=[TracemillCallback(kept.collector)]):
        found = dspy.ReAct("question -> answer", tools=[get_weather])(question="The weather in Oslo?")
    assert found.answer == "It rains."
    root = next(record for record in kept.interactions() if record.parent_id is None)
    assert (root.kind, root.response) == ("agent", {"role": "assistant", "content": "It rains."})
    assert "get_weather" in root.tools_used
    assert "trajectory" in root.reasoning
    tools = [step for step in kept.steps() if step.kind == "tool" and step.actions[0].tool == "get_weather"]
    assert [(step.actions[0].parameters, step.actions[0].result) for step in tools] == [
        ({"city": "Oslo"}, "rain in Oslo")
    ]
    assert {record.parent_id for record in kept.interactions() if record.id != root.id} == {root.id}


def test_errors_pass_and_are_recorded(kept: Kept) -> None:
    import dspy

    from tracemill.sdk.integrations.dspy import TracemillCallback

    class Failing(dspy.Module):  # type: ignore[misc]
        def forward(self, question: str) -> None:
            raise LookupError(f"no answer to {question}")

    with dspy.context(callbacks=[TracemillCallback(kept.collector)]), pytest.raises(LookupError):
        Failing()(question="x")
    root = kept.one()
    assert root.error is not None
    assert root.error.type == "LookupError"
