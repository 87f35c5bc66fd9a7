"""Applications of LangSmith's own clients, told only where to send, and what comes of the bodies they send."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fake_model import MODEL, FakeModel
from tests.server.conftest import Serve, Served
from tracemill.core.foreign import run_record_id
from tracemill.core.records import AnyRecord, Feedback, Interaction, Step
from tracemill.feedback.attach import attach

ROOT = Path(__file__).resolve().parents[2]
RUN = "00000000-0000-7000-8000-000000000001"


def run(served: Served, module: str, **environment: str) -> str:
    """Run an application that is told where to send by the environment alone; what it printed."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    settings = {"LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": served.url, "LANGSMITH_PROJECT": "support"}
    done = subprocess.run(
        [sys.executable, "-m", f"tests.server.applications.{module}"],
        cwd=ROOT,
        env={**inherited, "LANGSMITH_API_KEY": "none", **settings, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Failed to" not in done.stderr, done.stderr[-3000:]
    return done.stdout.strip()


def named(records: list[AnyRecord], name: str) -> Any:
    """The one record of a run by its name."""
    (found,) = [record for record in records if record.extra.get("name") == name]
    return found


@pytest.mark.parametrize("prefix", ["", "/api/v1"], ids=["root", "api-v1"])
def test_an_application_of_langsmith_is_captured(serve: Serve, fake_model: FakeModel, prefix: str) -> None:
    served = serve(pending_quiet_seconds=0.2)
    key = served.key("ingest")
    root_id = run(
        served,
        "langsmith_app",
        MODEL_URL=fake_model.url,
        LANGSMITH_API_KEY=key,
        LANGSMITH_ENDPOINT=served.url + prefix,
    )
    records = served.wait_for(9, seconds=15)
    assert len(records) == 9, records
    root = named(records, "answer")
    assert isinstance(root, Interaction)
    assert (root.id, root.trace_id, root.platform) == (run_record_id(root_id), root_id, "support")
    assert (root.conversation_id, root.tags, root.completion_status) == ("thread-7", ["blue"], "successful")
    assert root.user == served.context.pseudonymizer.user("lovelace")
    assert "lovelace" not in str(records)
    assert root.extra["inputs"] == {"question": "What is the weather in Oslo?"}
    tool, failed = named(records, "look_up"), named(records, "fail")
    assert (tool.interaction_id, tool.parent_id, tool.kind) == (root.id, root.id, "tool")
    assert (tool.actions[0].parameters, tool.actions[0].result) == ({"word": "hello"}, "HELLO")
    assert (failed.error.type, failed.error.message, failed.success) == ("ValueError", "no such thing", False)
    attached = named(records, "read")
    (page,) = attached.attachments
    assert (page["name"], page["mime_type"], page["size"]) == ("page", "text/plain", 6)
    assert base64.b64decode(page["content"]) == b"a page"
    _assert_calls(records, root)
    judged = [record for record in records if isinstance(record, Feedback)]
    thumb, edit = sorted(judged, key=lambda record: record.kind, reverse=True)
    assert (thumb.kind, thumb.name, thumb.comment) == ("thumbs_up", "thumbs", "good")
    assert (edit.kind, edit.correction) == ("edit", {"output": "It is raining."})
    assert edit.extra["feedback_group_id"] == root_id
    attached_to = attach(served.workspace.store)
    assert {mark.id for mark in attached_to.of(root.id).feedback} == {thumb.id, edit.id}
    assert attached_to.unmatched == []


def _assert_calls(records: list[AnyRecord], root: Interaction) -> None:
    calls = [record for record in records if isinstance(record, Interaction) and record.parent_id == root.id]
    asking, streamed, responded = sorted(calls, key=lambda call: call.time)
    for call in (asking, streamed):
        assert call.messages == [{"role": "user", "content": "What is the weather in Oslo?"}]
    assert asking.model_requested is not None
    assert asking.model is not None
    assert asking.response is not None
    assert (asking.model_requested.provider, asking.model_requested.name) == ("openai", "fake-model")
    assert (asking.model.name, asking.model.configuration["temperature"]) == (MODEL, 0.5)
    assert asking.tools[0]["function"]["name"] == "get_weather"
    (called,) = asking.response["tool_calls"]
    assert (called["id"], json.loads(called["function"]["arguments"])) == ("call_1", {"city": "Oslo"})
    assert (asking.finish_reason, asking.tools_used) == ("tool_calls", ["get_weather"])
    assert (asking.input_tokens, asking.output_tokens) == (11, 5)
    assert streamed.response is not None
    assert responded.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Say hello"},
    ]
    assert responded.response is not None
    assert responded.response["content"] == "You said: Say hello"


def test_an_application_of_langchain_is_captured(serve: Serve) -> None:
    served = serve(pending_quiet_seconds=0.2)
    run(served, "langchain_app")
    records = served.wait_for(4, seconds=15)
    assert len(records) == 4, records
    root, tool = named(records, "agent"), named(records, "get_weather")
    assert isinstance(root, Interaction)
    assert (root.platform, root.conversation_id, root.kind) == ("support", "session-7", "workflow")
    assert [message["role"] for message in root.messages] == ["system", "user", "assistant", "tool"]
    assert root.response == {"role": "assistant", "content": "It rains."}
    calls = [record for record in records if isinstance(record, Interaction) and record.parent_id == root.id]
    first, second = sorted(calls, key=lambda call: call.time)
    assert first.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the weather in Oslo?"},
    ]
    assert first.response is not None
    assert first.response["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city":"Oslo"}'}
    assert (first.input_tokens, first.output_tokens, first.tool_call_count) == (11, 5, 1)
    assert second.messages[-1] == {
        "role": "tool",
        "content": "rain in Oslo",
        "tool_call_id": "call_1",
        "name": "get_weather",
    }
    assert (second.response, second.finish_reason) == ({"role": "assistant", "content": "It rains."}, "stop")
    assert isinstance(tool, Step)
    assert (tool.actions[0].tool, tool.actions[0].call_id) == ("get_weather", "call_1")
    assert (tool.actions[0].parameters, tool.actions[0].result) == ({"city": "Oslo"}, "rain in Oslo")


