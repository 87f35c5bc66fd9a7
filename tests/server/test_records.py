"""The native way in and out."""

from __future__ import annotations

import gzip
import json
from typing import Any

import msgspec
import pytest
import zstandard

from tests.server.conftest import Serve
from tracemill.core.codec import decode_json, encode, encode_json
from tracemill.core.ids import new_id, now
from tracemill.core.records import SCHEMA_VERSION, Feedback, Interaction, User
from tracemill.server.batches import MEDIA_TYPE


def interaction(**fields: Any) -> Interaction:
    base = {"id": new_id(), "time": now(), "schema_version": SCHEMA_VERSION, "producer": "test", "sequence": 0}
    return Interaction(**{**base, "messages": [{"role": "user", "content": "hello"}], **fields})


def as_array(*records: Any) -> bytes:
    return b"[" + b",".join(encode_json(record) for record in records) + b"]"


def test_a_batch_is_stored_when_it_is_answered(serve: Serve) -> None:
    served = serve()
    sent = [interaction(sequence=number) for number in range(3)]
    reply = served.client().post("/v1/records", content=as_array(*sent))
    assert reply.status_code == 200
    assert reply.json() == {"stored": 3, "duplicates": 0, "refused": []}
    assert served.records() == sent


@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd", "deflate"])
@pytest.mark.parametrize("form", ["array", "lines", "packed"])
def test_every_form_and_encoding_says_the_same(serve: Serve, encoding: str, form: str) -> None:
    import zlib

    sent = [interaction(), interaction(response={"role": "assistant", "content": "hi"})]
    body, kind = {
        "array": (as_array(*sent), "application/json"),
        "lines": (b"\n".join(map(encode_json, sent)), "application/x-ndjson"),
        "packed": (msgspec.msgpack.encode([msgspec.Raw(encode(record)) for record in sent]), MEDIA_TYPE),
    }[form]
    packed = {
        "identity": body,
        "gzip": gzip.compress(body),
        "zstd": zstandard.compress(body),
        "deflate": zlib.compress(body),
    }[encoding]
    served = serve()
    headers = {"Content-Type": kind, "Content-Encoding": encoding}
    reply = served.client().post("/v1/records", content=packed, headers=headers)
    assert reply.json() == {"stored": 2, "duplicates": 0, "refused": []}
    again = served.client().post("/v1/records", content=packed, headers=headers)
    assert again.json() == {"stored": 0, "duplicates": 2, "refused": []}
    assert served.records() == sent


def test_a_refused_record_is_named_and_its_mates_are_stored(serve: Serve) -> None:
    served = serve()
    good = interaction()
    conflicting = msgspec.structs.replace(good, intent="another")
    entries = [encode_json(good), b'{"record": "nothing"}', encode_json(conflicting), b"7"]
    reply = served.client().post("/v1/records", content=b"[" + b",".join(entries) + b"]")
    answer = reply.json()
    assert (reply.status_code, answer["stored"], answer["duplicates"]) == (200, 1, 0)
    assert [(refused["index"], refused["reason"]) for refused in answer["refused"]] == [
        (1, "invalid"),
        (2, "conflict"),
        (3, "invalid"),
    ]
    assert len(served.workspace.quarantined()) == 3


def test_what_is_no_batch_is_an_error_that_says_so(serve: Serve) -> None:
    client = serve().client()
    for body, kind in ((b"[1, 2", "application/json"), (b"\xc1", MEDIA_TYPE)):
        reply = client.post("/v1/records", content=body, headers={"Content-Type": kind})
        error = reply.json()["error"]
        assert (reply.status_code, error["type"]) == (400, "malformed_batch")
        assert error["request_id"] == reply.headers["x-request-id"]


def test_bombs_and_large_bodies_are_refused(serve: Serve) -> None:
    served = serve(body_max_bytes=4 * 1024 * 1024, batch_max_records=2)
    client = served.client()
    zeros = b" " * (64 * 1024 * 1024)
    bombs = {"gzip": gzip.compress(zeros), "zstd": zstandard.compress(zeros)}
    for encoding, bomb in bombs.items():
        reply = client.post("/v1/records", content=bomb, headers={"Content-Encoding": encoding})
        assert reply.status_code == 413, encoding
    ratio = gzip.compress(b" " * (3 * 1024 * 1024))
    assert client.post("/v1/records", content=ratio, headers={"Content-Encoding": "gzip"}).status_code == 413
    twice = gzip.compress(b"[") + gzip.compress(b"]")  # members one after another are one body
    assert client.post("/v1/records", content=twice, headers={"Content-Encoding": "gzip"}).status_code == 200
    assert client.post("/v1/records", content=b" " * (5 * 1024 * 1024)).status_code == 413
    assert client.post("/v1/records", content=b"x", headers={"Content-Encoding": "br"}).status_code == 415
    assert client.post("/v1/records", content=b"x", headers={"Content-Encoding": "gzip"}).status_code == 400
    torn = gzip.compress(as_array(interaction()))[:-9]
    assert client.post("/v1/records", content=torn, headers={"Content-Encoding": "gzip"}).status_code == 400
    many = client.post("/v1/records", content=as_array(*(interaction() for _ in range(3))))
    assert (many.status_code, many.json()["error"]["type"]) == (413, "too_many_records")
    assert served.records() == []


POISON = [
    b"[" * 100_000,
    b'[{"a":' * 50_000,
    b'[{"record":"interaction","extra":' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
    b'[{"x": NaN}]',
    b'[{"x": 1e999}]',
    b'["\\ud800"]',
    b'[{"n": ' + b"9" * 5000 + b"}]",
    b"\xff\xfe\x00",
    b"",
    b"null",
    b"[null, [], {}, true]",
]


