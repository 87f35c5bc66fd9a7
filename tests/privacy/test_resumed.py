"""Erasure that is cut off in the middle of a step: what follows says and does what one that was not would have."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.privacy.test_erase import assert_gone, opened
from tests.privacy.test_reach import ANN, spoken, stored
from tests.privacy.world import Person, fill, settings_of
from tracemill.core.erasure import Receipt
from tracemill.core.errors import ArchiveError, TracemillError
from tracemill.core.ids import new_id
from tracemill.dataset import erase as dataset_erase
from tracemill.dataset.files import locked
from tracemill.privacy import buried
from tracemill.store.archived import archive_folder
from tracemill.store.archiving import Archiver
from tracemill.store.cold.objects import Objects
from tracemill.store.keeping import old_enough
from tracemill.store.tombstones import RECORD, stones_of
from tracemill.workspace import Workspace


class Killed(BaseException):
    """What a kill looks like to a test that goes on."""


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Person, Person]:
    path = tmp_path / "workspace"
    return path, *fill(path)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    path = tmp_path / "workspace"
    with Workspace.open(path, settings=settings_of(path)) as one:
        yield one


def removed(receipt: Receipt) -> dict[str, dict[str, int]]:
    return {place.place: place.removed for place in receipt.places if place.removed}


def test_a_version_half_removed_is_removed_by_the_next_run(
    world: tuple[Path, Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ann, bob = world
    write = dataset_erase.write_tombstone

    def killed(folder: Path, stone: Any) -> None:
        write(folder, stone)
        raise Killed

    with opened(path) as workspace:
        with monkeypatch.context() as patched:
            patched.setattr(dataset_erase, "write_tombstone", killed)
            with pytest.raises(Killed):
                workspace.erase("user", "ann")
        workspace.maintain()
    assert_gone(path, ann, bob)


@pytest.mark.parametrize("step", ["erased records", "erased dataset versions", "erased exports", "erased models"])
def test_the_receipt_of_what_was_cut_off_says_the_same(
    world: tuple[Path, Person, Person], tmp_path: Path, step: str
) -> None:
    path, *_ = world
    other = tmp_path / "other"
    shutil.copytree(path, other)
    settings = msgspec.structs.replace(settings_of(other), workspace=str(other))

    def stop(at: str, _done: int, _total: int | None) -> None:
        if at == step:
            raise Killed

    with Workspace.open(other, settings=settings) as workspace:
        straight = workspace.erase("user", "ann")
    with opened(path) as workspace, pytest.raises(Killed):
        workspace.erase("user", "ann", progress=stop)
    with opened(path) as workspace:
        (receipt,) = workspace.erasing.go_on()
    assert receipt.tainted_models == straight.tainted_models == ["model-of-all"]
    assert receipt.records == straight.records
    assert removed(receipt) == removed(straight)
    notes = [{place.place: place.notes for place in each.places if place.notes} for each in (receipt, straight)]
    assert notes[0] == notes[1]


def test_a_receipt_names_the_versions_of_its_own_erasure(world: tuple[Path, Person, Person]) -> None:
    path, *_ = world
    with opened(path) as workspace:
        for name, version in (("ann", "default@v1"), ("bob", "default@v2")):
            receipt = workspace.erase("user", name)
            (place,) = (place for place in receipt.places if place.place == "dataset versions")
            assert place.notes == [f"dataset {version}"]


def test_two_erasures_at_once_in_one_process_are_told_apart(world: tuple[Path, Person, Person]) -> None:
    path, ann, _ = world
    receipts: list[Receipt] = []
    with opened(path) as workspace:
        threads: list[threading.Thread] = []

        def progress(step: str, _done: int, _total: int | None) -> None:
            if step == "buried" and not threads:
                threads.append(
                    threading.Thread(target=lambda: receipts.append(workspace.erase("interaction", ann.ids[8])))
                )
                threads[0].start()
                threads[0].join(3)

        receipts.append(workspace.erase("user", "bob", progress=progress))
        threads[0].join(60)
        bobs = next(receipt for receipt in receipts if receipt.kind == "user")
        assert workspace.rebuilt(bobs) == {"default@v1": "default@v2"}
        assert bobs.tainted_models == ["model-of-all"]


def test_a_version_built_anew_is_named_though_that_was_cut_off(
    world: tuple[Path, Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ann, bob = world

    def killed(*_: Any) -> None:
        raise Killed

    with opened(path) as workspace:
        with monkeypatch.context() as patched:
            patched.setattr("tracemill.workspace.erasing.write_tombstone", killed)
            with pytest.raises(Killed):
                workspace.erase("user", "ann")
        workspace.maintain()
        stones = {version.reference: version.tombstone for version in workspace.datasets()}
        assert set(stones) == {"default@v1", "default@v2"}
        assert stones["default@v1"] is not None
        assert stones["default@v1"].replaced_by == "default@v2"
        assert (path / "exports" / "default-v2-openai-chat" / "export.json").exists()
    assert_gone(path, ann, bob)


# -- the archive


def test_an_object_that_could_not_be_deleted_is_deleted_before_the_receipt(
    world: tuple[Path, Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ann, bob = world

    def down(*_: Any) -> None:
        raise ArchiveError("the storage does not answer")

    with opened(path) as workspace:
        with monkeypatch.context() as patched:
            patched.setattr(Objects, "delete", down)
            with pytest.raises(TracemillError):
                workspace.erase("user", "ann")
            with pytest.raises(TracemillError):  # still down: there is no receipt yet
                workspace.erasing.go_on()
        (receipt,) = workspace.erasing.go_on()
        assert receipt.complete
        assert workspace.store.archived_files(("retired", "pending")) == []
    assert_gone(path, ann, bob)


def test_an_object_of_an_archiver_that_was_killed_is_deleted_too(
    world: tuple[Path, Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ann, bob = world

    def killed(step: str, _done: int, _total: int | None) -> None:
        if step == "uploaded":
            raise Killed

    with opened(path) as workspace:
        store = workspace.store
        archiver = Archiver(store, store.objects, archive_folder(store.settings))
        with monkeypatch.context() as patched:
            patched.setattr(Archiver, "give_up", lambda *_: None)  # it was on another machine, and is gone
            patched.setattr("tracemill.store.cold.catalogue.owner", lambda: "elsewhere/1")
            with pytest.raises(Killed):
                archiver.run([old_enough(store, 0)[0]], _report(), killed)
        assert len(store.archived_files(("pending",))) == 1
        receipt = workspace.erase("user", "ann")
        assert receipt.complete
    assert_gone(path, ann, bob)


def _report() -> Any:
    from tracemill.store.archiving import ArchiveReport

    return ArchiveReport(dry_run=False, location="")


# -- restored backups


def test_a_restored_database_loses_what_was_erased_though_that_was_cut_off(
    world: tuple[Path, Person, Person], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ann, _ = world
    for name in ("store.db", "archive"):
        (shutil.copytree if (path / name).is_dir() else shutil.copy)(path / name, tmp_path / name)
    with opened(path) as workspace:
        workspace.erase("user", "ann")
    shutil.rmtree(path / "archive")
    shutil.copytree(tmp_path / "archive", path / "archive")
    shutil.copy(tmp_path / "store.db", path)

    def killed(*_: Any) -> int:
        raise Killed

    with opened(path) as workspace:
        with monkeypatch.context() as patched:
            patched.setattr(type(workspace.store), "erase", killed)
            with pytest.raises(Killed):
                workspace.maintain()
        workspace.maintain()
        assert workspace.store.known(ann.ids) == set()


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: what lies over it is not written, as on a full device."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_tombstones_that_do_not_fit_on_the_device_are_an_error_and_tear_no_others(tmp_path: Path) -> None:
    first, second = (stones_of(RECORD, [new_id() for _ in range(50)]) for _ in range(2))
    with room_for(1000), pytest.raises(OSError, match=os.strerror(27)):
        buried.append(tmp_path, first)
    buried.append(tmp_path, second)
    assert set(buried.read(tmp_path)) >= set(second)


def test_a_head_that_was_torn_is_no_sign_of_tampering(workspace: Workspace) -> None:
    workspace.audit("test.one")
    heads = workspace.path / "audit-heads.jsonl"
    with room_for(heads.stat().st_size + 40), pytest.raises(OSError, match=os.strerror(27)):
        workspace.audit_log.sign_head()
    workspace.audit("test.two")
    assert workspace.audit_log.verify() == []


def test_the_log_of_the_database_is_empty_or_the_receipt_says_that_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracemill.store.engine.BUSY_TIMEOUT_SECONDS", 0.5)
    path = tmp_path / "workspace"
    with (
        Workspace.open(path, settings=settings_of(path)) as workspace,
        closing(sqlite3.connect(path / "store.db", isolation_level=None)) as reader,
    ):
        stored(workspace, spoken(workspace, ANN, "talk", "canary of ann 5f1c"))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM records").fetchone()
        receipt = workspace.erase("user", ANN)
        log = workspace.path / "store.db-wal"
        notes = [note for place in receipt.places for note in place.notes]
        assert log.stat().st_size == 0 or any("write-ahead log" in note for note in notes)


# -- exports


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("outside", [False, True])
def test_an_export_that_was_cut_off_goes_too(
    world: tuple[Path, Person, Person], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outside: bool, moved: bool
) -> None:
    """Killed while rows were written, or when some of the files were in their place."""
    path, ann, bob = world

    def killed(*_: Any, **__: Any) -> str:
        raise Killed

    to = tmp_path / "elsewhere" if outside else None
    with opened(path) as workspace:
        with monkeypatch.context() as patched:
            if moved:
                patched.setattr("tracemill.export.placing._remove_stale", killed)
            else:
                patched.setattr("tracemill.export.write._Export._card", killed)
                patched.setattr("tracemill.export.placing.shutil.rmtree", lambda *_, **__: None)  # nothing cleans up
            with pytest.raises(Killed):
                workspace.export("default", "openai-chat", to)
        where = to or path / "exports" / "default-v1-openai-chat"
        assert ann.canary in "".join(
            file.read_text() for file in (where if moved else where / ".draft").glob("*.jsonl")
        )
        (where / "notes.txt").write_text("the user's own")
        workspace.erase("user", "ann")
        assert [file.name for file in where.rglob("*.jsonl")] == []
        assert (where / "notes.txt").exists()
    assert_gone(path, ann, bob)


def test_an_export_under_way_is_waited_for(world: tuple[Path, Person, Person], monkeypatch: pytest.MonkeyPatch) -> None:
    path, ann, bob = world
    folder = path / "exports" / "default-v1-openai-chat"
    export = (folder / "export.json").read_bytes()
    monkeypatch.setattr("tracemill.dataset.erase._PATIENCE", 0.05)
    with opened(path) as workspace:
        with locked(folder, "exporting default@v1"):
            (folder / "export.json").unlink()  # it comes last
            with pytest.raises(TracemillError):
                workspace.erase("user", "ann")
            (folder / "export.json").write_bytes(export)
        assert workspace.maintain().erasures == {"done": 1}
    assert_gone(path, ann, bob)