def body_of(**parts: Any) -> tuple[bytes, dict[str, str]]:
    """A multipart body of parts by name (``_`` for ``.``), bytes as they are."""
    lines = []
    for name, value in parts.items():
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        head = f'--x\r\nContent-Disposition: form-data; name="{name.replace("_", ".", 2)}"\r\n'
        lines.append(head.encode() + b"Content-Type: application/json\r\n\r\n" + raw + b"\r\n")
    return b"".join(lines) + b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


WHOLE = {
    "id": RUN,
    "trace_id": RUN,
    "name": "whole",
    "start_time": "2026-03-01T10:00:00",
    "end_time": "2026-03-01T10:00:01",
}


def test_a_bad_part_is_refused_alone(serve: Serve) -> None:
    served = serve()
    content, headers = body_of(
        **{f"post_{RUN}": WHOLE, f"post_{RUN}_inputs": b"{no json", f"post_{RUN}_outputs": {"a": 1}, "post_../x": {}},
        what_ever={},
        feedback_1={"key": "", "run_id": RUN},
        feedback_2={"key": "ok", "run_id": RUN},
    )
    reply = served.client().post("/runs/multipart", content=content, headers=headers)
    assert (reply.status_code, reply.json()["rejected"]) == (202, 4)
    (interaction,) = served.records("interaction")
    assert interaction.extra["outputs"] == {"a": 1}
    assert "inputs" not in interaction.extra
    assert len(served.records("feedback")) == 1
    content, headers = body_of(what_ever={})
    assert served.client().post("/runs/multipart", content=content, headers=headers).status_code == 422
    client, cut = served.client(), b'--x\r\nContent-Disposition: form-data; name="post.1"\r\n\r\n{'
    assert client.post("/runs/multipart", content=cut, headers=headers).status_code == 400
    assert client.post("/runs/multipart", content=b"{}").status_code == 415
    no_boundary = {"Content-Type": "multipart/form-data"}
    assert client.post("/runs/multipart", content=content, headers=no_boundary).status_code == 400


def test_runs_one_by_one_and_in_batches(serve: Serve) -> None:
    served = serve(pending_quiet_seconds=0.1)
    client = served.client()
    begun = {name: value for name, value in WHOLE.items() if name != "end_time"}
    assert client.post("/runs", json=begun).status_code == 202
    assert client.patch(f"/runs/{RUN}", json={"end_time": WHOLE["end_time"], "outputs": {"a": 1}}).status_code == 202
    other = {**WHOLE, "id": RUN[:-1] + "2", "parent_run_id": RUN, "run_type": "retriever"}
    reply = client.post("/runs/batch", json={"post": [other, {"id": "x"}, 3], "patch": []})
    assert (reply.status_code, reply.json()["rejected"]) == (202, 2)
    records = {record.id: record for record in served.wait_for(2)}
    root, step = records[run_record_id(RUN)], records[run_record_id(other["id"])]
    assert isinstance(root, Interaction)
    assert isinstance(step, Step)
    assert (root.extra["outputs"], root.duration_ms, root.completion_status) == ({"a": 1}, 1000.0, "successful")
    assert (step.interaction_id, step.kind) == (root.id, "retriever")
    assert client.post("/runs/batch", json=[]).status_code == 422
    assert client.patch("/runs/nothing", json={}).status_code == 422


def test_a_key_learns_of_its_own_project_only_and_writes_to_it(serve: Serve) -> None:
    served = serve()
    client = served.client()
    client.headers["x-api-key"] = served.key("ingest", project="shop")
    assert [project["name"] for project in client.get("/sessions").json()] == ["shop"]
    assert client.get("/sessions", params={"name": "other"}).json() == []
    assert client.post("/sessions", json={"name": "other"}).json()["name"] == "shop"
    assert client.get("/info").json()["batch_ingest_config"]["use_multipart_endpoint"] is True
    assert "zstd_compression_enabled" not in client.get("/info").json()["instance_flags"]
    assert client.post("/runs", json={**WHOLE, "session_name": "other"}).status_code == 202
    (record,) = served.records("interaction")
    assert isinstance(record, Interaction)
    assert record.platform == "shop"
    client.headers["x-api-key"] = served.key("reviewer")
    assert client.post("/runs", json=WHOLE).status_code == 403
    client.headers["x-api-key"] = "wrong"
    assert client.get("/info").status_code == 401


def test_feedback_has_two_meanings_at_one_path(serve: Serve) -> None:
    served = serve()
    entry = {"run_id": RUN, "key": "thumbs_up", "score": 1}
    client = served.client()
    for _ in range(2):
        client.post("/feedback", json=entry, headers={"User-Agent": "langsmith-py/0.14"}).raise_for_status()
    client.post("/api/v1/feedback", json=entry).raise_for_status()
    (made,) = served.records("feedback")
    assert isinstance(made, Feedback)
    assert (made.kind, made.step_id) == ("thumbs_up", run_record_id(RUN))
    lightspeed = client.post("/feedback", json=entry)
    assert (lightspeed.status_code, lightspeed.json()["error"]["type"]) == (403, "feedback_disabled")
    assert client.post("/api/v1/feedback", json={"score": 1}).status_code == 422
