"""What passes the gate of a store: the same once and twice, with the names of its conversation, and nothing else of it."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.privacy.scanning import hits
from tests.strategies import records
from tracemill.core.codec import decode, encode, encode_json
from tracemill.core.errors import RecordError, SettingError, StoreError
from tracemill.core.ids import derived_id, now
from tracemill.core.pending import PendingPart
from tracemill.core.policy import MARK
from tracemill.core.records import AnyRecord, Feedback, Interaction, SessionEnd, Step, Validation
from tracemill.core.redaction_key import key_id, load_redaction_key, redaction_key_path
from tracemill.core.settings import load_settings
from tracemill.feedback.attach import attach
from tracemill.privacy.gate import FAILED, RedactionGate
from tracemill.privacy.policies import SAFE_HARBOR, STANDARD
from tracemill.privacy.redact import Redactor
from tracemill.store.gate import Veil
from tracemill.store.tiered import open_store
from tracemill.workspace import Workspace

KEY = b"k" * 32
NEEDLES = {"name": b"Quist", "mail": b"quist77", "card": b"4111111111111111"}
TEXT = "My name is Orla Quist, write to orla.quist77@mail.example"
BEGAN = now()
Open = Callable[..., Workspace]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens workspaces that redact what they store; all are closed at the end."""
    found: list[Workspace] = []

    def make(name: str = "workspace", **given: Any) -> Workspace:
        arguments = {"workspace": str(tmp_path / name), "redaction": "standard", **given}
        found.append(Workspace.open(settings=load_settings(arguments, environment={})))
        return found[-1]

    yield make
    for workspace in found:
        workspace.close()


def base(number: int) -> dict[str, Any]:
    """The fields every record has."""
    return {"id": derived_id("gate", number), "time": BEGAN, "schema_version": 1, "producer": "p", "sequence": number}


def turn(number: int, **more: Any) -> Interaction:
    """A turn that names somebody."""
    fields: dict[str, Any] = {"conversation_id": "c1", "messages": [{"role": "user", "content": TEXT}], **more}
    return Interaction(**base(number), response={"role": "assistant", "content": "Hello Orla!"}, **fields)


def name_in(text: str | None) -> str:
    """The two words behind "My name is" or "Mrs."."""
    found = re.search(r"(?:My name is|Mrs\.) (\w+ \w+)", text or "")
    assert found is not None, text
    return found[1]


def stored(workspace: Workspace, identity: str) -> Any:
    """A record as it is stored."""
    return workspace.store.get(identity)


def test_what_is_stored_names_nobody_and_says_by_which_policy(opened: Open) -> None:
    workspace = opened()
    record = turn(1)
    assert workspace.store.append([record]).stored == 1
    kept = stored(workspace, record.id)
    assert "Quist" not in str(kept)
    assert kept.response["content"] == f"Hello {name_in(kept.messages[0]['content']).split()[0]}!"
    (mark,) = kept.extra[MARK]
    assert (mark["policy"], mark["version"], mark["digest"]) == ("standard", 1, STANDARD.digest())
    assert {note["kind"] for note in mark["notes"]} == {"person_name", "email"}


def test_sending_twice_is_one_record(opened: Open) -> None:
    workspace = opened()
    items = [encode(turn(1)), encode(Step(**base(2), interaction_id=derived_id("gate", 1), reasoning=TEXT))]
    assert workspace.store.append_encoded(items).stored == 2
    again = workspace.store.append_encoded(items)
    assert (again.stored, again.duplicates, again.refused) == (0, 2, ())


def test_a_step_that_came_before_its_interaction_is_a_duplicate_when_it_comes_again(opened: Open) -> None:
    """By then its conversation is known, so that its invented name would be another."""
    workspace = opened()
    step = Step(**base(2), interaction_id=derived_id("gate", 1), reasoning=TEXT)
    workspace.store.append([step])
    workspace.store.append([turn(1)])
    workspace.close()
    later = opened()
    again = later.store.append([step])
    assert (again.duplicates, again.refused) == (1, ())
    later.store.append([other := msgspec.structs.replace(step, id=derived_id("gate", 3))])
    assert name_in(stored(later, other.id).reasoning) != name_in(stored(later, step.id).reasoning)


def test_another_policy_later_makes_no_conflict(opened: Open) -> None:
    opened().store.append([turn(1)])
    assert opened(redaction="safe-harbor").store.append([turn(1)]).duplicates == 1


