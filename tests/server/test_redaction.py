"""A server that redacts: planted values come in by every route and are nowhere in its workspace afterwards."""

from __future__ import annotations

import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from tests.fake_model import MODEL, FakeModel
from tests.privacy.scanning import hits
from tests.server.conftest import Serve, Served
from tests.test_redaction import CANARIES, TEXT
from tracemill.core.codec import encode, encode_json
from tracemill.core.ids import new_id, now
from tracemill.core.records import Feedback, Interaction
from tracemill.feedback.attach import attach

ASK = [{"role": "user", "content": TEXT}]
RUN = "00000000-0000-7000-8000-000000000001"


@pytest.fixture
def served(serve: Serve, fake_model: FakeModel, tmp_path: Path) -> Served:
    """A server in front of a model that redacts, also before its own spool, and writes Lightspeed's files."""
    workspace = tmp_path / "workspace"
    collection = {
        "feedback_enabled": True,
        "feedback_storage": str(workspace / "feedback"),
        "transcripts_enabled": True,
        "transcripts_storage": str(workspace / "transcripts"),
    }
    return serve(
        redaction="standard",
        redact_in_process=True,
        upstream_url=f"{fake_model.url}/v1",
        upstream_model=MODEL,
        user_data_collection=collection,
        pending_quiet_seconds=0.2,
    )


def post(served: Served, path: str, **arguments: Any) -> httpx.Response:
    """A request that must be taken."""
    reply = served.client().post(path, **arguments)
    assert reply.is_success, (path, reply.status_code, reply.text)
    return reply


def turn() -> Interaction:
    """A record as another tracemill would send it."""
    return Interaction(
        id=new_id(),
        time=now(),
        schema_version=1,
        producer="p",
        sequence=0,
        messages=ASK,
        response={"role": "assistant", "content": TEXT},
    )


def span(**attributes: str) -> ExportTraceServiceRequest:
    """A request of one span."""
    request = ExportTraceServiceRequest()
    made = request.resource_spans.add().scope_spans.add().spans.add()
    made.trace_id, made.span_id, made.name = b"t" * 16, b"s" * 8, f"chat {TEXT}"
    made.start_time_unix_nano = made.end_time_unix_nano = time.time_ns()
    for key, value in attributes.items():
        made.attributes.append(KeyValue(key=key.replace("_x_", "."), value=AnyValue(string_value=value)))
    return request


def log_event() -> ExportLogsServiceRequest:
    """A request of one log event that waits for its span."""
    request = ExportLogsServiceRequest()
    event = request.resource_logs.add().scope_logs.add().log_records.add()
    event.trace_id, event.span_id, event.event_name = b"t" * 16, b"s" * 8, "gen_ai.user.message"
    event.time_unix_nano = time.time_ns()
    content = KeyValue(key="content", value=AnyValue(string_value=TEXT))
    event.body.kvlist_value.values.append(content)
    return request


def send_everything(served: Served) -> None:
    """One request by each route that takes content, good and bad."""
    packed = {"Content-Type": "application/vnd.tracemill.records"}
    body = b"\x92" + encode(turn()) + encode(turn())
    post(served, "/v1/records", content=body, headers=packed)
    lines = encode_json(turn()) + b'\n{"record": "interaction", "messages": "' + TEXT.encode() + b'"}\n'
    served.client().post("/v1/records", content=lines, headers={"Content-Type": "application/x-ndjson"})
    protobuf = {"Content-Type": "application/x-protobuf"}
    waiting = span(gen_ai_x_operation_x_name="chat", gen_ai_x_request_x_model="m")
    post(served, "/v1/logs", content=log_event().SerializeToString(), headers=protobuf)
    post(served, "/v1/traces", content=waiting.SerializeToString(), headers=protobuf)
    post(served, "/v1/chat/completions", json={"model": "m", "messages": ASK})
    post(served, "/v1/chat/completions", json={"model": "m", "messages": ASK, "stream": True})
    run = {"id": RUN, "trace_id": RUN, "name": "r", "run_type": "llm", "start_time": "2026-03-01T10:00:00"}
    post(served, "/runs/batch", json={"post": [{**run, "inputs": {"messages": ASK}}]})
    served.client().post("/runs/batch", json={"post": [{"id": "no id", "inputs": TEXT}]})
    post(served, "/api/v1/feedback", json={"run_id": RUN, "key": "quality", "score": 1, "comment": TEXT})
    logged = post(
        served,
        "/litellm/v1/logs",
        json=[{"id": "1", "call_type": "completion", "model": "m", "messages": ASK, "response": TEXT}],
    )
    assert logged.json()["accepted"] == 1, logged.text
    post(served, "/v1/span_annotations", json={"data": [{"span_id": "73" * 8, "name": "n", "annotator_kind": "HUMAN",
                                                        "result": {"label": "good", "explanation": TEXT}}]})  # fmt: skip
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as package:
        for name, content in (("records/1.jsonl", encode_json(turn())), ("feedback/2.json", b"{torn " + TEXT.encode())):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            package.addfile(info, io.BytesIO(content))
    kind = "application/vnd.redhat.lightspeed.periodic+tar"
    post(served, "/api/ingress/v1/upload", files={"file": ("a.tgz", file.getvalue(), kind)})


def test_whatever_comes_in_is_redacted(served: Served) -> None:
    send_everything(served)
    found = served.wait_for(8, "interaction", seconds=15)
    assert len(found) >= 8, " ".join(record.producer for record in found)
    path = served.workspace.path
    assert served.workspace.store.quarantine_count() >= 2
    assert hits(path, CANARIES) == []
    page = served.client().get("/v1/records").text
    assert not [name for name, needle in CANARIES.items() if needle.decode() in page]


def test_feedback_of_lightspeed_is_joined_though_its_texts_were_redacted_otherwise(served: Served) -> None:
    asked = {"query": f"Who reads this? {TEXT}", "attachments": []}
    answer = post(served, "/query", json=asked, headers={"x-user-id": "u"}).json()
    opinion = {
        "conversation_id": answer["conversation_id"],
        "user_question": asked["query"],
        "llm_response": answer["response"],
        "sentiment": 1,
        "user_feedback": TEXT,
    }
    post(served, "/feedback", json=opinion, headers={"x-user-id": "u"})
    (turned,) = served.records("interaction")
    (said,) = served.records("feedback")
    assert isinstance(said, Feedback)
    assert [mark.id for mark in attach(served.workspace.store).of(turned.id).feedback] == [said.id]
    files = sorted(served.workspace.path.rglob("*.json"))
    assert {path.parts[-2] for path in files} >= {"feedback"}
    assert any("transcripts" in path.parts for path in files)
    assert hits(served.workspace.path, CANARIES) == []
    assert all(json.loads(path.read_bytes()) for path in files)
