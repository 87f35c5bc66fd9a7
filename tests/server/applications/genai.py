"""An agent whose framework writes the newest GenAI conventions, through OpenTelemetry's own library for that."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.util.genai.handler import get_telemetry_handler
from opentelemetry.util.genai.types import (
    FunctionToolDefinition,
    InputMessage,
    OutputMessage,
    TextPart,
    ToolCallRequestPart,
    ToolCallResponsePart,
)

traces, logs = TracerProvider(), LoggerProvider()
traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
trace.set_tracer_provider(traces)
set_logger_provider(logs)
handler = get_telemetry_handler()
weather = FunctionToolDefinition(name="get_weather", description="d", parameters={"type": "object"})
asked = InputMessage("user", [TextPart("What is the weather in Oslo?")])
call = ToolCallRequestPart(arguments={"city": "Oslo"}, name="get_weather", id="call_1")
with handler.invoke_local_agent(request_model="fake-model", agent_name="forecaster"):
    with handler.inference("openai", request_model="fake-model") as first:
        first.system_instruction = [TextPart("Be brief.")]
        first.input_messages = [asked]
        first.tool_definitions = [weather]
        first.output_messages = [OutputMessage("assistant", [call], "tool_call")]
        first.input_tokens, first.output_tokens = 11, 5
    with handler.tool("get_weather") as tool:
        tool.tool_call_id, tool.arguments, tool.tool_result = "call_1", {"city": "Oslo"}, "rain"
    with handler.inference("openai", request_model="fake-model") as second:
        told = InputMessage("tool", [ToolCallResponsePart(response="rain", id="call_1")])
        second.input_messages = [asked, InputMessage("assistant", [call]), told]
        second.output_messages = [OutputMessage("assistant", [TextPart("It rains.")], "stop")]
logs.shutdown()
traces.shutdown()
