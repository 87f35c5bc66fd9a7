"""A server that redacts: planted values come in by every route and are nowhere in its workspace afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fake_model import MODEL, FakeModel
from tests.privacy.scanning import hits
from tests.server.conftest import Serve, Served
from tests.server.every_route import PRODUCERS, EveryRoute, routes_that_store, settled
from tests.test_redaction import CANARIES, TEXT, made_of
from tracemill.core.records import Feedback
from tracemill.feedback.attach import attach


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
        pending_expire_seconds=1.5,
    )


def post(served: Served, path: str, **arguments: Any) -> httpx.Response:
    """A request that must be taken."""
    reply = served.client().post(path, **arguments)
    assert reply.is_success, (path, reply.status_code, reply.text)
    return reply


def test_whatever_comes_in_is_redacted(served: Served) -> None:
    routes = EveryRoute(served.client(), TEXT)
    routes.everything()
    assert routes.sent == routes_that_store(), "a new route is sent to in every_route.py"
    assert settled(served) == 0
    store = served.workspace.store
    assert {record.producer.partition(":")[0] for record in served.records()} >= PRODUCERS
    assert store.quarantine_count() >= 8
    assert hits(served.workspace.path, CANARIES) == []
    client = served.client()
    pages = [client.get(path).text for path in ("/v1/records?limit=1000", "/v1/quarantine")]
    assert not [name for name, needle in CANARIES.items() for page in pages if needle.decode() in page]
    made_of(served.workspace)
    assert hits(served.workspace.path, CANARIES) == []


def test_without_redaction_every_route_keeps_them(serve: Serve, fake_model: FakeModel) -> None:
    """The search above can fail, for whatever is sent by any route."""
    served = serve(
        upstream_url=f"{fake_model.url}/v1",
        upstream_model=MODEL,
        user_data_collection={"feedback_enabled": True},
        pending_quiet_seconds=0.2,
        pending_expire_seconds=1.5,
    )
    EveryRoute(served.client(), TEXT).everything()
    assert settled(served) == 0
    silent = [record for record in served.records() if "Zephyrine" not in repr(record)]
    assert [record.extra.get("unreadable_request") for record in silent] == [True]  # of which nothing is kept
    operations = {record.extra.get("operation") for record in served.records("interaction")}
    assert operations >= {"chat", "responses", "embeddings"}


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
