"""OTLP requests of language-model spans as OpenInference writes them: what Phoenix and we are both given."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from benches.trajectories import single_turns
from tracemill.core.messages import text
from tracemill.core.records import Interaction


def requests_of_spans(batch: int, number: int) -> Iterator[bytes]:
    """Bodies of so many requests with so many spans each, every span a trace of its own."""
    turns = single_turns(batch * number)
    for _ in range(number):
        spans = [_span(turn) for _, turn in zip(range(batch), turns, strict=False)]
        resource = ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])
        resource.resource.attributes.append(_attribute("service.name", "support"))
        yield ExportTraceServiceRequest(resource_spans=[resource]).SerializeToString()


def _span(turn: Interaction) -> Span:
    end = time.time_ns()
    attributes: dict[str, str | int] = {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-4o",
        "llm.provider": "openai",
        "session.id": str(turn.conversation_id),
        "llm.token_count.prompt": turn.input_tokens or 0,
        "llm.token_count.completion": turn.output_tokens or 0,
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": text(turn.response or {}),
    }
    for index, message in enumerate(turn.messages):
        attributes[f"llm.input_messages.{index}.message.role"] = message["role"]
        attributes[f"llm.input_messages.{index}.message.content"] = message["content"]
    return Span(
        trace_id=os.urandom(16),
        span_id=os.urandom(8),
        name="ChatCompletion",
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=end - 800_000_000,
        end_time_unix_nano=end,
        attributes=[_attribute(key, value) for key, value in attributes.items()],
        status=Status(code=Status.STATUS_CODE_OK),
    )


def _attribute(key: str, value: str | int) -> KeyValue:
    return KeyValue(
        key=key, value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
    )
