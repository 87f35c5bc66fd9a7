"""What erasure reaches, and what holds keep from it, link by link."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.privacy.world import settings_of, workspace_user
from tracemill.core.errors import TracemillError
from tracemill.core.ids import new_id, now
from tracemill.core.records import AnyRecord, Decision, Feedback, Interaction, Step, Validation
from tracemill.sdk.spool import ProducerFolder
from tracemill.workspace import Workspace

ANN = "ann@example.com"


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    path = tmp_path / "workspace"
    with Workspace.open(path, settings=settings_of(path, retention={"*": {"store_days": 30}})) as opened:
        yield opened


def fields(**more: Any) -> dict[str, Any]:
    return {
        "id": new_id(),
        "time": now() - timedelta(days=1),
        "sequence": 0,
        "schema_version": 1,
        "producer": "p",
        "platform": "shop",
        **more,
    }


def spoken(workspace: Workspace, name: str, conversation: str, words: str = "hello", **more: Any) -> Interaction:
    return Interaction(
        **fields(**more), conversation_id=conversation, user=workspace_user(workspace, name),
        messages=[{"role": "user", "content": words}], response={"role": "assistant", "content": f"{words}, answered"},
    )  # fmt: skip


def stored(workspace: Workspace, *records: AnyRecord) -> list[str]:
    assert workspace.store.append(records).refused == ()
    return [record.id for record in records]


@pytest.mark.parametrize("archived", [False, True])
def test_what_names_a_step_alone_goes_with_it(workspace: Workspace, archived: bool) -> None:
    turn = spoken(workspace, ANN, "talk")
    step = Step(**fields(interaction_id=turn.id))
    inside = Step(**fields(parent_id=step.id), outputs="what Ann has")
    choice = Decision(**fields(step_id=inside.id), reasoning="because of what Ann has")
    other = Decision(**fields(step_id=new_id()), reasoning="somebody else's")
    stored(workspace, choice, other, inside, step, turn)
    if archived:
        workspace.archive(days_old=0)
    receipt = workspace.erase("interaction", turn.id)
    assert receipt.records == {"decision": 1, "interaction": 1, "step": 2}
    assert [record.id for record in workspace.store.scan()] == [other.id]


def test_what_is_joined_by_words_goes_from_a_conversation_with_others_too(workspace: Workspace) -> None:
    mine = spoken(workspace, ANN, "team", "what does my contract say")
    his = spoken(workspace, "bob", "team", "what does the manual say")
    about = [
        Feedback(**fields(time=now()), kind="thumbs_down", conversation_id="team", user_question=words)
        for words in ("what does my contract say", "what does the manual say")
    ]
    stored(workspace, mine, his, *about)
    workspace.erase("user", ANN)
    assert {record.id for record in workspace.store.scan()} == {his.id, about[1].id}


def test_feedback_on_the_span_of_a_trace_goes_with_its_person(workspace: Workspace) -> None:
    turn = spoken(workspace, ANN, "talk", extra={"span_id": "00f067aa0ba902b7"})
    said = Feedback(**fields(step_id=new_id(), extra={"span_id": "00f067aa0ba902b7"}), kind="comment", comment="Ann's")
    stored(workspace, turn, said)
    workspace.erase("user", ANN)
    assert list(workspace.store.scan()) == []


@pytest.mark.parametrize("kind", ["user", "interaction", "conversation"])
def test_what_comes_in_before_the_tombstones_is_found_by_the_next_round(workspace: Workspace, kind: Any) -> None:
    turn = spoken(workspace, ANN, "talk")
    stored(workspace, turn)
    late: list[AnyRecord] = [
        Step(**fields(interaction_id=turn.id), outputs="what Ann has"),
        Feedback(**fields(step_id=turn.id), kind="comment", comment="of Ann"),
    ]
    if kind != "interaction":
        late.append(Validation(**fields(conversation_id="talk"), validator="of Ann"))

    def progress(step: str, _done: int, _total: int | None) -> None:
        if step == "found" and workspace.store.known([late[0].id]) == set():
            workspace.store.append(late)

    value = {"user": ANN, "interaction": turn.id, "conversation": "talk"}[kind]
    receipt = workspace.erase(kind, value, progress=progress)
    assert list(workspace.store.scan()) == []
    assert sum(receipt.records.values()) == 1 + len(late)


def test_somebody_who_joins_meanwhile_keeps_what_they_said_and_holds_nothing_up(workspace: Workspace) -> None:
    stored(workspace, spoken(workspace, ANN, "talk"))
    joined = spoken(workspace, "bob", "talk")

    def progress(step: str, _done: int, _total: int | None) -> None:
        if step == "found" and workspace.store.known([joined.id]) == set():
            workspace.store.append([joined])

    assert workspace.erase("user", ANN, progress=progress).complete
    assert [record.id for record in workspace.store.scan()] == [joined.id]


def test_a_conversation_that_went_on_while_a_hold_stood_goes_whole(workspace: Workspace) -> None:
    stored(workspace, spoken(workspace, ANN, "talk"), spoken(workspace, ANN, "other talk"))
    hold = workspace.place_hold("user", ANN, reason="a case")
    assert workspace.erase("user", ANN).status == "deferred"
    later = [spoken(workspace, ANN, name, time=now()) for name in ("talk", "new talk")]
    stored(workspace, *later)
    workspace.release_hold(hold.id)
    assert workspace.maintain().erasures == {"done": 1}
    assert [record.id for record in workspace.store.scan()] == [later[1].id]


def test_a_receipt_counts_each_record_once(workspace: Workspace) -> None:
    stored(workspace, spoken(workspace, ANN, "talk"))

    def stop(step: str, _done: int, _total: int | None) -> None:
        if step == "found":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        workspace.erase("user", ANN, progress=stop)
    stored(workspace, spoken(workspace, ANN, "talk"))  # on its way when the process died
    (request,) = workspace.open_erasures()
    (receipt,) = workspace.erasing.go_on()
    assert (receipt.id, receipt.records) == (request.id, {"interaction": 2})


# -- holds


@pytest.mark.parametrize("hold", ["user", "conversation", "interaction", "platform"])
@pytest.mark.parametrize("kind", ["user", "conversation", "interaction"])
def test_no_way_leads_past_a_hold(workspace: Workspace, hold: Any, kind: Any) -> None:
    mine, his = spoken(workspace, ANN, "team"), spoken(workspace, "bob", "team")
    stored(workspace, mine, his)
    values = {"user": ANN, "conversation": "team", "interaction": mine.id, "platform": "shop"}
    placed = workspace.place_hold(hold, values[hold], reason="a case")
    receipt = workspace.erase(kind, values[kind])
    assert (receipt.status, receipt.hold) == ("deferred", placed.id)
    assert workspace.store.known([mine.id, his.id]) == {mine.id, his.id}
    workspace.release_hold(placed.id)
    assert workspace.maintain().erasures == {"done": 1}
    assert workspace.store.known([mine.id]) == set()


def test_a_hold_on_who_gave_feedback_keeps_the_feedback(workspace: Workspace) -> None:
    turn = spoken(workspace, ANN, "talk")
    said = Feedback(**fields(interaction_id=turn.id), kind="comment", user=workspace_user(workspace, "bob"))
    stored(workspace, turn, said)
    workspace.place_hold("user", "bob", reason="a case")
    assert workspace.erase("user", ANN).status == "deferred"


@pytest.mark.parametrize("hold", ["user", "conversation", "interaction"])
def test_retention_keeps_all_that_belongs_to_what_is_held(workspace: Workspace, hold: Any) -> None:
    old = now() - timedelta(days=90)
    turn, his = spoken(workspace, ANN, "talk", time=old), spoken(workspace, "bob", "his talk", time=old)
    step = Step(**fields(time=old, interaction_id=turn.id))
    beside: list[AnyRecord] = [
        step,
        Validation(**fields(time=old, interaction_id=turn.id)),
        Decision(**fields(time=old, step_id=step.id)),
        Interaction(**fields(time=old, parent_id=turn.id)),
    ]
    stored(workspace, turn, his, *beside)
    values = {"user": ANN, "conversation": "talk", "interaction": turn.id}
    workspace.place_hold(hold, values[hold], reason="a case")
    done = workspace.maintain()
    assert (done.expired, done.held) == ({"shop": 1}, 5)
    assert {record.id for record in workspace.store.scan()} == {turn.id, *(record.id for record in beside)}


def test_a_hold_that_stands_goes_on_naming_whom_it_names(workspace: Workspace) -> None:
    stored(workspace, spoken(workspace, ANN, "talk"))
    late: list[str] = []

    def progress(step: str, _done: int, _total: int | None) -> None:
        if step == "buried" and not late:
            late.append(workspace.place_hold("user", ANN, reason="came too late for that").id)

    workspace.erase("user", ANN, progress=progress)
    stored(workspace, spoken(workspace, ANN, "new talk", time=now() + timedelta(seconds=1)))
    assert workspace.erase("user", ANN).hold == late[0]


# -- requests nobody can carry out


def test_an_id_that_is_none_is_erased_without_a_trace(workspace: Workspace) -> None:
    stored(workspace, spoken(workspace, "bob", "his talk"))
    receipt = workspace.erase("interaction", "no id at all")
    assert (receipt.status, receipt.records) == ("done", {})
    workspace.maintain()


def test_the_id_of_another_record_is_counted_and_held_as_one(workspace: Workspace) -> None:
    turn = spoken(workspace, ANN, "talk")
    said = Feedback(**fields(interaction_id=turn.id), kind="comment")
    stored(workspace, turn, said)
    hold = workspace.place_hold("platform", "shop", reason="a case")
    assert workspace.erase("interaction", said.id).status == "deferred"
    workspace.release_hold(hold.id)
    assert [receipt.records for receipt in workspace.erasing.go_on()] == [{"feedback": 1}]


def test_a_request_that_fails_does_not_hold_the_others_up(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = stored(workspace, spoken(workspace, ANN, "talk"), spoken(workspace, "bob", "his talk"))
    hold = workspace.place_hold("all", "", reason="a case")
    for name in (ANN, "bob"):
        workspace.erase("user", name)
    workspace.release_hold(hold.id)
    carry_out = workspace.erasing.eraser.carry_out
    failed: list[str] = []

    def first_fails(request: Any, progress: Any = None) -> Any:
        if not failed:
            failed.append(request.id)
            raise TracemillError("the storage does not answer")
        return carry_out(request, progress)

    monkeypatch.setattr(workspace.erasing.eraser, "carry_out", first_fails)
    with pytest.raises(TracemillError, match="does not answer"):
        workspace.maintain()
    assert workspace.store.known(ids) == {ids[0]}


def test_a_request_that_waits_is_logged_once(workspace: Workspace) -> None:
    stored(workspace, spoken(workspace, ANN, "talk"))
    workspace.place_hold("user", ANN, reason="a case")
    workspace.erase("user", ANN)
    for _ in range(3):
        assert workspace.maintain().erasures == {"deferred": 1}
    assert [entry.action for entry in workspace.audit_log.entries()].count("erase.deferred") == 1


def test_a_process_that_starts_during_an_erasure_gets_its_spool(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(workspace, spoken(workspace, ANN, "talk"))
    rename = Path.rename

    def in_between(self: Path, to: Path) -> Path:
        if self.name.startswith(".new-"):
            workspace.erase("user", ANN)
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", in_between)
    folder = ProducerFolder.create(workspace.path, "p")
    assert folder.path.is_dir()
    folder.close()


def test_a_person_is_given_more_than_a_page_in_the_order_of_time(workspace: Workspace) -> None:
    turns = [spoken(workspace, ANN, "talk", time=now() - timedelta(minutes=number)) for number in range(1100)]
    stored(workspace, *turns)
    given = list(workspace.export_person(ANN))
    assert len(given) == len(turns)
    assert [record.time for record in given] == sorted(record.time for record in turns)