@pytest.mark.parametrize("body", POISON, ids=range(len(POISON)))
def test_poison_is_answered_and_the_server_goes_on(serve: Serve, body: bytes) -> None:
    served = serve()
    client = served.client()
    reply = client.post("/v1/records", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (200, 400, 413)
    good = interaction()
    assert client.post("/v1/records", content=as_array(good)).json()["stored"] == 1
    assert served.records() == [good]


def test_odd_values_come_back_as_they_were_sent(serve: Serve) -> None:
    served = serve()
    odd = {"big": 2**70, "nan": float("inf"), "nul": "a\x00b", "half": "\ud800", "minus": -0.0}
    sent = interaction(extra=odd)
    client = served.client()
    assert client.post("/v1/records", content=as_array(sent)).json()["stored"] == 1
    assert served.records() == [sent]
    assert decode_json(client.get(f"/v1/records/{sent.id}").content) == sent


def test_records_are_read_in_pages(serve: Serve) -> None:
    served = serve(page_max_records=2)
    sent = [interaction(sequence=number, conversation_id="c" if number % 2 else None) for number in range(5)]
    client = served.client()
    client.post("/v1/records", content=as_array(*sent))
    found, after = [], 0
    for _ in range(3):
        page = client.get("/v1/records", params={"after": after, "limit": 100}).json()
        found += [entry["id"] for entry in page["data"]]
        after = page.get("next", 0)
    assert found == [record.id for record in sent]
    assert after == 0
    some = client.get("/v1/records", params={"conversation_id": "c", "type": "interaction"}).json()
    assert [entry["id"] for entry in some["data"]] == [sent[1].id, sent[3].id]
    assert client.get("/v1/records", params={"type": "nothing"}).status_code == 422
    assert client.get("/v1/records", params={"interaction_id": "x"}).status_code == 422
    assert client.get("/v1/records", params={"since": "2026-01-01T00:00:00"}).status_code == 422


def test_an_interaction_is_read_with_its_feedback(serve: Serve) -> None:
    served = serve()
    asked = interaction()
    said = Feedback(
        id=new_id(), time=now(), schema_version=SCHEMA_VERSION, producer="t", sequence=0, kind="thumbs_up",
        interaction_id=asked.id,
    )  # fmt: skip
    client = served.client()
    client.post("/v1/records", content=as_array(said, asked))
    whole = client.get(f"/v1/interactions/{asked.id}").json()
    assert whole["interaction"]["id"] == asked.id
    assert [entry["id"] for entry in whole["feedback"]] == [said.id]
    assert client.get(f"/v1/interactions/{said.id}").status_code == 404


def test_a_user_reads_only_what_is_theirs(serve: Serve) -> None:
    served = serve()
    mine, other = (served.context.pseudonymizer.user(name) for name in ("me", "you"))
    records = [interaction(user=mine), interaction(user=other), interaction()]
    said = Feedback(
        id=new_id(), time=now(), schema_version=SCHEMA_VERSION, producer="t", sequence=0, kind="report",
        interaction_id=records[0].id, user=other,
    )  # fmt: skip
    served.client(served.key("admin")).post("/v1/records", content=as_array(*records, said))
    client = served.client(served.key("user", user="me"))
    assert {entry["id"] for entry in client.get("/v1/records").json()["data"]} == {records[0].id, said.id}
    assert client.get(f"/v1/records/{records[0].id}").status_code == 200
    assert client.get(f"/v1/records/{said.id}").status_code == 200
    for hidden in records[1:]:
        assert client.get(f"/v1/records/{hidden.id}").status_code == 404
        assert client.get(f"/v1/interactions/{hidden.id}").status_code == 404
    nobody = served.client(served.key("user"))
    assert nobody.get("/v1/records").json()["data"] == []


def test_a_key_of_a_project_writes_and_reads_it_alone(serve: Serve) -> None:
    served = serve()
    ingest = served.client(served.key("ingest", project="support"))
    named, unnamed, foreign = interaction(platform="support"), interaction(), interaction(platform="sales")
    answer = ingest.post("/v1/records", content=as_array(named, unnamed, foreign)).json()
    assert (answer["stored"], answer["refused"][0]["reason"], answer["refused"][0]["index"]) == (2, "wrong_project", 2)
    packed = msgspec.msgpack.encode([msgspec.Raw(encode(foreign)), msgspec.Raw(encode(interaction()))])
    answer = ingest.post("/v1/records", content=packed, headers={"Content-Type": MEDIA_TYPE}).json()
    assert (answer["stored"], answer["refused"][0]["reason"]) == (1, "wrong_project")
    assert {record.platform for record in served.records()} == {"support"}
    served.client(served.key("admin")).post("/v1/records", content=as_array(foreign))
    reviewer = served.client(served.key("reviewer", project="support"))
    assert len(reviewer.get("/v1/records").json()["data"]) == 3
    assert reviewer.get(f"/v1/records/{foreign.id}").status_code == 404
    assert reviewer.get("/v1/records", params={"platform": "sales"}).status_code == 403


def test_a_quarantine_listing_holds_no_content(serve: Serve) -> None:
    served = serve()
    served.client().post("/v1/records", content=b'[{"record": "interaction", "secret": "hunter2"}]')
    reply = served.client().get("/v1/quarantine")
    assert len(reply.json()["data"]) == 1
    assert "hunter2" not in json.dumps(reply.json()["data"][0])


def test_one_record_alone_may_be_pretty(serve: Serve) -> None:
    served = serve()
    sent = interaction(user=User(pseudonym="p", key_id="k"))
    body = json.dumps(json.loads(encode_json(sent)), indent=1)
    reply = served.client().post("/v1/records", content=body, headers={"Content-Type": "application/json"})
    assert reply.json()["stored"] == 1
    assert served.records() == [sent]
