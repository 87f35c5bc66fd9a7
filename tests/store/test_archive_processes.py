"""Archivers as the world runs them: many at once, stopped past their lease and continued, killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.store.test_archive import interaction
from tracemill.core.records import Interaction
from tracemill.core.settings import Settings, load_settings
from tracemill.store.keeping import run_archive
from tracemill.store.resealing import verify_objects
from tracemill.store.tiered import TieredStore, open_store

ROOT = Path(__file__).resolve().parents[2]
ARCHIVER = """
import os, signal, sys
from pathlib import Path
from tests.store.test_archive_processes import settings_of
from tracemill.core.errors import TracemillError
from tracemill.store.keeping import run_archive
from tracemill.store.tiered import open_store

path, step, what = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
store = open_store(settings_of(path, lease=float(sys.argv[4])))
print("ready", flush=True)

def progress(stage, done, total):
    if stage == step:
        print(stage, flush=True)
        os.kill(os.getpid(), getattr(signal, what))

for _ in range(20):
    try:
        run_archive(store, days_old=30, progress=progress)
        if not list(store.scan_hot()):
            break
    except TracemillError as error:
        print("again:", error, flush=True)
store.close()
print("done", flush=True)
"""


def settings_of(path: Path, lease: float = 900.0) -> Settings:
    return load_settings({"workspace": str(path), "archive_lease_seconds": lease}, environment={})


def start(path: Path, step: str = "", what: str = "SIGKILL", lease: float = 900.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ARCHIVER, str(path), step, what, str(lease)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def read_until(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for found in process.stdout:
        if found.strip() == line:
            return
    raise AssertionError(f"the process ended without saying {line}")


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Path, list[Interaction]]:
    records = [interaction(number) for number in range(120)]
    store = open_store(settings_of(tmp_path))
    store.append(records)
    store.close()
    return tmp_path, records


def assert_whole(path: Path, records: list[Interaction], *, archived: bool = True) -> None:
    """Each record is read once; each is in one object or in the database; no object is nobody's."""
    store: TieredStore = open_store(settings_of(path, lease=0.001))
    try:
        run_archive(store, days_old=30)  # what is left over is removed, and done
        assert list(store.scan()) == records
        files = store.archived_files()
        held = [row.record.id for file in files for row in store.cold.sealed(file).all_rows()]
        hot = [record.id for record in store.scan_hot()]
        assert sorted([*held, *hot]) == sorted(record.id for record in records)
        assert not archived or hot == []
        assert verify_objects(store) == []
        assert store.verify() == []
        assert {stored.key for stored in store.objects.list() if not stored.key.startswith("tracemill-owner-")} == {
            file.object_key for file in files
        }
    finally:
        store.close()


def test_ten_archivers_put_each_row_into_one_object(filled: tuple[Path, list[Interaction]]) -> None:
    path, records = filled
    processes = [start(path) for _ in range(10)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.read().endswith("done\n")
        assert process.wait(60) == 0
        process.stdout.close()
    assert_whole(path, records)


@pytest.mark.parametrize("step", ["sealing", "sealed", "uploaded", "leaving", "committed"])
def test_killed_at_a_step_it_loses_nothing(filled: tuple[Path, list[Interaction]], step: str) -> None:
    path, records = filled
    with start(path, step) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert_whole(path, records)


def test_killed_at_any_moment_again_and_again(filled: tuple[Path, list[Interaction]]) -> None:
    path, records = filled
    for _ in range(5):
        with start(path, lease=0.2) as process:
            read_until(process, "ready")
            time.sleep(random.uniform(0, 0.25))
            process.kill()
            process.wait(60)
    assert_whole(path, records)


@pytest.mark.parametrize("step", ["sealed", "uploaded"])
def test_one_stopped_past_its_lease_and_continued_changes_nothing(
    filled: tuple[Path, list[Interaction]], step: str
) -> None:
    path, records = filled
    with start(path, step, "SIGSTOP", lease=0.2) as sleeper:
        read_until(sleeper, step)
        time.sleep(0.3)  # its lease is over
        with start(path, lease=0.2) as other:
            read_until(other, "done")
        files = open_files(path)
        os.kill(sleeper.pid, signal.SIGCONT)
        for _ in range(20):  # it stops at every object it tries
            if sleeper.poll() is not None:
                break
            time.sleep(0.2)
            os.kill(sleeper.pid, signal.SIGCONT)
        assert sleeper.wait(60) == 0
    assert open_files(path) == files  # the other's objects stand
    assert_whole(path, records)


def open_files(path: Path) -> list[str]:
    store = open_store(settings_of(path))
    try:
        return [file.object_key for file in store.archived_files()]
    finally:
        store.close()
