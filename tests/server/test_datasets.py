"""Proposals, decisions, comparison and rollback over HTTP; who may is in test_access."""

from __future__ import annotations

import sys
from typing import Any

import httpx

from tests.dataset.support import chat_records, record_id
from tests.server.conftest import Serve, Served

RECIPE = {"name": "d", "split": {"train": 0.5, "test": 0.5}, "gates": {"maximum_lost": 0.5}}


def opened(serve: Serve) -> tuple[Served, httpx.Client]:
    served = serve()
    put(served, *range(12))
    return served, served.client(served.key("admin"))


def put(served: Served, *numbers: int) -> None:
    assert not served.workspace.store.append(chat_records(numbers)).refused


def send(client: httpx.Client, path: str, status: int = 200, **body: Any) -> Any:
    reply = client.post(f"/v1/datasets/{path}", json=body)
    assert reply.status_code == status, reply.text
    return reply.json()


def test_the_whole_way(serve: Serve) -> None:
    served, client = opened(serve)
    first = send(client, "proposals", 201, recipe=RECIPE)
    assert (first["reference"], first["proposal"]["status"], first["changes"]) == ("d@v1", "waiting", None)
    assert all(gate["passed"] for gate in first["proposal"]["gates"])
    approved = send(client, "d/v1/approve", reason="good")
    assert approved["proposal"]["status"] == "approved"
    assert approved["proposal"]["decided_by"].startswith("key:")
    put(served, 20)
    second = send(client, "proposals", 201, recipe=RECIPE)
    assert second["changes"]["added"] == {"new_record": 1}
    listed = client.get("/v1/datasets").json()["data"]
    assert [(entry["reference"], entry["current"]) for entry in listed] == [("d@v1", True), ("d@v2", False)]
    assert "README.md" in listed[0]["documents"]
    assert str(served.workspace.path) not in client.get("/v1/datasets").text
    send(client, "d/v2/approve")
    changes = client.get("/v1/datasets/d/diff", params={"before": "v1"}).json()
    assert (changes["before"], changes["after"], changes["added"]) == ("d@v1", "d@v2", {"new_record": 1})
    assert send(client, "d/rollback", to="v1") == {"current": "d@v1"}
    history = client.get("/v1/datasets/d/history").json()["data"]
    assert [entry["added"] for entry in history] == [None, 1]
    assert client.get("/v1/datasets", params={"name": "other"}).json() == {"data": []}
    actions = [(entry.action, entry.target) for entry in served.workspace.audit_log.entries()]
    assert actions == [
        ("dataset.propose", "d@v1"),
        ("dataset.approve", "d@v1"),
        ("dataset.propose", "d@v2"),
        ("dataset.approve", "d@v2"),
        ("dataset.rollback", "d@v1"),
    ]


def test_what_cannot_be_is_said_in_the_one_shape(serve: Serve) -> None:
    served, client = opened(serve)
    send(client, "proposals", 201, recipe={**RECIPE, "gates": {"minimum_rows": 1000}})
    for path, body, status, word in (
        ("d/v1/approve", {}, 409, "conflict"),
        ("d/v1/approve", {"override": True}, 409, "conflict"),
        ("d/v1/approve", {"overide": True}, 422, "invalid"),
        ("d/v1/refuse", {}, 422, "invalid"),
        ("d/v1/refuse", {"reason": ""}, 409, "conflict"),
        ("d/v9/approve", {}, 404, "not_found"),
        ("..%2Fd/v1/approve", {}, 404, "not_found"),
        ("d/rollback", {"to": "v1"}, 409, "conflict"),
        ("d/rollback", {"to": "v3"}, 404, "not_found"),
        ("proposals", {"recipe": {"name": "../x"}}, 400, "bad_request"),
        ("proposals", {"recipe": {"nam": "x"}}, 400, "bad_request"),
        ("proposals", {"recipe": {"steps": ["os:system"]}}, 422, "invalid"),
        ("proposals", {"recipe": {"steps": [{"os:system": {"command": "x"}}]}}, 422, "invalid"),
    ):
        reply = client.post(f"/v1/datasets/{path}", json=body)
        assert (reply.status_code, reply.json()["error"]["type"]) == (status, word), (path, body, reply.text)
    done = send(client, "d/v1/approve", override=True, reason="a small one")
    assert done["proposal"]["overridden"] is True
    assert client.get("/v1/datasets/nothing/history").status_code == 404
    assert client.get("/v1/datasets/d/diff", params={"before": "v7"}).status_code == 404
    served.workspace.erase("interaction", record_id("3"))
    stones = [entry["tombstone"] is not None for entry in client.get("/v1/datasets").json()["data"]]
    assert stones == [True, False]


def test_a_key_of_one_project_sees_no_dataset(serve: Serve) -> None:
    served, _ = opened(serve)
    bound = served.client(served.key("admin", project="web"))
    for reply in (
        bound.get("/v1/datasets"),
        bound.get("/v1/datasets/d/history"),
        bound.post("/v1/datasets/proposals", json={}),
        bound.post("/v1/datasets/d/rollback", json={"to": "v1"}),
    ):
        assert (reply.status_code, reply.json()["error"]["type"]) == (403, "wrong_project")


def test_no_recipe_sent_here_runs_code_of_its_own(serve: Serve) -> None:
    """Importing a module runs it: neither a step nor a feature names one."""
    _, client = opened(serve)
    for key in ("steps", "features"):
        sys.modules.pop("this", None)
        refused = send(client, "proposals", 422, recipe={**RECIPE, key: ["this:d"]})
        assert refused["error"]["param"] == f"recipe.{key}"
        assert "this" not in sys.modules
