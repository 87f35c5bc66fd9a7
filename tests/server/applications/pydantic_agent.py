"""An agent of pydantic-ai with a tool."""

from __future__ import annotations

import os

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

traces = TracerProvider()
traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(traces)
Agent.instrument_all()
model = OpenAIChatModel("fake-model", provider=OpenAIProvider(base_url=os.environ["MODEL_URL"] + "/v1", api_key="none"))
agent = Agent(model, name="forecaster", system_prompt="Be brief.")


@agent.tool_plain
def get_weather(city: str = "Oslo") -> str:
    """The weather of a city."""
    return f"rain in {city}"


agent.run_sync("What is the weather in Oslo?")
traces.shutdown()
