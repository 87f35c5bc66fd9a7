"""Erasure that is killed, raced, or held up: it goes on where it was, and in the end nothing is left."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.privacy.scanning import hits
from tests.privacy.test_erase import assert_gone, opened
from tests.privacy.world import Person, fill
from tracemill.core.errors import ErasureError, TracemillError
from tracemill.dataset.files import locked

ROOT = Path(__file__).resolve().parents[2]
ERASE = """
import os, signal, sys
from pathlib import Path
from tests.privacy.test_erase import opened

path, kill_at = Path(sys.argv[1]), sys.argv[2]

def progress(step, done, total):
    if step == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

workspace = opened(path)
print("ready", flush=True)
workspace.erase("user", "ann", progress=progress)
workspace.close()
"""


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Person, Person]:
    path = tmp_path / "workspace"
    return path, *fill(path)


def erase_in_a_process(path: Path, kill_at: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ERASE, str(path), kill_at], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    "step",
    [
        *("found", "buried", "erased spool and dead letters", "erased records", "erased Gepeto files"),
        *("erased dataset versions", "erased models", "read records"),  # the last: building the dataset anew
    ],
)
def test_an_erasure_killed_at_a_step_is_finished_by_the_next_maintenance(
    world: tuple[Path, Person, Person], step: str
) -> None:
    path, ann, bob = world
    with erase_in_a_process(path, step) as process:
        assert process.wait(60) == -signal.SIGKILL
    with opened(path) as workspace:
        done = workspace.maintain()
        assert done.erasures == ({} if step == "read records" else {"done": 1})
        (receipt,) = workspace.receipts_path.glob("*.json")
        assert ann.canary not in receipt.read_text()
    assert_gone(path, ann, bob)


def test_an_erasure_killed_at_any_moment(world: tuple[Path, Person, Person]) -> None:
    path, ann, bob = world
    for _ in range(4):
        with erase_in_a_process(path, "") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(random.uniform(0, 0.4))
            process.kill()
            process.wait(60)
    with opened(path) as workspace:
        workspace.erase("user", "ann")  # whatever of the others was begun is finished too
        workspace.maintain()
    assert_gone(path, ann, bob)


def test_erasure_raced_with_archiving_restoring_and_building(world: tuple[Path, Person, Person]) -> None:
    path, ann, bob = world
    stop = threading.Event()
    failures: list[BaseException] = []

    def forever(verb: str) -> None:
        with opened(path) as own:
            while not stop.is_set():
                try:
                    if verb == "archive":
                        own.archive(days_old=0)
                    elif verb == "restore":
                        own.restore_archive()
                    else:
                        own.build_dataset()
                except TracemillError:
                    continue  # somebody else was there first: it is tried again
                except BaseException as error:
                    failures.append(error)
                    raise

    threads = [threading.Thread(target=forever, args=(verb,)) for verb in ("archive", "restore", "build")]
    for thread in threads:
        thread.start()
    try:
        with opened(path) as workspace:
            for _ in range(20):
                try:
                    workspace.erase("user", "ann")
                    break
                except TracemillError:
                    continue  # a dataset was being built: the request stays open
            else:
                raise AssertionError("the erasure never came through")
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert failures == []
    with opened(path) as workspace:
        workspace.maintain()
        workspace.erase("user", "ann")  # what a build that began before still read
    assert_gone(path, ann, bob)


def test_an_erasure_that_cannot_reach_a_place_stays_open_and_says_so(
    world: tuple[Path, Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ann, bob = world
    monkeypatch.setattr("tracemill.dataset.erase._PATIENCE", 0.05)
    with opened(path) as workspace:
        with locked(path / "datasets" / "default", "building"), pytest.raises(TracemillError):
            workspace.erase("user", "ann")
        assert [request.status for request in workspace.open_erasures()] == ["open"]
        assert workspace.store.known(ann.ids) == set()  # what could be erased is
        workspace.maintain()
    assert_gone(path, ann, bob)


def test_what_nobody_can_remove_is_named(world: tuple[Path, Person, Person], monkeypatch: pytest.MonkeyPatch) -> None:
    path, ann, _ = world
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # a device that says yes and does nothing
    with opened(path) as workspace, pytest.raises(ErasureError, match="Lightspeed transcripts"):
        workspace.erase("user", "ann")
    assert hits(path / "transcripts", {"canary": ann.canary.encode()}) != []


def test_a_database_restored_from_a_backup_loses_again_what_was_erased(
    world: tuple[Path, Person, Person], tmp_path: Path
) -> None:
    path, ann, bob = world
    backup = tmp_path / "backup"
    backup.mkdir()
    shutil.copy(path / "store.db", backup)
    shutil.copytree(path / "archive", backup / "archive")
    with opened(path) as workspace:
        workspace.erase("user", "ann")
    shutil.rmtree(path / "archive")
    shutil.copytree(backup / "archive", path / "archive")
    shutil.copy(backup / "store.db", path)
    with opened(path) as workspace:
        assert workspace.store.known(ann.ids) == set(ann.ids)  # as the backup had it
        workspace.maintain()
        assert workspace.store.known(ann.ids) == set()
        assert workspace.store.append(ann.records).stored == 0
        assert workspace.maintain().erasures == {}
        assert workspace.store.known(bob.ids) == set(bob.ids)
        assert workspace.store.verify() == workspace.verify_archive() == []
    shutil.rmtree(backup)
    assert hits(path, ann.needles()) == []