def test_redaction_that_is_switched_on_later_makes_no_conflict(opened: Open) -> None:
    opened(redaction="").store.append([turn(1)])
    workspace = opened()
    assert workspace.store.append([turn(1)]).duplicates == 1
    other = msgspec.structs.replace(turn(1), response={"role": "assistant", "content": "Another answer"})
    (refusal,) = workspace.store.append([other]).refused
    assert refusal.reason == "conflict"


def test_a_record_of_another_body_is_a_conflict_still(opened: Open) -> None:
    workspace = opened()
    workspace.store.append([turn(1)])
    other = msgspec.structs.replace(turn(1), response={"role": "assistant", "content": "Another answer, Orla"})
    (refusal,) = workspace.store.append([other]).refused
    assert refusal.reason == "conflict"
    (item,) = workspace.quarantined()
    assert b"Orla" not in item.raw


@pytest.mark.parametrize("order", ["together", "apart", "restarted", "archived"])
def test_one_conversation_has_one_invented_name(opened: Open, order: str) -> None:
    workspace = opened()
    first = turn(1)
    others: list[AnyRecord] = [
        turn(2, messages=[{"role": "user", "content": f"Again. {TEXT}"}]),
        Step(**base(3), interaction_id=first.id, reasoning=TEXT),
        Feedback(**base(4), interaction_id=first.id, kind="comment", comment=TEXT),
        Feedback(**base(5), conversation_id="c1", kind="comment", comment=TEXT),
        Validation(**base(6), interaction_id=first.id, original={"said": TEXT}),
        SessionEnd(**base(7), session_id="s", conversation_id="c1", reason=TEXT),
    ]
    if order == "together":
        workspace.store.append([*others, first])
    else:
        workspace.store.append([first])
        if order != "apart":
            if order == "archived":
                workspace.archive(days_old=0)
                assert workspace.store.archived_files()
            workspace.close()
            workspace = opened()
        for record in others:
            workspace.store.append([record])
    texts = [
        stored(workspace, first.id).messages[0]["content"],
        *(stored(workspace, others[0].id).messages[0]["content"], stored(workspace, others[1].id).reasoning),
        *(stored(workspace, others[2].id).comment, stored(workspace, others[3].id).comment),
        *(stored(workspace, others[4].id).original["said"], stored(workspace, others[5].id).reason),
    ]
    assert len({name_in(text) for text in texts}) == 1
    elsewhere = turn(8, conversation_id="c2")
    workspace.store.append([elsewhere])
    assert name_in(stored(workspace, elsewhere.id).messages[0]["content"]) != name_in(texts[0])


def test_a_step_finds_its_conversation_in_postgresql_too(opened: Open, postgres: str) -> None:
    import psycopg

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE gate")
    address = postgres.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", "/gate?")
    first = turn(1)
    opened(database=address).store.append([first])
    workspace = opened(database=address)  # nothing is remembered here
    step = Step(**base(2), interaction_id=first.id, reasoning=TEXT)
    assert workspace.store.append([step]).stored == 1
    assert workspace.store.append([step]).duplicates == 1
    assert name_in(stored(workspace, step.id).reasoning) == name_in(stored(workspace, first.id).messages[0]["content"])


def test_a_session_stands_in_where_there_is_no_conversation(opened: Open) -> None:
    workspace = opened()
    first = turn(1, conversation_id=None, session_id="s1")
    workspace.store.append([first])
    step = Step(**base(2), interaction_id=first.id, reasoning=TEXT)
    workspace.store.append([step])
    assert name_in(stored(workspace, step.id).reasoning) == name_in(stored(workspace, first.id).messages[0]["content"])


def test_conversations_that_are_named_after_people_stay_joined(opened: Open) -> None:
    workspace = opened()
    first = turn(1, conversation_id="orla.quist77@mail.example")
    workspace.store.append([first])
    step = Step(**base(2), interaction_id=first.id, reasoning=TEXT)
    said = Feedback(**base(3), kind="thumbs_up", conversation_id="orla.quist77@mail.example")
    workspace.store.append([step, said])
    assert stored(workspace, said.id).conversation_id == stored(workspace, first.id).conversation_id
    assert "quist" not in stored(workspace, said.id).conversation_id
    assert name_in(stored(workspace, step.id).reasoning) == name_in(stored(workspace, first.id).messages[0]["content"])
    receipt = workspace.erase("conversation", "orla.quist77@mail.example")
    assert receipt.status == "done"
    assert stored(workspace, first.id) is None


