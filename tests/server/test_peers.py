"""Other tools' own clients, unchanged but for their address, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from benches.otlp_spans import requests_of_spans
from tests.fake_model import FakeModel
from tests.server.conftest import Serve, Served
from tests.server.test_otlp import PROTOBUF, ROOT
from tracemill.core.foreign import trace_record_id
from tracemill.core.records import Feedback, Interaction, Step
from tracemill.feedback.attach import attach


def run(module: str, *arguments: str, **environment: str) -> None:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", f"tests.server.applications.{module}", *arguments],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]


def feedback(served: Served) -> dict[str, Feedback]:
    return {str(record.name): record for record in served.records("feedback") if isinstance(record, Feedback)}


def test_langfuse(serve: Serve, fake_model: FakeModel) -> None:
    served = serve(pending_quiet_seconds=0.2)
    key = served.key("ingest", project="support")
    run(
        "langfuse_app",
        LANGFUSE_BASE_URL=served.url,
        LANGFUSE_HOST=served.url,
        LANGFUSE_PUBLIC_KEY="pk-lf-any",
        LANGFUSE_SECRET_KEY=key,
        MODEL_URL=fake_model.url,
    )
    served.wait_for(4, "feedback")
    records = served.wait_for(7)
    (root,) = [r for r in records if isinstance(r, Interaction) and r.parent_id is None]
    (call,) = [r for r in records if isinstance(r, Interaction) and r.parent_id == root.id]
    (tool,) = [r for r in records if isinstance(r, Step) and r.kind == "tool"]
    assert (root.kind, root.platform) == ("agent", "support")
    assert call.messages == [{"role": "user", "content": "Say hello"}]
    assert call.response is not None
    assert call.response["content"] == "You said: Say hello"
    assert (call.input_tokens, call.output_tokens) == (11, 5)
    assert call.user == served.context.pseudonymizer.user("ada")
    assert call.conversation_id == "session-7"
    assert tool.actions[0].result == "HELLO"
    said = feedback(served)
    assert said["user-feedback"].kind == "thumbs_up"
    assert said["better"].correction == "It is so."
    assert (said["relevance"].score, said["relevance"].comment) == (0.5, "half")
    assert said["tone"].label == "kind"
    attachments = attach(served.workspace.store)
    assert attachments.unmatched == []
    joined = {mark.name: mark for mark in attachments.of(root.id).feedback}
    assert set(joined) == {"user-feedback", "better", "relevance"}
    assert not joined["relevance"].about_step
    assert [mark.name for mark in attachments.of_conversation("session-7").feedback] == ["tone"]


def test_phoenix(serve: Serve) -> None:
    served = serve()
    (first,), (second,) = requests_of_spans(1, 1), requests_of_spans(1, 1)
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    outer, inner = (ExportTraceServiceRequest.FromString(body) for body in (first, second))
    root = outer.resource_spans[0].scope_spans[0].spans[0]
    span = inner.resource_spans[0].scope_spans[0].spans[0]
    span.trace_id, span.parent_span_id = root.trace_id, root.span_id
    arguments = (root.trace_id.hex(), root.span_id.hex(), span.span_id.hex())
    key = served.key("ingest")
    run(
        "phoenix_app",
        *arguments,
        PHOENIX_BASE_URL=served.url,
        PHOENIX_COLLECTOR_ENDPOINT=served.url,
        PHOENIX_API_KEY=key,
    )
    for message in (inner, outer):  # the annotations came first
        reply = served.client(key).post("/v1/traces", content=message.SerializeToString(), headers=PROTOBUF)
        assert reply.status_code == 200
    attachments = attach(served.workspace.store)
    assert attachments.unmatched == []
    whole = {mark.name: mark for mark in attachments.of(trace_record_id(root.trace_id.hex())).feedback}
    assert set(whole) == {"thumbs_up", "quality"}
    assert whole["thumbs_up"].kind == "thumbs_up"
    (call,) = [r for r in served.records("interaction") if isinstance(r, Interaction) and r.parent_id]
    assert {mark.name for mark in attachments.of(call.id).feedback} == {"correctness", "note"}
    said = feedback(served)
    assert (said["correctness"].annotator_kind, said["correctness"].label, said["correctness"].score) == (
        "LLM",
        "right",
        0.9,
    )
    assert said["note"].comment == "look at this"
    assert [mark.name for mark in attachments.of_conversation("session-7").feedback] == ["mood"]


def test_mlflow(serve: Serve, tmp_path: Any) -> None:
    served = serve(pending_quiet_seconds=0.2)
    key = served.key("ingest")
    run("mlflow_app", MLFLOW_TRACKING_URI=served.url, MLFLOW_TRACKING_TOKEN=key, TMPDIR=str(tmp_path))
    records = served.wait_for(5)
    (root,) = [r for r in records if isinstance(r, Interaction) and r.parent_id is None]
    (call,) = [r for r in records if isinstance(r, Interaction) and r.parent_id == root.id]
    assert root.kind == "agent"
    assert call.messages == [{"role": "user", "content": "Say hello"}]
    assert call.response == {"role": "assistant", "content": "HELLO"}
    assert [r.actions[0].tool for r in records if isinstance(r, Step) and r.kind == "tool"] == ["look_up"]
    (info,) = [r for r in records if isinstance(r, Step) and r.kind == "trace_info"]
    assert len(info.outputs["trace_metadata"]["mlflow.user"]) == 64
    said = feedback(served)
    assert (said["user_feedback"].kind, said["user_feedback"].comment) == ("thumbs_up", "yes")
    assert (said["expected"].kind, said["expected"].correction) == ("edit", "Hello!")
    attachments = attach(served.workspace.store)
    assert {mark.name for mark in attachments.of(root.id).feedback} == {"user_feedback", "expected"}


def test_litellm(serve: Serve, fake_model: FakeModel) -> None:
    served = serve()
    key = served.key("ingest", project="support")
    run(
        "litellm_app",
        GENERIC_LOGGER_ENDPOINT=f"{served.url}/litellm/v1/logs",
        GENERIC_LOGGER_HEADERS=f"Authorization=Bearer {key}",
        MODEL_URL=fake_model.url,
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        DEFAULT_FLUSH_INTERVAL_SECONDS="1",
    )
    good, bad = sorted(served.wait_for(2, "interaction"), key=lambda record: record.time)
    assert isinstance(good, Interaction)
    assert isinstance(bad, Interaction)
    assert good.messages == [{"role": "user", "content": "Say hello"}]
    assert good.response is not None
    assert good.response["content"] == "You said: Say hello"
    assert (good.input_tokens, good.output_tokens, good.platform) == (11, 5, "support")
    assert good.user == served.context.pseudonymizer.user("ada")
    assert good.success
    assert "'ada'" not in str(good.extra)
    assert bad.error is not None
    assert bad.error.type == "InternalServerError"
    assert bad.success is False


CALL: dict[str, Any] = {
    "id": "c1",
    "call_type": "acompletion",
    "status": "success",
    "messages": [],
    "model": "m",
    "startTime": 1.0,
}

NONE = "a logged call is an object with id and call_type"


def test_litellm_s_forms_and_one_that_is_broken(serve: Serve) -> None:
    import json

    served = serve()
    client = served.client()
    calls = [{**CALL, "id": f"c{number}"} for number in range(3)]
    array = client.post("/litellm/v1/logs", json=[*calls, {"id": 7}, None])
    assert array.json() == {
        "accepted": 3,
        "rejected": 2,
        "errors": [f"call 3: {NONE}", f"call 4: {NONE}"],
    }
    lines = client.post("/litellm/v1/logs", content="\n".join(json.dumps(call) for call in calls))
    assert lines.json()["accepted"] == 3
    assert client.post("/litellm/v1/logs", json=calls[0]).json()["accepted"] == 1
    assert client.post("/litellm/v1/logs", content=b"{").status_code == 400
    assert len(served.records("interaction")) == 3
    assert len(served.workspace.quarantined()) == 2


def test_a_bad_score_is_refused_alone(serve: Serve) -> None:
    served = serve()
    client = served.client()
    good = {"id": "s1", "name": "n", "value": 1, "traceId": "ab" * 16}
    bad = [{"name": "n", "value": 1}, {"value": 1, "traceId": "x"}, {**good, "dataType": "TEXT"}, 7]
    reply = client.post("/api/public/scores", json=[good, *bad])
    assert reply.status_code == 207
    assert (reply.json()["accepted"], reply.json()["rejected"]) == (1, 4)
    assert client.post("/api/public/scores", json=[good]).status_code == 202
    assert client.post("/api/public/scores", json={**good, "value": 0}).json() == {"id": "s1"}
    assert client.post("/api/public/scores", json=bad[0]).status_code == 422
    assert len(served.records("feedback")) == 2  # the same score again is one, a changed one is another
    assert len(served.workspace.quarantined()) == 4  # the same bytes are kept once


def test_a_bad_annotation_is_named_and_the_others_are_stored(serve: Serve) -> None:
    served = serve()
    good = {"span_id": "1" * 16, "name": "n", "annotator_kind": "HUMAN", "result": {"score": 1.0}}
    reply = served.client().post("/v1/span_annotations", json={"data": [good, {**good, "result": {}}]})
    assert reply.status_code == 422
    assert "1 of 2" in reply.json()["error"]["hint"]
    assert len(served.records("feedback")) == 1
    assert served.client().post("/v1/span_annotations", json=[good]).status_code == 422
