"""Erasure reaches every place, whatever it meets on the way, and nothing erased comes back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.privacy.scanning import hits, unpacked
from tests.privacy.world import Person, fill, places_of, settings_of, spooled
from tracemill.core.codec import encode
from tracemill.core.errors import ErasureError
from tracemill.core.examples import ExportManifest
from tracemill.core.ids import new_id, now
from tracemill.core.records import Interaction
from tracemill.privacy.erase import receipt_holds
from tracemill.sdk.spool import inspect
from tracemill.workspace import Workspace

NOT_DATA = ("pseudonym.key",)


def opened(path: Path) -> Workspace:
    return Workspace.open(path, settings=settings_of(path))


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Person, Person]:
    path = tmp_path / "workspace"
    return path, *fill(path)


def assert_gone(path: Path, who: Person, other: Person) -> None:
    """Nothing of one is left anywhere, everything of the other is, and what is stored is sound."""
    assert hits(path, who.needles()) == []
    spool = inspect(path)
    assert spool.problems == []
    assert spool.counts.unaccounted == 0  # captured = queued + spooled + stored + dead-lettered + dropped
    with opened(path) as workspace:
        assert workspace.store.known(who.ids) == set()
        assert workspace.store.known(other.ids) == set(other.ids)
        assert workspace.store.verify() == []
        assert workspace.verify_archive() == []
        assert workspace.audit_log.verify() == []
        assert workspace.open_erasures() == []
        for version in workspace.datasets():
            assert version.tombstone is not None or version.verify() == []
        assert workspace.dataset("default").tombstone is None  # what lost its rows was built anew


def test_the_search_finds_what_lies_in_each_place(world: tuple[Path, Person, Person]) -> None:
    path, ann, bob = world
    for who in (ann, bob):
        found = hits(path, {"canary": who.canary.encode()})
        kinds = {entry.rsplit(" ", 1)[1].split("/")[0] for entry in found}
        assert kinds >= {"store.db", "archive", "spool", "datasets", "exports", "transcripts", "gepeto", "rejects"}
    with opened(path) as workspace:
        assert set(places_of(workspace, ann)) == {
            "records", "quarantine and waiting parts", "spool and dead letters", "rejected imports",
            "Lightspeed transcripts", "Lightspeed feedback", "Gepeto files", "dataset versions",
        }  # fmt: skip


def test_a_person_is_gone_from_every_place_and_the_receipt_says_so(world: tuple[Path, Person, Person]) -> None:
    path, ann, bob = world
    with opened(path) as workspace:
        receipt = workspace.erase("user", "ann", reason="she asked", actor="dpo")
        assert receipt_holds(receipt, workspace.signer)
        assert not receipt_holds(msgspec.structs.replace(receipt, records={}), workspace.signer)
        assert hits(path, ann.needles(), passed_over=NOT_DATA) == []  # also while the database is open
        assert workspace.rebuilt(receipt) == {"default@v1": "default@v2"}
    assert (receipt.status, receipt.complete) == ("done", True)
    assert receipt.records == {"feedback": 4, "interaction": 4, "session_end": 1, "step": 4, "validation": 4}
    assert receipt.tainted_models == ["model-of-all"]
    assert sum(place.left for place in receipt.places) == 0
    assert_gone(path, ann, bob)


def test_what_is_erased_stays_out_by_every_way_in(world: tuple[Path, Person, Person]) -> None:
    path, ann, bob = world
    late = msgspec.structs.replace(ann.records[0], id=new_id())
    assert isinstance(late, Interaction)
    with opened(path) as workspace:
        workspace.erase("user", "ann")
        old = [encode(record) for record in (*ann.records, late)]
        result = workspace.store.append_encoded(old)
        assert (result.stored, result.duplicates) == (0, 0)
        assert {refusal.reason for refusal in result.refused} == {"erased"}
        assert workspace.quarantined() == [item for item in workspace.quarantined() if item.id not in ann.ids]
        workspace.drain()
        workspace.restore_archive()
        workspace.build_dataset()
        assert workspace.store.known([*ann.ids, late.id]) == set()
        # Somebody who comes back as a user is a user again.
        again = msgspec.structs.replace(late, id=new_id(), time=now(), conversation_id="new", messages=[])
        assert workspace.store.append([again]).stored == 1
        workspace.store.erase([again.id])
    assert hits(path, ann.needles()) == []
    assert_bob(path, bob)


def assert_bob(path: Path, bob: Person) -> None:
    with opened(path) as workspace:
        assert workspace.store.known(bob.ids) == set(bob.ids)


def test_a_late_spool_does_not_bring_anybody_back(world: tuple[Path, Person, Person]) -> None:
    path, ann, bob = world
    with opened(path) as workspace:
        workspace.erase("user", "ann")
    # A process that captured before the erasure delivers only now: its record is of a conversation that is erased.
    identity = spooled(path, ann)
    with opened(path) as workspace:
        drained = workspace.drain()
        assert drained.stored == 1  # Bob's
        assert workspace.store.known([identity]) == set()
    assert inspect(path).counts.unaccounted == 0
    assert_bob(path, bob)


@pytest.mark.parametrize("kind", ["conversation", "interaction"])
def test_a_conversation_or_an_interaction_alone(world: tuple[Path, Person, Person], kind: str) -> None:
    path, ann, bob = world
    value = ann.conversation if kind == "conversation" else ann.ids[0]
    with opened(path) as workspace:
        before = workspace.store.count()
        receipt = workspace.erase(kind, value)  # type: ignore[arg-type]
        gone = sum(receipt.records.values())
        assert gone == (17 if kind == "conversation" else 4)
        assert workspace.store.count() == before - gone
        assert workspace.store.known(ann.ids[:4]) == set()
        assert workspace.store.verify() == []
    if kind == "conversation":
        assert hits(path, {"conversation": ann.conversation.encode()}) == []
    else:
        assert hits(path, {"id": ann.ids[0].encode()}) == []
    assert_bob(path, bob)


def test_what_others_said_in_a_shared_conversation_stays(world: tuple[Path, Person, Person]) -> None:
    path, ann, bob = world
    with opened(path) as workspace:
        spoken = bob.records[0]
        assert isinstance(spoken, Interaction)
        joined = msgspec.structs.replace(
            spoken, id=new_id(), conversation_id=ann.conversation, messages=[{"role": "user", "content": "bob here"}]
        )
        workspace.store.append([joined])
        receipt = workspace.erase("user", "ann")
        assert workspace.store.known([joined.id]) == {joined.id}
        notes = [note for place in receipt.places for note in place.notes]
        assert any("1 records of other people" in note for note in notes)
        assert workspace.store.known(ann.ids[:1]) == set()


def test_a_legal_hold_defers_and_its_release_lets_it_happen(world: tuple[Path, Person, Person]) -> None:
    path, ann, bob = world
    with opened(path) as workspace:
        hold = workspace.place_hold("user", "ann", reason="a case")
        receipt = workspace.erase("user", "ann")
        assert (receipt.status, receipt.hold, receipt.complete) == ("deferred", hold.id, False)
        assert receipt_holds(receipt, workspace.signer)
        assert workspace.store.known(ann.ids) == set(ann.ids)
        workspace.maintain()
        assert workspace.store.known(ann.ids) == set(ann.ids)
        assert [request.status for request in workspace.open_erasures()] == ["deferred"]
        with pytest.raises(ErasureError, match="no standing hold"):
            workspace.release_hold("nonsense")
        workspace.release_hold(hold.id)
        workspace.maintain()
    assert_gone(path, ann, bob)


def test_a_hold_on_a_conversation_or_platform_protects_who_is_in_it(world: tuple[Path, Person, Person]) -> None:
    path, ann, _ = world
    with opened(path) as workspace:
        for kind, value in (
            ("conversation", ann.conversation),
            ("platform", "shop"),
            ("all", ""),
            ("interaction", ann.ids[0]),
        ):
            hold = workspace.place_hold(kind, value, reason="a case")  # type: ignore[arg-type]
            assert workspace.erase("user", "ann").status == "deferred"
            workspace.release_hold(hold.id)
        assert workspace.store.known(ann.ids) == set(ann.ids)


def test_a_hold_on_a_person_or_conversation_protects_each_part_of_it(world: tuple[Path, Person, Person]) -> None:
    path, ann, _ = world
    with opened(path) as workspace:
        holds: list[tuple[Any, str]] = [("user", "ann"), ("conversation", ann.conversation)]
        for kind, value in holds:
            hold = workspace.place_hold(kind, value, reason="a case")
            assert workspace.erase("interaction", ann.ids[0]).status == "deferred"
            assert workspace.erase("conversation", ann.conversation).status == "deferred"
            assert workspace.store.known(ann.ids) == set(ann.ids)
            workspace.release_hold(hold.id)


def test_erasing_somebody_nobody_knows_gives_a_receipt_of_nothing(world: tuple[Path, Person, Person]) -> None:
    path = world[0]
    with opened(path) as workspace:
        before = workspace.store.count()
        receipt = workspace.erase("user", "nobody")
        assert (receipt.records, receipt.complete) == ({}, True)
        assert workspace.store.count() == before
        assert [version.reference for version in workspace.datasets()] == ["default@v1"]


def test_a_person_is_given_their_data(world: tuple[Path, Person, Person]) -> None:
    path, ann, _ = world
    with opened(path) as workspace:
        given = list(workspace.export_person("ann"))
        assert {record.id for record in given} == set(ann.ids)
        assert [record.time for record in given] == sorted(record.time for record in given)
        assert given[0].id in ann.ids
        assert b"canary-of-bob" not in b"".join(encode(record) for record in given)


def test_a_person_is_gone_from_postgresql_too(tmp_path: Path, postgres: str) -> None:
    import psycopg

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE erasing")
    address = postgres.replace("/postgres?", "/erasing?")
    path = tmp_path / "workspace"
    ann, bob = fill(path, database=address.replace("postgresql://", "postgresql+psycopg://"))
    with Workspace.open(
        path, settings=settings_of(path, database=address.replace("postgresql://", "postgresql+psycopg://"))
    ) as workspace:
        assert workspace.erase("user", "ann").complete
        assert workspace.store.known(ann.ids) == set()
        assert workspace.store.known(bob.ids) == set(bob.ids)
        assert workspace.store.verify() == []
    assert hits(path, ann.needles(), passed_over=NOT_DATA) == []
    with psycopg.connect(address) as connection:
        tables = [name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'.encode()):
                for value in row:
                    texts = list(unpacked(value, {}))
                    assert not any(needle in text for needle in ann.needles().values() for text in texts), table


def test_the_key_of_a_person_goes_with_them_and_a_backup_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "workspace"
    ann, bob = fill(path, subject_encryption=True)
    assert [entry for entry in hits(path, {"canary": ann.canary.encode()}) if "archive/" in entry] == []
    shutil.copy(path / "store.db", tmp_path / "backup.db")
    with opened(path) as workspace:
        receipt = workspace.erase("user", "ann")
    assert {place.place: place.removed for place in receipt.places}["keys"] == {"keys": 1}
    assert_gone(path, ann, bob)
    shutil.copy(tmp_path / "backup.db", path / "other.db")
    with Workspace.open(path, settings=settings_of(path, database=f"sqlite:///{path / 'other.db'}")) as backup:
        shells = [
            record for record in backup.store.scan_hot() if record.id in ann.ids and isinstance(record, Interaction)
        ]
        assert shells
        assert all(record.messages == [] for record in shells)
        assert {record.id for record in backup.store.scan_hot()} >= {record.id for record in bob.records[8:]}


def test_a_draft_of_a_build_that_was_cut_off_goes_too(world: tuple[Path, Person, Person]) -> None:
    path, ann, bob = world
    draft = path / "datasets" / "default" / ".building-abc-1"
    draft.mkdir()
    (draft / "rows.jsonl").write_text(ann.canary)
    (path / "archiving").mkdir(exist_ok=True)
    (path / "archiving" / new_id()).write_text(ann.canary)
    with opened(path) as workspace:
        workspace.erase("user", "ann")
    assert_gone(path, ann, bob)


def test_exports_in_other_containers_go_whole_and_are_written_again(world: tuple[Path, Person, Person]) -> None:
    path, ann, bob = world
    with opened(path) as workspace:
        old = [
            workspace.export("default", "sharegpt", container=container, shard_bytes=600)
            for container in ("jsonl", "jsonl.gz", "parquet", "csv")
        ]
        assert all(len(report.manifest.files) > 3 for report in old)
        workspace.erase("user", "ann", reason="she asked", actor="dpo")
        for report in old:
            left = {file.name for file in report.path.iterdir()}
            assert left & {file.path for file in report.manifest.files} == set()
            again = report.path.with_name(report.path.name.replace("default-v1", "default-v2"))
            made = msgspec.json.decode((again / "export.json").read_bytes(), type=ExportManifest)
            assert (made.format, made.container, made.shard_bytes) == ("sharegpt", report.manifest.container, 600)
            assert 0 < sum(made.rows.values()) < report.rows
    assert_gone(path, ann, bob)