def test_feedback_finds_its_turn_by_texts_that_were_redacted_otherwise(opened: Open) -> None:
    """The turn knows from a tool's result who Vesna is; the feedback alone does not."""
    workspace = opened()
    profile = {
        "role": "tool",
        "tool_call_id": "1",
        "content": json.dumps({"first_name": "Vesna", "email": "v@mail.example"}),
    }
    question = {"role": "user", "content": "It is Vesna again"}
    first = turn(1, messages=[profile, question])
    said = Feedback(
        **base(2), kind="thumbs_up", conversation_id="c1", user_question="It is Vesna again", llm_response="Hello Orla!"
    )
    checked = Validation(**base(3), conversation_id="c1", original={"for": "Vesna"}, passed=True)
    made = turn(4, messages=[profile, question], artifact={"for": "Vesna"}, conversation_id="c1")
    workspace.store.append([first, said])
    assert "Vesna" not in str(stored(workspace, first.id))
    assert "Vesna" in str(stored(workspace, said.id))
    assert [mark.id for mark in attach(workspace.store).of(first.id).feedback] == [said.id]
    workspace.store.append([made, checked])
    assert [check.id for check in attach(workspace.store).of(made.id).validations] == [checked.id]


def test_a_record_that_cannot_be_redacted_is_kept_aside_and_its_mates_are_stored(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = opened()
    poisoned = turn(1)
    whole = Redactor.record

    def failing(self: Redactor, record: Any, **more: Any) -> Any:
        if record.id == poisoned.id:
            raise ZeroDivisionError(TEXT)
        return whole(self, record, **more)

    monkeypatch.setattr(Redactor, "record", failing)
    result = workspace.store.append([poisoned, mate := turn(2)])
    (refusal,) = result.refused
    assert (result.stored, refusal.index, refusal.id, refusal.reason) == (1, 0, poisoned.id, FAILED)
    assert "Quist" not in refusal.message
    assert stored(workspace, mate.id) is not None
    assert stored(workspace, poisoned.id) is None
    workspace.store.append([poisoned])
    (item,) = workspace.quarantined()
    assert decode(item.raw) == poisoned  # its owner can open it: nothing is lost
    workspace.close()
    assert hits(tmp_path, NEEDLES) == []


def test_nothing_of_somebody_who_was_erased_is_kept_aside(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = opened()
    person = workspace.person("orla")
    workspace.store.append([turn(1, user=person)])
    workspace.erase("user", "orla")

    def failing(self: Redactor, record: Any, **more: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Redactor, "record", failing)
    late, other = turn(1, user=person), turn(2, conversation_id="c2")
    result = workspace.store.append([late, other])
    assert {refusal.index: refusal.reason for refusal in result.refused} == {0: "erased", 1: FAILED}
    assert [item.id for item in workspace.quarantined()] == [other.id]


def test_a_conversation_named_after_somebody_is_erased_from_before_redaction_too(opened: Open) -> None:
    name = "orla.quist77@mail.example"
    opened(redaction="").store.append([turn(1, conversation_id=name)])
    workspace = opened()
    workspace.store.append([turn(2, conversation_id=name)])
    found, _ = workspace.preview_erasure("conversation", name)
    receipt = workspace.erase("conversation", name)
    assert workspace.store.count() == 0
    assert [refusal.reason for refusal in workspace.store.append([turn(3, conversation_id=name)]).refused] == ["erased"]
    assert (receipt.complete, receipt.records, found.types) == (True, {"interaction": 2}, {"interaction": 2})
    assert receipt.subject_sha256 == hashlib.sha256(f"conversation:{name}".encode()).hexdigest()
    assert [path.stem for path in workspace.receipts_path.glob("*.json")] == [receipt.id]
    actions = [entry.action for entry in workspace.audit_log.entries()]
    assert actions.count("erase.done") == 1


def test_a_deferred_erasure_of_it_forgets_no_name_though_redaction_is_off_by_then(opened: Open) -> None:
    name = "orla.quist77@mail.example"
    opened(redaction="").store.append([turn(1, conversation_id=name)])
    workspace = opened()
    workspace.store.append([turn(2, conversation_id=name)])
    hold = workspace.place_hold("conversation", name, reason="court order 7")
    assert workspace.erase("conversation", name).status == "deferred"
    assert len(workspace.open_erasures()) == 1
    workspace.release_hold(hold.id)
    workspace.close()
    later = opened(redaction="")
    later.maintain()
    assert later.store.count() == 0
    assert later.open_erasures() == []
    later.close()
    assert hits(later.path, {"conversation": name.encode()}) == []


@given(st.lists(records, min_size=1, max_size=4, unique_by=lambda record: record.id))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_storing_twice_is_storing_once(given: list[AnyRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"workspace": folder, "redaction": "standard"}
        with Workspace.open(settings=load_settings(arguments, environment={})) as workspace:
            first = workspace.store.append(given)
            before = list(workspace.records())
            again = workspace.store.append(given)
            assert (again.stored, again.duplicates) == (0, first.stored)
            assert [refusal.reason for refusal in again.refused] == [refusal.reason for refusal in first.refused]
            assert repr(list(workspace.records())) == repr(before)


def test_the_seal_holds_for_what_was_stored(opened: Open, tmp_path: Path) -> None:
    """In the database and in the archive, for a record that names no platform as for one that does."""
    workspace = opened()
    given: list[AnyRecord] = [turn(1), turn(2, platform="shop"), Feedback(**base(3), kind="comment", comment=TEXT)]
    workspace.store.append(given)
    redactor = Redactor(STANDARD, load_redaction_key(workspace.path))
    for _ in ("database", "archive"):
        for record in workspace.records():
            assert redactor.record(record) is record
            assert redactor.notes(record) != []
        workspace.archive(days_old=0)


def test_what_is_no_record_is_redacted_where_it_can_be_read_and_veiled_where_it_cannot(
    opened: Open, tmp_path: Path
) -> None:
    workspace = opened()
    broken = b'{"record": "interaction", "messages": [{"role": "user", "content": "' + TEXT.encode() + b'"}]}'
    unreadable = b"\xff\xfe\x00" + TEXT.encode()
    workspace.store.append_encoded([b"\xc1" + TEXT.encode(), b"torn " + TEXT.encode(), unreadable])
    workspace.store.quarantine(broken, "invalid", f"no record: {TEXT}", "server")
    workspace.store.quarantine(encode_json(turn(7)), "wrong", "a whole record", "server")
    raws = [item.raw for item in workspace.quarantined()]
    assert unreadable in raws
    readable = [raw for raw in raws if raw.startswith((b"torn", b"{"))]
    assert len(readable) == 3
    assert all(b"Quist" not in raw and b"quist77" not in raw for raw in readable)
    assert all(json.loads(raw) for raw in readable if raw.startswith(b"{"))
    assert "Quist" not in " ".join(item.message for item in workspace.quarantined())
    workspace.close()
    assert hits(tmp_path, NEEDLES) == []


def test_parts_that_wait_are_veiled_and_come_back_as_they_were(opened: Open, tmp_path: Path) -> None:
    workspace = opened()
    parts = [
        PendingPart(source="s", key="k", part="one", time=now(), body=TEXT.encode()),
        PendingPart(source="s", key="k", part="two", time=now(), body=b""),
    ]
    workspace.store.pending_put(parts)
    assert [part.body for part in workspace.store.pending_of("s", ["k"])["k"]] == [TEXT.encode(), b""]
    assert hits(tmp_path, NEEDLES) == []
    plain = opened(redaction="")  # switched off meanwhile: what waits can still be read
    assert plain.store.pending_of("s", ["k"])["k"][0].body == TEXT.encode()


def test_what_is_veiled_can_be_erased(opened: Open, tmp_path: Path) -> None:
    workspace = opened()
    person = workspace.pseudonym("orla")[0]
    body = json.dumps({"user": {"pseudonym": person}, "text": TEXT}).encode()
    workspace.store.pending_put([PendingPart(source="s", key="k", part="one", time=now(), body=body)])
    workspace.store.quarantine(b"\xff" + body, "malformed", "cannot be read", "test")
    workspace.store.quarantine(b"\xffnobody", "malformed", "cannot be read", "test")
    source, rejects = tmp_path / "chat.jsonl", tmp_path / "workspace" / "rejects" / "openai-chat.jsonl"
    source.write_bytes(b"\xff" + body + b"\n\xffnobody\n")
    workspace.import_files("openai-chat", [source])
    assert len(rejects.read_bytes().splitlines()) == 2
    workspace.erase("user", "orla")
    assert workspace.store.pending_count() == 0
    assert [item.raw for item in workspace.quarantined()] == [b"\xffnobody"]
    assert len(rejects.read_bytes().splitlines()) == 1


@pytest.mark.parametrize("policy", ["standard", "mask"])
@pytest.mark.parametrize("torn", [False, True])
def test_what_was_refused_is_erased_though_its_person_is_named_by_what_is_redacted(
    opened: Open, tmp_path: Path, policy: str, torn: bool
) -> None:
    workspace = opened(redaction=policy)
    orla, other = (
        {"user_id": f"{name}@quist.example", "conversation_id": "c", "query": TEXT} for name in ("orla", "o")
    )
    for plain in (orla, other):
        body = json.dumps(plain).encode()
        workspace.store.quarantine(body[:-1] if torn else body, "malformed", f"no record: {plain}", "test")
    assert hits(tmp_path, {**NEEDLES, "id": b"orla@quist.example"}) == []
    workspace.erase("user", "orla@quist.example")
    assert [b"orla@quist.example" in item.raw for item in workspace.quarantined()] == [False]


def test_a_store_that_should_redact_takes_nothing_without_a_gate(tmp_path: Path) -> None:
    store = open_store(load_settings({"workspace": str(tmp_path), "redaction": "standard"}, environment={}))
    with pytest.raises(StoreError, match="opened without it"):
        store.append([turn(1)])
    with pytest.raises(StoreError, match="opened without it"):
        store.append_encoded([b"x"])
    with pytest.raises(StoreError, match="opened without it"):
        store.quarantine(b"x", "reason", "message", "source")
    assert store.count() == 0
    assert store.quarantine_count() == 0
    store.close()


def test_a_policy_that_is_not_there_opens_no_workspace(opened: Open) -> None:
    with pytest.raises(SettingError, match="there is no redaction policy 'standart'"):
        opened(redaction="standart")


def test_packages_that_are_missing_are_said(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracemill.privacy.policies.find_spec", lambda _name: None)
    with pytest.raises(SettingError, match="re2, stdnum, phonenumbers") as raised:
        opened()
    assert "tracemill[privacy]" in raised.value.hint


def test_the_key_is_made_once_and_stays(tmp_path: Path) -> None:
    key = load_redaction_key(tmp_path)
    assert load_redaction_key(tmp_path) == key
    assert load_redaction_key(tmp_path / "other") != key
    assert redaction_key_path(tmp_path).stat().st_mode & 0o777 == 0o600
    assert key_id(key) != key_id(load_redaction_key(tmp_path / "other"))
    redaction_key_path(tmp_path).write_text("abcd", encoding="ascii")
    with pytest.raises(SettingError, match="it has 2 bytes"):
        load_redaction_key(tmp_path)


def test_the_veil_hides_keeps_and_tells_tampering(tmp_path: Path) -> None:
    veil = Veil(load_settings({"workspace": str(tmp_path)}, environment={}))
    assert veil.take_off(b"plain") == b"plain"
    hidden = veil.put_on(TEXT.encode())
    assert TEXT.encode() not in hidden
    assert veil.put_on(TEXT.encode()) == hidden
    assert veil.take_off(hidden) == TEXT.encode()
    torn = hidden[:-1] + bytes([hidden[-1] ^ 1])
    assert veil.take_off(torn) == torn
    assert veil.take_off(hidden[:12]) == hidden[:12]


@given(records, st.lists(st.binary(min_size=1, max_size=8), max_size=2))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_passing_twice_changes_nothing_and_joins_are_kept(record: AnyRecord, joins: list[bytes]) -> None:
    gate = RedactionGate(lambda: REDACTOR, lambda _record: joins)
    (once,) = gate.clean([encode(record)], lambda _ids: {})
    assert isinstance(once, bytes)
    (twice,) = gate.clean([once], lambda _ids: {})
    assert twice == once
    (again,) = gate.clean([encode(record)], lambda _ids: {})
    assert again == once
    other = RedactionGate(lambda: OTHER, lambda _record: joins)
    (differently,) = other.clean([encode(record)], lambda _ids: {})
    assert isinstance(differently, bytes)
    assert gate.same(once, differently)
    assert gate.same(encode(record), once)


REDACTOR, OTHER = Redactor(STANDARD, KEY), Redactor(SAFE_HARBOR, KEY)


def test_bytes_that_are_no_record_pass_as_they_are() -> None:
    gate = RedactionGate(lambda: REDACTOR)
    items = [b"", b"\xff", b"none"]
    assert gate.clean(items, lambda _ids: {}) == items


def test_what_is_nested_too_deeply_is_refused_with_its_own_reason(opened: Open) -> None:
    deep: Any = "leaf"
    for _ in range(300):
        deep = [deep]
    workspace = opened()
    (refusal,) = workspace.store.append([turn(1, artifact=deep)]).refused
    assert refusal.reason == "too_deep"
    gate = RedactionGate(lambda: REDACTOR)
    with pytest.raises(RecordError):
        gate.record(turn(1, artifact=deep))
    assert workspace.store.append([turn(2)]).stored == 1
