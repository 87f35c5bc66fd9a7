"""The archive over HTTP: moved, read as before, searched, priced, erased; and the server's own schedule."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx

from tests.server.conftest import Serve, Served
from tests.server.test_feedback import conversation, put
from tests.server.test_records import as_array
from tracemill.core.ids import now
from tracemill.core.records import Interaction


def old(**fields: Any) -> Interaction:
    return conversation(time=now() - timedelta(days=40), **fields)


def archive(client: httpx.Client, **parameters: Any) -> Any:
    reply = client.post("/api/feedback/archive", params=parameters)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_what_is_old_is_moved_and_read_as_before(serve: Serve) -> None:
    served = serve()
    ancient, young = old(), conversation()
    put(served, ancient, young)
    client = served.client()
    before = client.get("/v1/records").json()
    dry = archive(client, dry_run=True)
    assert (dry["records"], dry["archived"], dry["dry_run"]) == (1, 0, True)
    assert dry["before"] == dry["after"] == {"total_records": 2, "active_records": 2, "archived_records": 0}
    done = archive(client)
    assert (done["before"], done["after"]["active_records"]) == (dry["before"], 1)
    assert (done["after"]["total_records"], done["after"]["archived_records"]) == (2, 1)
    assert (done["records"], done["archived"], len(done["objects"])) == (1, 1, 1)
    assert archive(client)["archived"] == 0
    assert client.get("/v1/records").json() == before
    assert client.get(f"/v1/records/{ancient.id}").status_code == 200
    assert [record.id for record in served.workspace.store.scan_hot()] == [young.id]
    found = client.get("/api/feedback/stats").json()
    assert (found["overview"]["active_records"], found["overview"]["archived_records"]) == (1, 1)
    assert found["storage"]["cold_bytes"] > 0
    assert found["costs"]["prices"]["cold"] == "local disk"
    assert [entry.action for entry in served.workspace.audit_log.entries()] == ["archive.run", "archive.run"]


def test_a_key_of_one_project_archives_that_project(serve: Serve) -> None:
    served = serve()
    put(served, old(platform="support"), old(platform="sales"))
    done = archive(served.client(served.key("admin", project="sales")), days_old=30)
    assert list(done["platforms"]) == ["sales"]
    assert done["before"]["total_records"] == done["after"]["archived_records"] == 1
    assert len(list(served.workspace.store.scan_hot())) == 1
    assert served.client(served.key("reviewer")).post("/api/feedback/archive").status_code == 403


def test_text_is_found_in_both_tiers_by_those_who_may_see_it(serve: Serve) -> None:
    served = serve()
    me, you = (served.context.pseudonymizer.user(name) for name in ("me", "you"))

    def says(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text}]

    mine = [old(user=me, messages=says("The Zeppelin left")), conversation(user=me, messages=says("a zeppelin again"))]
    yours = [old(user=you, messages=says("zeppelin of yours")), conversation(user=you, messages=says("nothing"))]
    put(served, *mine, *yours)
    client = served.client()
    archive(client)

    def found(by: httpx.Client, **parameters: Any) -> Any:
        return by.get("/v1/search", params={"text": "zeppelin", **parameters}).json()

    assert {row["id"] for row in found(client)["data"]} == {mine[0].id, mine[1].id, yours[0].id}
    own = served.client(served.key("user", user="me"))
    assert {row["id"] for row in found(own)["data"]} == {mine[0].id, mine[1].id}
    first = found(own, limit=1)
    assert len(first["data"]) == 1
    rest = found(own, limit=5, after=first["next"])
    assert {row["id"] for row in [*first["data"], *rest["data"]]} == {mine[0].id, mine[1].id}
    assert own.get("/v1/search").status_code == 422
    assert found(own, type="feedback")["data"] == []


def test_erasure_reaches_the_archive_and_a_resend_does_not_bring_it_back(serve: Serve) -> None:
    served = serve()
    gone, stays = old(), old()
    put(served, gone, stays)
    client = served.client()
    archive(client)
    reply = client.delete(f"/api/feedback/data/{gone.id}", params={"reason": "asked for"})
    answer = reply.json()
    assert (reply.status_code, answer["status"], answer["deleted"]) == (200, "done", 1)
    assert answer["receipt"]["reason"] == "asked for"
    assert answer["receipt"]["signature"]
    assert [record.id for record in served.records()] == [stays.id]
    again = client.post("/v1/records", content=as_array(gone)).json()
    assert again["stored"] == 0
    assert again["refused"][0]["reason"] == "erased"
    assert served.workspace.quarantined() == []
    assert served.workspace.verify_archive() == []


def test_a_legal_hold_defers_an_erasure_and_says_so(serve: Serve) -> None:
    served = serve()
    kept = conversation()
    put(served, kept)
    hold = served.workspace.place_hold("interaction", kept.id, reason="case 7")
    client = served.client()
    reply = client.delete(f"/api/feedback/data/{kept.id}")
    assert (reply.status_code, reply.json()["status"], reply.json()["deleted"]) == (202, "deferred", 0)
    assert client.get(f"/v1/records/{kept.id}").status_code == 200
    served.workspace.release_hold(hold.id)
    served.workspace.maintain()
    assert client.get(f"/v1/records/{kept.id}").status_code == 404


def test_a_server_keeps_its_workspace_in_order_by_itself(serve: Serve) -> None:
    served: Served = serve(archive_interval_seconds=0.2)
    put(served, old(), conversation())
    ends = now() + timedelta(seconds=20)
    while served.workspace.store.archived_files() == [] and now() < ends:
        served.client().get("/v1/records")
    assert len(list(served.workspace.store.scan_hot())) == 1
    assert len(served.records()) == 2


def test_downloads_of_training_data_are_in_the_audit_log(serve: Serve) -> None:
    served = serve()
    put(served, old(success=True), conversation(success=True))
    client = served.client()
    archive(client)
    assert len(client.get("/api/feedback/export/support").text.splitlines()) == 2
    last = list(served.workspace.audit_log.entries())[-1]
    assert (last.action, last.target) == ("training_data.download", "support")
    assert served.workspace.audit_log.verify() == []
