"""Applications with real instrumentation, told only where to send, against a real server and a local model."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from benches.otlp_spans import requests_of_spans
from tests.fake_model import MODEL, FakeModel
from tests.server.conftest import Serve, Served
from tracemill.core.foreign import span_record_id, trace_record_id
from tracemill.core.records import Interaction, Step

ROOT = Path(__file__).resolve().parents[2]
NEW = {"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"}
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
PROTOBUF = {"Content-Type": "application/x-protobuf"}


def run(served: Served, model: FakeModel, module: str, *arguments: str, **environment: str) -> None:
    """Run an application that is told where to send by the environment alone."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": served.url, "OTEL_SERVICE_NAME": "support", "MODEL_URL": model.url}
    done = subprocess.run(
        [sys.executable, "-m", f"tests.server.applications.{module}", *arguments],
        cwd=ROOT,
        env={**inherited, **settings, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("instrumentation", "environment"),
    [("openai-v2", {CAPTURE: "true"}), ("openinference", {}), ("traceloop", {})],
    ids=["openai-v2", "openinference", "traceloop"],
)
def test_an_instrumented_application_is_captured(
    serve: Serve, fake_model: FakeModel, instrumentation: str, environment: dict[str, str]
) -> None:
    served = serve(pending_quiet_seconds=0.2)
    run(served, fake_model, "otel", instrumentation, **environment)
    calls = [record for record in served.wait_for(5, "interaction", seconds=15) if isinstance(record, Interaction)]
    assert len(calls) == 5
    calls.sort(key=lambda call: call.time)
    plain, streamed, asking, told, failed = calls
    for call in calls:
        assert call.platform == "support"
        assert call.model_requested is not None
        assert call.model_requested.name == "fake-model"
    for call in (plain, streamed):
        assert [message["role"] for message in call.messages] == ["system", "user"]
        assert [message["content"] for message in call.messages] == ["Be brief.", "Say hello"]
        assert call.response is not None
        assert call.response["content"] == "You said: Say hello"
        assert (call.input_tokens, call.output_tokens) == (11, 5)
        assert call.finish_reason == "stop"
        assert call.model is not None
        assert call.model.name == MODEL
    assert plain.model is not None
    assert plain.model.configuration["temperature"] == 0.5
    assert asking.response is not None
    (tool_call,) = asking.response["tool_calls"]
    assert (tool_call["id"], tool_call["function"]["name"]) == ("call_1", "get_weather")
    assert json.loads(tool_call["function"]["arguments"]) == {"city": "Oslo"}
    assert (asking.tools_used, asking.finish_reason) == (["get_weather"], "tool_calls")
    assert [message["role"] for message in told.messages] == ["user", "assistant", "tool", "user"]
    answer = told.messages[2]
    assert (answer["content"], answer.get("tool_call_id")) == ("rain", "call_1")
    assert told.messages[1]["tool_calls"][0]["id"] == "call_1"
    assert failed.error is not None
    assert str(failed.error.type).endswith("RateLimitError")
    assert failed.success is False


@pytest.mark.parametrize("mode", ["SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"])
def test_the_newest_conventions_are_read_from_spans_and_from_events(
    serve: Serve, fake_model: FakeModel, mode: str
) -> None:
    served = serve(pending_quiet_seconds=0.2)
    run(served, fake_model, "genai", **NEW, **{CAPTURE: mode, "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT": "true"})
    records = served.wait_for(4, seconds=15)
    interactions = sorted((r for r in records if isinstance(r, Interaction)), key=lambda record: record.time)
    root, first, second = interactions
    assert (root.kind, root.extra["agent"]) == ("agent", "forecaster")
    assert [message["role"] for message in first.messages] == ["system", "user"]
    assert first.response is not None
    assert first.response["tool_calls"][0]["function"]["name"] == "get_weather"
    assert first.tools[0]["function"]["name"] == "get_weather"
    assert (first.finish_reason, first.input_tokens, first.output_tokens) == ("tool_calls", 11, 5)
    assert second.messages[-1] == {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
    assert second.response == {"role": "assistant", "content": "It rains."}
    (tool,) = [record for record in records if isinstance(record, Step)]
    assert tool.interaction_id == root.id
    assert (tool.actions[0].tool, tool.actions[0].call_id) == ("get_weather", "call_1")
    if mode != "EVENT_ONLY":
        assert (tool.actions[0].parameters, tool.actions[0].result) == ({"city": "Oslo"}, "rain")


def test_an_agent_is_an_interaction_with_its_steps(serve: Serve, fake_model: FakeModel) -> None:
    served = serve()
    run(served, fake_model, "pydantic_agent")
    records = served.wait_for(4, seconds=15)
    (root,) = [r for r in records if isinstance(r, Interaction) and r.parent_id is None]
    calls = [record for record in records if isinstance(record, Interaction) and record is not root]
    assert root.kind == "agent"
    assert root.extra["agent"] == "forecaster"
    assert root.response is not None
    assert root.response["content"].startswith("You said: What is the weather")
    assert {call.parent_id for call in calls} == {root.id}
    assert len(calls) == 2
    tools = [record for record in records if isinstance(record, Step) and record.kind == "tool"]
    assert [(step.actions[0].tool, step.actions[0].result) for step in tools] == [("get_weather", "rain in Oslo")]
    assert tools[0].interaction_id == root.id
    assert {*(call.trace_id for call in calls), *(step.trace_id for step in tools)} == {root.trace_id}


GOLDEN: dict[str, Any] = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeSpans": [
                {
                    "scope": {"name": "by hand"},
                    "spans": [
                        {
                            "traceId": "5B8EFFF798038103D269B633813FC60C",
                            "spanId": "eee19b7ec3c1b174",
                            "name": "chat m",
                            "kind": 3,
                            "startTimeUnixNano": "1700000000000000001",
                            "endTimeUnixNano": "1700000001500000001",
                            "attributes": [
                                {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                                {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
                                {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "7"}},
                                {
                                    "key": "gen_ai.output.messages",
                                    "value": {
                                        "arrayValue": {
                                            "values": [
                                                {
                                                    "kvlistValue": {
                                                        "values": [
                                                            {"key": "role", "value": {"stringValue": "assistant"}},
                                                            {"key": "content", "value": {"stringValue": "hi"}},
                                                        ]
                                                    }
                                                }
                                            ]
                                        }
                                    },
                                },
                                {"key": "odd", "value": {"bytesValue": "AAE="}},
                            ],
                            "status": {},
                        },
                        {"traceId": "zz", "spanId": "1", "name": "unreadable"},
                    ],
                }
            ],
        }
    ]
}


