"""What people say of answers, over HTTP, joined to what they say it of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server.conftest import Serve, Served
from tests.server.test_records import as_array, interaction
from tracemill.core.ids import new_id, now
from tracemill.core.records import SCHEMA_VERSION, Feedback, Interaction, Step, Validation
from tracemill.feedback.attach import attach


def conversation(**fields: Any) -> Interaction:
    values: dict[str, Any] = {"platform": "support", "success": True, "response": {"role": "assistant", "content": "a"}}
    return interaction(**{**values, **fields})


def put(served: Served, *records: Any) -> None:
    assert served.workspace.store.append(records).refused == ()


@pytest.mark.parametrize(
    "said",
    [
        {"feedback_type": "thumbs_up", "rating": 5, "comment": "good", "categories": ["tone"]},
        {"feedback_type": "thumbs_down", "sentiment_score": 1},
        {"feedback_type": "edit", "corrected_workflow": {"steps": [1]}},
        {"feedback_type": "report", "comment": "unsafe"},
    ],
)
def test_feedback_is_joined_to_its_interaction(serve: Serve, said: dict[str, Any]) -> None:
    served = serve()
    about = conversation()
    client = served.client()
    # It may arrive before the interaction does.
    reply = client.post("/api/feedback/submit", json={**said, "interaction_id": about.id, "user_id": "ada"})
    assert reply.status_code == 200
    put(served, about)
    (record,) = served.records("feedback")
    assert isinstance(record, Feedback)
    assert record.id == reply.json()["feedback_id"]
    assert record.kind == said["feedback_type"]
    assert record.rating == said.get("rating", said.get("sentiment_score"))
    assert record.correction == said.get("corrected_workflow")
    assert record.user == served.context.pseudonymizer.user("ada")
    assert [mark.id for mark in attach(served.workspace.store).of(about.id).feedback] == [record.id]


def test_contradicting_feedback_is_kept_and_shown(serve: Serve) -> None:
    served = serve()
    about = conversation()
    put(served, about)
    client = served.client()
    for kind in ("thumbs_up", "thumbs_down"):
        client.post("/api/feedback/submit", json={"feedback_type": kind, "interaction_id": about.id})
    shown = client.get(f"/v1/interactions/{about.id}").json()["feedback"]
    assert {entry["kind"] for entry in shown} == {"thumbs_up", "thumbs_down"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"feedback_type": "love", "interaction_id": new_id()}, "feedback_type"),
        ({"feedback_type": "thumbs_up"}, "interaction_id"),
        ({"feedback_type": "thumbs_up", "interaction_id": "x"}, "interaction_id"),
        ({"feedback_type": "thumbs_up", "interaction_id": new_id(), "rating": 6}, "rating"),
        ({"feedback_type": "edit", "interaction_id": new_id()}, "corrected_workflow"),
        ({"feedback_type": "thumbs_up", "conversation_id": "c"}, "interaction_id"),
        ({"feedback_type": "thumbs_up", "interaction_id": new_id(), "surprise": 1}, "surprise"),
        ({}, "feedback_type"),
    ],
)
def test_what_is_wrong_is_named(serve: Serve, body: dict[str, Any], param: str | None) -> None:
    served = serve()
    reply = served.client().post("/api/feedback/submit", json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (422, param)
    assert served.records() == []


def test_a_person_speaks_of_their_own_and_of_what_is_not_there_yet(serve: Serve) -> None:
    served = serve()
    me, you = (served.context.pseudonymizer.user(name) for name in ("me", "you"))
    mine, yours = conversation(user=me), conversation(user=you)
    put(served, mine, yours)
    client = served.client(served.key("user", user="me"))
    said = {"feedback_type": "thumbs_up"}
    assert client.post("/api/feedback/submit", json={**said, "interaction_id": mine.id}).status_code == 200
    assert client.post("/api/feedback/submit", json={**said, "interaction_id": new_id()}).status_code == 200
    assert client.post("/api/feedback/submit", json={**said, "interaction_id": yours.id}).status_code == 404
    # A person's key says who they are; the body cannot say otherwise.
    client.post("/api/feedback/submit", json={**said, "interaction_id": mine.id, "user_id": "you"})
    users = {record.user for record in served.records("feedback") if isinstance(record, Feedback)}
    assert users == {me}


def test_a_workflow_is_checked_and_the_edit_is_kept(serve: Serve) -> None:
    served = serve()
    original = {"steps": [{"id": "a", "type": "mail"}, {"id": "b", "type": "wait", "next": "a"}]}
    edited = {"steps": [{"id": "a", "type": "mail"}, {"id": "a", "next": "z"}]}
    about = conversation(artifact=original)
    put(served, about)
    body = {"interaction_id": about.id, "workflow": edited, "original_workflow": original, "user_edited": True}
    answer = served.client().post("/api/workflow/validate", json=body).json()
    assert answer["valid"] is False
    assert {error["code"] for error in answer["errors"]} == {"duplicate_id", "dangling_reference"}
    assert [warning["code"] for warning in answer["warnings"]] == ["untyped"]
    assert answer["score"] == 100 - 2 * 20 - 5
    assert answer["diff"]["removed"] == {"/steps/1/type": "wait"}
    assert answer["diff"]["modified"] == {"/steps/1/id": ["b", "a"], "/steps/1/next": ["a", "z"]}
    assert answer["validation_time_ms"] >= 0
    (record,) = served.records("validation")
    assert isinstance(record, Validation)
    assert (record.id, record.score, record.edited) == (answer["validation_id"], 55, edited)
    (check,) = attach(served.workspace.store).of(about.id).validations
    assert check.edited


@pytest.mark.parametrize(
    ("workflow", "valid", "codes"),
    [
        ({"nodes": [{"id": 1, "type": "x"}], "edges": [{"source": 1, "target": 2}]}, False, {"dangling_reference"}),
        ({"steps": {"a": {"type": "x"}, "b": {"type": "y", "depends_on": ["a"]}}}, True, set()),
        ({"steps": [{"id": "a", "type": "x", "next": "a"}]}, False, {"refers_to_itself"}),
        ({"steps": []}, False, {"empty"}),
        ({"steps": 7}, False, {"not_a_list"}),
        ({"steps": ["x", None]}, False, {"not_an_object"}),
        ({"something": "else"}, True, set()),
        ({}, False, {"empty"}),
        ([], False, {"not_an_object"}),
        (None, False, {"not_an_object"}),
    ],
)
def test_workflows_of_any_shape(serve: Serve, workflow: Any, valid: bool, codes: set[str]) -> None:
    answer = serve().client().post("/api/workflow/validate", json={"workflow": workflow}).json()
    assert answer["valid"] is valid
    assert {error["code"] for error in answer["errors"]} == codes
    assert answer["score"] == 100 - 20 * len(answer["errors"]) - 5 * len(answer["warnings"])


def test_readiness_has_five_gates(serve: Serve) -> None:
    served = serve()
    client = served.client()
    empty = client.get("/api/feedback/readiness/support").json()
    assert (empty["is_ready"], empty["readiness_score"]) == (False, 0)
    assert [gate["required"] for gate in empty["gates"]] == [50, 30, 10, 20, 70]
    interactions = [conversation(success=number < 35) for number in range(60)]
    said = [
        Feedback(
            id=new_id(), time=now(), schema_version=SCHEMA_VERSION, producer="t", sequence=0, interaction_id=about.id,
            kind="thumbs_up" if number < 19 else "thumbs_down",
        )
        for number, about in enumerate(interactions[:25])
    ]  # fmt: skip
    put(served, *interactions, *said)
    found = client.get("/api/feedback/readiness/support").json()
    assert found["metrics"] == {"examples": 60, "successful": 35, "with_feedback": 25, "quality": 19}
    assert found["readiness_score"] == 25 + 25 + 20 + 30 * 19 / 20
    assert not found["is_ready"]
    assert [gate["name"] for gate in found["gates"] if not gate["passed"]] == ["quality"]
    more = conversation()
    put(served, more)
    body = {"feedback_type": "thumbs_up", "interaction_id": more.id}
    client.post("/api/feedback/submit", json=body)
    assert client.get("/api/feedback/readiness/support").json()["is_ready"]


def test_statistics_tell_what_is_stored_and_what_it_costs(serve: Serve) -> None:
    served = serve()
    put(served, conversation(), conversation(success=False, platform="sales"))
    found = served.client().get("/api/feedback/stats").json()
    assert found["overview"]["interactions"] == 2
    assert found["overview"]["archived_records"] == 0
    assert found["overview"]["success_rate"] == 0.5
    assert set(found["by_platform"]) == set(found["training_readiness"]) == {"support", "sales"}
    assert found["storage"]["hot_bytes"] > 0
    assert found["costs"]["hot_monthly_usd"] >= 0
    assert found["recommendations"]
    bound = served.client(served.key("reviewer", project="sales")).get("/api/feedback/stats").json()
    assert set(bound["by_platform"]) == {"sales"}


def test_training_data_is_downloaded_as_openai_takes_it(serve: Serve) -> None:
    served = serve()
    good, bad, unanswered = conversation(), conversation(success=False), conversation(response=None)
    built = conversation(response=None, artifact={"steps": [1]})
    liked = conversation()
    put(served, good, bad, unanswered, built, liked, conversation(platform="other"))
    client = served.client()
    client.post("/api/feedback/submit", json={"feedback_type": "thumbs_up", "interaction_id": liked.id})
    reply = client.get("/api/feedback/export/support")
    rows = [json.loads(line) for line in reply.text.splitlines()]
    assert len(rows) == 3
    assert all(row["messages"][-1]["role"] == "assistant" for row in rows)
    assert rows[1]["messages"][-1]["content"] == '{"steps":[1]}'
    assert 'filename="training_data_support_' in reply.headers["content-disposition"]
    everything = client.get("/api/feedback/export/support", params={"success_only": False})
    assert len(everything.text.splitlines()) == 4
    only = client.get("/api/feedback/export/support", params={"with_feedback_only": True})
    assert len(only.text.splitlines()) == 1
    odd = client.get('/api/feedback/export/"; evil=" ü')
    assert 'filename="training_data__evil_' in odd.headers["content-disposition"]


def test_people_remove_their_own_and_admins_anybody_s(serve: Serve) -> None:
    served = serve()
    me, you = (served.context.pseudonymizer.user(name) for name in ("me", "you"))
    mine, yours = conversation(user=me, conversation_id="c"), conversation(user=you)
    inner = conversation(parent_id=mine.id, conversation_id="c")
    base: dict[str, Any] = {"time": now(), "schema_version": SCHEMA_VERSION, "producer": "t", "sequence": 0}
    step = Step(id=new_id(), **base, interaction_id=mine.id)
    inner_step = Step(id=new_id(), **base, interaction_id=inner.id)
    by_text = Feedback(id=new_id(), **base, kind="thumbs_up", conversation_id="c", user_question="hello")
    put(served, mine, yours, inner, step, inner_step, by_text)
    client = served.client(served.key("user", user="me"))
    client.post("/api/feedback/submit", json={"feedback_type": "report", "interaction_id": mine.id})
    assert client.delete(f"/api/feedback/data/{yours.id}").status_code == 404
    assert client.delete(f"/api/feedback/data/{new_id()}").status_code == 404
    assert served.client(served.key("reviewer")).delete(f"/api/feedback/data/{mine.id}").status_code == 404
    reply = client.delete(f"/api/feedback/data/{mine.id}")
    assert reply.status_code == 200
    assert reply.json()["records"]["interaction"] == 2
    assert reply.json()["receipt"]["complete"] is True
    assert reply.json()["records"]["step"] == 2
    assert {record.id for record in served.records()} <= {yours.id, by_text.id}
    assert client.delete(f"/api/feedback/data/{mine.id}").status_code == 404
    assert served.client(served.key("admin")).delete(f"/api/feedback/data/{yours.id}").status_code == 200
    assert served.workspace.store.verify() == []


def test_csv_like_surprises_are_only_text(serve: Serve) -> None:
    served = serve()
    put(served, conversation(messages=[{"role": "user", "content": "=HYPERLINK(1)\u2028</script>"}]))
    row = json.loads(as_lines(served.client().get("/api/feedback/export/support").text)[0])
    assert row["messages"][0]["content"] == "=HYPERLINK(1)\u2028</script>"


def as_lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]


def test_a_batch_of_records_may_bring_feedback_too(serve: Serve) -> None:
    served = serve()
    about = conversation()
    base: dict[str, Any] = {"time": now(), "schema_version": SCHEMA_VERSION, "producer": "t", "sequence": 0}
    said = Feedback(id=new_id(), **base, kind="thumbs_up", interaction_id=about.id)
    served.client().post("/v1/records", content=as_array(said, about))
    assert attach(served.workspace.store).of(about.id).feedback
