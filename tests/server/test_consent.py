"""Consent over HTTP, and the signal of browsers on every way in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.fake_model import FakeModel
from tests.server.conftest import Serve, Served
from tests.server.every_route import PERSON, PRODUCERS, EveryRoute, routes_that_store, settled
from tests.server.test_records import as_array, interaction
from tracemill.core.codec import encode
from tracemill.core.consent import GLOBAL_PRIVACY_CONTROL, is_private
from tracemill.core.records import Consent, Interaction
from tracemill.server.batches import MEDIA_TYPE

SIGNAL = {"Sec-GPC": "1"}


def consents(served: Served) -> set[tuple[str, str, bool, str | None]]:
    """Person, purpose, verdict and source of every stored consent."""
    return {
        (record.user.pseudonym, record.purpose, record.granted, record.source)
        for record in served.records("consent")
        if isinstance(record, Consent)
    }


def by_signal(served: Served, raw: str) -> set[tuple[str, str, bool, str | None]]:
    """What the signal says for a person."""
    person = served.context.pseudonymizer.user(raw).pseudonym
    return {(person, purpose, False, "gpc") for purpose in ("train", "share")}


def test_a_person_speaks_for_themselves_and_asks_what_holds(serve: Serve) -> None:
    served = serve()
    ann = served.client(served.key("user", user="ann"))
    before = {one["purpose"]: one["granted"] for one in ann.get("/v1/consent").json()["consents"]}
    assert before == dict.fromkeys(("store", "evaluate", "train", "share"), True)
    reply = ann.post("/v1/consent", json={"purpose": "train", "granted": False, "basis": "settings page"})
    assert reply.status_code == 200
    (held,) = (one for one in ann.get("/v1/consent").json()["consents"] if one["purpose"] == "train")
    assert (held["granted"], held["default"], held["record"]) == (False, False, reply.json()["consent_id"])
    assert ann.get("/v1/consent", params={"user": "bob"}).status_code == 403
    assert ann.post("/v1/consent", json={"purpose": "train", "granted": True, "user": "bob"}).status_code == 403
    assert ann.post("/v1/consent", json={"purpose": "dance", "granted": True}).status_code == 422
    entries = [entry.action for entry in served.workspace.audit_log.entries()]
    assert entries.count("consent.withdraw") == 1


def test_a_program_names_whose_consent_it_is_and_keeps_to_its_project(serve: Serve) -> None:
    served = serve()
    program = served.client(served.key("ingest", project="shop"))
    said = {"purpose": "store", "granted": False}
    assert program.post("/v1/consent", json=said).status_code == 422
    assert program.post("/v1/consent", json={**said, "user": "ann", "platform": "help"}).status_code == 403
    assert program.post("/v1/consent", json={**said, "user": "ann"}).status_code == 200
    (record,) = served.records("consent")
    assert isinstance(record, Consent)
    assert (record.platform, record.source) == ("shop", "api")
    person = served.context.pseudonymizer.user("ann")
    reply = program.post("/v1/records", content=as_array(interaction(user=person), interaction()))
    assert [refused["reason"] for refused in reply.json()["refused"]] == ["no_consent"]
    assert reply.json()["stored"] == 1
    assert "no_consent" in served.client(served.key("admin")).get("/metrics").text


@pytest.mark.parametrize("form", ["array", "packed"])
def test_records_sent_with_the_signal_are_marked(serve: Serve, form: str) -> None:
    served = serve()
    person = served.context.pseudonymizer.user("ann")
    sent = [interaction(user=person), interaction()]
    body, kind = as_array(*sent), "application/json"
    if form == "packed":
        body, kind = msgspec.msgpack.encode([msgspec.Raw(encode(record)) for record in sent]), MEDIA_TYPE
    headers = {"Content-Type": kind, **SIGNAL}
    assert served.client().post("/v1/records", content=body, headers=headers).json()["stored"] == 2
    stored = served.records("interaction")
    assert [record.extra.get(GLOBAL_PRIVACY_CONTROL) for record in stored] == [True, True]
    assert consents(served) == by_signal(served, "ann")
    again = served.client().post("/v1/records", content=body, headers=headers)
    assert again.json() == {"stored": 0, "duplicates": 2, "refused": []}
    assert len(served.records("consent")) == 2
    without = {"Content-Type": kind, "Sec-GPC": "0"}
    other = as_array(interaction()) if form == "array" else msgspec.msgpack.encode([msgspec.Raw(encode(interaction()))])
    assert served.client().post("/v1/records", content=other, headers=without).json()["stored"] == 1
    assert GLOBAL_PRIVACY_CONTROL not in served.records("interaction")[-1].extra


def test_spans_sent_with_the_signal_are_marked(serve: Serve) -> None:
    served = serve()
    attributes = [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
        {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
        {"key": "user.id", "value": {"stringValue": "ann"}},
        {
            "key": "gen_ai.input.messages",
            "value": {"stringValue": '[{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]'},
        },
    ]
    span = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": "chat m",
        "startTimeUnixNano": "1771000000000000000",
        "endTimeUnixNano": "1771000001000000000",
        "attributes": attributes,
    }
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    assert served.client().post("/v1/traces", json=body, headers=SIGNAL).status_code == 200
    (record,) = served.wait_for(1, "interaction")
    assert is_private(record.extra)
    assert consents(served) == by_signal(served, "ann")


def test_whatever_comes_with_the_signal_is_marked_by_every_route(serve: Serve, model: Any) -> None:
    served = serve(
        upstream_url=f"{model.url}/v1",
        upstream_model="m",
        user_data_collection={"feedback_enabled": True},
        pending_quiet_seconds=0.2,
        pending_expire_seconds=1.5,
    )
    client = served.client()
    client.headers.update(SIGNAL)
    routes = EveryRoute(client, "hello")
    routes.everything(served.context.pseudonymizer.user("bob"))
    assert routes.sent == routes_that_store(), "a new route is sent to in every_route.py"
    assert settled(served) == 0
    records = [record for record in served.records() if not isinstance(record, Consent)]
    assert {record.producer.partition(":")[0] for record in records} >= PRODUCERS
    assert [record for record in records if record.extra.get(GLOBAL_PRIVACY_CONTROL) is not True] == []
    assert consents(served) == by_signal(served, PERSON) | by_signal(served, "bob")


@pytest.mark.parametrize("signalled", ["begun", "ended"])
def test_a_record_of_two_requests_is_marked_when_one_came_with_the_signal(serve: Serve, signalled: str) -> None:
    served = serve(pending_quiet_seconds=0.2, pending_expire_seconds=1.5)
    client = served.client()
    routes = EveryRoute(client, "hello")
    run, other = routes.run(), routes.run()
    for stage, path, body in (
        ("begun", "/runs/batch", {"post": [run]}),
        ("ended", "/runs/batch", {"patch": [{"id": run["id"], **routes.ending()}]}),
    ):
        assert client.post(path, json=body, headers=SIGNAL if stage == signalled else {}).is_success
    assert client.post("/runs/batch", json={"post": [{**other, **routes.ending()}]}).is_success
    assert settled(served) == 0
    marks = {
        record.extra["run_id"]: record.extra.get(GLOBAL_PRIVACY_CONTROL) for record in served.records("interaction")
    }
    assert marks == {run["id"]: True, other["id"]: None}
    assert consents(served) == (by_signal(served, PERSON) if signalled == "begun" else set())


@pytest.mark.parametrize("signalled", ["logs", "traces"])
def test_a_call_with_late_content_is_marked_when_one_part_came_with_the_signal(serve: Serve, signalled: str) -> None:
    served = serve(pending_quiet_seconds=0.2, pending_expire_seconds=1.5)
    client = served.client()

    def add(request: Any) -> None:
        if request.url.path.endswith(signalled):
            request.headers.update(SIGNAL)

    client.event_hooks["request"].append(add)
    EveryRoute(client, "hello").late_content("")
    assert settled(served) == 0
    (call,) = served.records("interaction")
    assert call.extra[GLOBAL_PRIVACY_CONTROL] is True
    (orphan,) = served.records("step")
    assert orphan.extra.get(GLOBAL_PRIVACY_CONTROL) is (True if signalled == "logs" else None)
    assert consents(served) == (by_signal(served, PERSON) if signalled == "traces" else set())


def test_a_root_that_waited_with_the_signal_keeps_it(serve: Serve) -> None:
    """The root of a trace that says nothing of a model becomes a record by what another request brings."""
    served = serve(pending_quiet_seconds=0.2, pending_expire_seconds=30)
    client = served.client()

    def send(span: dict[str, Any], **headers: str) -> None:
        moment = {"startTimeUnixNano": "1771000000000000000", "endTimeUnixNano": "1771000001000000000"}
        whole = {"traceId": "5b8efff798038103d269b633813fc60c", "name": "n", **moment, **span}
        body = {"resourceSpans": [{"scopeSpans": [{"spans": [whole]}]}]}
        assert client.post("/v1/traces", json=body, headers=headers).is_success

    named = [{"key": "user.id", "value": {"stringValue": PERSON}}]
    send({"spanId": "eee19b7ec3c1b174", "attributes": named}, **SIGNAL)
    chain = [{"key": "openinference.span.kind", "value": {"stringValue": "CHAIN"}}]
    send({"spanId": "eee19b7ec3c1b175", "parentSpanId": "eee19b7ec3c1b174", "attributes": chain})
    assert settled(served) == 0
    (root,), (step,) = served.records("interaction"), served.records("step")
    assert root.extra.get(GLOBAL_PRIVACY_CONTROL) is True
    assert GLOBAL_PRIVACY_CONTROL not in step.extra
    assert consents(served) == by_signal(served, PERSON)


@pytest.fixture
def model() -> Iterator[Any]:
    with FakeModel() as running:
        yield running


def test_calls_through_the_proxy_with_the_signal_are_marked(serve: Serve, model: Any) -> None:
    served = serve(upstream_url=f"{model.url}/v1")
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "user": "ann"}
    reply = served.client().post("/v1/chat/completions", json=body, headers=SIGNAL)
    assert reply.status_code == 200
    (record,) = served.wait_for(1, "interaction")
    assert record.extra[GLOBAL_PRIVACY_CONTROL] is True
    assert consents(served) == by_signal(served, "ann")


def test_a_lightspeed_turn_with_the_signal_is_marked_and_one_without_consent_answered(serve: Serve, model: Any) -> None:
    served = serve(upstream_url=f"{model.url}/v1", upstream_model="m")
    client = served.client()
    asked = client.post("/v1/query", json={"query": "hello"}, headers=SIGNAL, params={"user_id": "ann"})
    assert asked.status_code == 200
    (record,) = served.records("interaction")
    assert record.extra[GLOBAL_PRIVACY_CONTROL] is True
    assert consents(served) == by_signal(served, "ann")
    person = served.context.pseudonymizer.user("bob")
    served.workspace.consenting.say(person, "store", granted=False, actor="test")
    asked = client.post("/v1/query", json={"query": "hello"}, params={"user_id": "bob"})
    assert asked.status_code == 200
    assert [isinstance(one, Interaction) for one in served.records("interaction")] == [True]