def test_json_is_read_as_its_specification_says(serve: Serve) -> None:
    served = serve()
    reply = served.client().post("/v1/traces", json=GOLDEN)
    assert reply.status_code == 200
    assert reply.json()["partialSuccess"]["rejectedSpans"] == "1"
    (record,) = served.records("interaction")
    assert isinstance(record, Interaction)
    assert record.id == trace_record_id("5b8efff798038103d269b633813fc60c")
    assert (record.platform, record.input_tokens, record.duration_ms) == ("shop", 7, 1500.0)
    assert record.response == {"role": "assistant", "content": "hi"}
    assert record.extra["attributes"] == {"odd": b"\x00\x01"}
    assert served.client().post("/v1/traces", json=GOLDEN).status_code == 200
    assert len(served.records()) == 1


def test_protobuf_is_answered_in_protobuf(serve: Serve) -> None:
    served = serve()
    client = served.client()
    (body,) = requests_of_spans(3, 1)
    headers = {**PROTOBUF, "Content-Encoding": "gzip"}
    reply = client.post("/api/public/otel/v1/traces", content=gzip.compress(body), headers=headers)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/x-protobuf"
    answer = ExportTraceServiceResponse.FromString(reply.content)
    assert not answer.HasField("partial_success")
    assert len(served.records("interaction")) == 3
    request = ExportTraceServiceRequest.FromString(body)
    request.resource_spans[0].scope_spans[0].spans[0].trace_id = b""
    partly = client.post("/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
    assert ExportTraceServiceResponse.FromString(partly.content).partial_success.rejected_spans == 1
    broken = client.post("/v1/traces", content=b"\xff\xff", headers=PROTOBUF)
    assert broken.status_code == 400
    assert Status.FromString(broken.content).code == 3
    assert client.post("/v1/traces", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415


def test_a_busy_store_is_told_to_come_back(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracemill.core.errors import StoreBusyError

    served = serve()

    def busy(*_arguments: Any, **_named: Any) -> None:
        raise StoreBusyError("the store is locked")

    monkeypatch.setattr(served.workspace.store, "append_encoded", busy)
    (body,) = requests_of_spans(1, 1)
    reply = served.client().post("/v1/traces", content=body, headers=PROTOBUF)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert Status.FromString(reply.content).code == 14


def test_a_web_request_is_the_root_of_what_happened_in_it(serve: Serve) -> None:
    served = serve()
    (body,) = requests_of_spans(1, 1)
    request = ExportTraceServiceRequest.FromString(body)
    span = request.resource_spans[0].scope_spans[0].spans[0]
    root = ExportTraceServiceRequest.FromString(body)
    web = root.resource_spans[0].scope_spans[0].spans[0]
    del web.attributes[:]
    web.span_id, web.name = b"\x01" * 8, "POST /chat"
    span.parent_span_id = web.span_id
    client = served.client()
    for message in (root, request):
        reply: httpx.Response = client.post("/v1/traces", content=message.SerializeToString(), headers=PROTOBUF)
        assert reply.status_code == 200
    ends = time.monotonic() + 10
    while len(served.records()) < 2 and time.monotonic() < ends:
        time.sleep(0.05)
    by_id = {record.id: record for record in served.records()}
    assert by_id.keys() == {trace_record_id(span.trace_id.hex()), span_record_id(span.span_id.hex())}


def test_a_span_that_no_encoding_can_hold_is_quarantined_alone(serve: Serve) -> None:
    served = serve()
    deep = "[" * 198 + "]" * 198
    for value in (deep, "[" * 5000 + "]" * 5000):
        body = json.loads(json.dumps(GOLDEN))
        spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"]
        spans[1] = {**spans[0], "spanId": "eee19b7ec3c1b175", "traceId": "ab" * 16}
        spans[1]["attributes"] = [
            *spans[0]["attributes"],
            {"key": "gen_ai.tool.definitions", "value": {"stringValue": value}},
            {"key": "gen_ai.input.messages", "value": {"stringValue": f'[{{"role": "user", "content": {value}}}]'}},
        ]
        reply = served.client().post("/v1/traces", json=body)
        assert reply.status_code == 200
    assert served.client().get("/readyz").status_code == 200
    kept = {record.id for record in served.records("interaction")}
    assert trace_record_id("5b8efff798038103d269b633813fc60c") in kept
    assert len(kept) + len(served.workspace.quarantined()) >= 2
