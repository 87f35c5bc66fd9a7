"""How the bytes of somebody are told from everybody else's, outside of the records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from tests.privacy.test_reach import fields, spoken, stored
from tests.privacy.world import settings_of, workspace_user
from tracemill.core.access import ApiKey, make_secret
from tracemill.core.codec import encode
from tracemill.core.errors import StoreError
from tracemill.core.ids import monotonic, new_id, now
from tracemill.core.records import Interaction, Step
from tracemill.privacy.subject import Subject
from tracemill.store.tables import dictionaries
from tracemill.workspace import Workspace


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def workspace(path: Path) -> Iterator[Workspace]:
    with Workspace.open(path, settings=settings_of(path)) as opened:
        yield opened


def rejected(workspace: Workspace, *raws: str) -> Path:
    file = workspace.path / "rejects" / "lightspeed.jsonl"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"".join(msgspec.json.encode({"reason": "invalid", "raw": raw}) + b"\n" for raw in raws))
    return file


def test_a_name_within_a_longer_one_is_not_theirs(workspace: Workspace) -> None:
    stored(workspace, spoken(workspace, "ann@example.com", "support-1"))
    others = [spoken(workspace, "joann@example.com", f"support-1{number}") for number in range(3)]
    for other in others:
        workspace.store.quarantine(encode(other), "poison", "nobody takes it", "test")
    lines = rejected(
        workspace, "{joann@example.com in support-12 is torn", "{ann@example.com is torn", '{"in": "support-1", torn'
    )
    workspace.erase("user", "ann@example.com")
    assert len(workspace.quarantined()) == 3
    assert lines.read_bytes().count(b"\n") == 1
    assert b"joann" in lines.read_bytes()


@pytest.mark.parametrize("length", [8, 31, 32, 48, 57, 65, 97, 122, 255, 256])
def test_a_name_is_found_whatever_stands_around_it_in_messagepack(length: int) -> None:
    name = "n" * length
    subject = Subject("conversation", name, conversations=frozenset([name]))
    for around in ({"a": name, "b": 0x61}, [name, 0x41, name], {name: 0x30}, ["x", name]):
        assert subject.named_in(msgspec.msgpack.encode(around))
        assert subject.named_in(msgspec.json.encode(around))
    assert not subject.named_in(msgspec.msgpack.encode({"a": f"{name}n", "b": f"n{name}"}))


def test_thousands_of_names_are_looked_for_at_once() -> None:
    conversations = frozenset(f"conversation-{number}" for number in range(5000))
    ids = frozenset(new_id() for _ in range(20_000))
    subject = Subject("user", "a" * 64, ids=ids, conversations=conversations, pseudonyms=frozenset(["a" * 64]))
    others = msgspec.msgpack.encode({"a": "conversations of others " * 100, "id": new_id()})
    began = monotonic()
    assert not any(subject.named_in(others) for _ in range(200))
    assert monotonic() - began < 5  # a pattern of all the names took a minute
    for name in ("conversation-4711", next(iter(ids)), f"session-{next(iter(ids))}", "a" * 64):
        assert subject.named_in(msgspec.json.encode({"said": f"in {name}."}))


@pytest.mark.parametrize("raw_id", ["ann", "7", "ann@example.com"])
def test_a_rejected_file_that_states_a_short_id_goes(workspace: Workspace, raw_id: str) -> None:
    mine = msgspec.json.encode({"metadata": {"user_id": raw_id, "conversation_id": "c"}, "query": 7}).decode()
    his = msgspec.json.encode({"metadata": {"user_id": "ben", "conversation_id": "d"}, "query": 7}).decode()
    lines = rejected(workspace, mine, his)
    for raw in (mine, his):
        workspace.store.quarantine(raw.encode(), "invalid", "query: expected str", "lightspeed")
    workspace.erase("user", raw_id)
    assert lines.read_bytes().count(b"\n") == 1
    assert b"ben" in lines.read_bytes()
    assert [item.raw for item in workspace.quarantined()] == [his.encode()]


def test_what_cannot_be_read_is_not_taken_for_free_of_them(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = spoken(workspace, "ann", "talk")
    stored(workspace, turn)
    file = workspace.path / "gepeto" / "one.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(msgspec.json.encode({"interaction_id": turn.id}))
    read = Path.read_bytes

    def refused(self: Path) -> bytes:
        if self == file:
            raise PermissionError(13, "Permission denied", str(self))
        return read(self)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", refused)
        with pytest.raises(PermissionError):
            workspace.erase("user", "ann")
    assert len(workspace.open_erasures()) == 1
    workspace.maintain()
    assert not file.exists()


def test_the_keys_of_a_person_are_revoked_and_forget_them(workspace: Workspace) -> None:
    users = {name: workspace_user(workspace, name) for name in ("ann", "bob")}
    for name, user in users.items():
        identity, _, digest = make_secret()
        key = ApiKey(id=identity, name=f"app of {name}", digest=digest, scopes=("user",), created=now(), user=user)
        workspace.store.put_api_key(key)
    receipt = workspace.erase("user", "ann")
    anns, bobs = workspace.store.api_keys()
    assert anns.user is None
    assert not anns.live(now())
    assert bobs.user == users["bob"]
    assert bobs.live(now())
    assert {"api keys": {"revoked": 1}}.items() <= {each.place: each.removed for each in receipt.places}.items()


def test_a_dictionary_holds_no_word_that_only_the_steps_of_one_person_share(path: Path) -> None:
    canary = "canary-of-ann-5f1c"
    with Workspace.open(path, settings=settings_of(path)) as workspace:
        turns = [spoken(workspace, "ann", "talk", f"question {number}") for number in range(40)]
        steps = [
            Step(
                **fields(interaction_id=turn.id),
                outputs=[{"at": f"{canary} {number} {at}", "of": canary} for at in range(250)],
            )
            for number, turn in enumerate(turns)
        ]
        inner = [Interaction(**fields(parent_id=turn.id), intent=canary) for turn in turns]
        words = "Our opening hours are nine to five, and returns are free within thirty days of delivery. " * 2
        others = [spoken(workspace, f"other{number % 5}", f"c{number}", f"{words} {number}") for number in range(200)]
        stored(workspace, *others, *[record for three in zip(turns, steps, inner, strict=True) for record in three])
        with workspace.store.engine.connect() as connection:
            bodies = [bytes(body) for (body,) in connection.execute(select(dictionaries.c.body))]
        assert any(bodies), "no dictionary was trained"
        assert not any(canary.encode() in body for body in bodies)


# -- keys of their own


def sealed(path: Path, **more: Any) -> Workspace:
    return Workspace.open(path, settings=settings_of(path, subject_encryption=True, **more))


def test_a_missing_file_of_keys_is_an_error_and_not_a_destroyed_key(path: Path, tmp_path: Path) -> None:
    keys = tmp_path / "device" / "subjects.db"
    with sealed(path, subject_keys=str(keys)) as workspace:
        turn = spoken(workspace, "ann", "talk")
        stored(workspace, turn)
        workspace.archive(days_old=0)
    keys.rename(tmp_path / "aside.db")
    with sealed(path, subject_keys=str(keys)) as workspace:
        with pytest.raises(StoreError, match="is not there"):
            list(workspace.store.scan())
        with pytest.raises(StoreError, match="is not there"):
            workspace.restore_archive()
        with pytest.raises(StoreError, match="is not there"):
            workspace.store.append([spoken(workspace, "bob", "his talk")])
        assert not keys.exists()
    (tmp_path / "aside.db").rename(keys)
    with sealed(path, subject_keys=str(keys)) as workspace:
        assert list(workspace.store.scan()) == [turn]


def test_what_is_inside_of_a_persons_interaction_is_sealed_however_deep(path: Path) -> None:
    canary = b"what nobody else may read 5f1c"
    with sealed(path) as workspace:
        turn = spoken(workspace, "ann", "talk")
        inner = Interaction(**fields(parent_id=turn.id), intent=canary.decode())
        deeper = Interaction(**fields(parent_id=inner.id), intent=canary.decode())
        step = Step(**fields(interaction_id=deeper.id), outputs=canary.decode())
        stored(workspace, step, deeper, turn, inner)
        late = Step(**fields(interaction_id=deeper.id), outputs=canary.decode())
        stored(workspace, late)
        assert list(workspace.store.scan()) == [step, deeper, turn, inner, late]
        workspace.store.shrink()
    assert canary not in (path / "store.db").read_bytes()
