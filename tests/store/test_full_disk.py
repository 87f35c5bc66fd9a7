"""A device without room while an object is sealed, stored, merged or brought back: the next run finishes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.test_archive import archive, archiver_of, interaction
from tracemill.core.records import AnyRecord
from tracemill.core.settings import load_settings
from tracemill.store.resealing import merge_small, verify_objects
from tracemill.store.tiered import open_store

LIMITED = """
import resource, sys
from tests.store.test_archive import archive, archiver_of
from tracemill.core.errors import TracemillError
from tracemill.core.settings import load_settings
from tracemill.store import resealing
from tracemill.store.tiered import open_store

workspace, what, step = sys.argv[1:]
store = open_store(load_settings({"workspace": workspace}, environment={}))

def full(*_):
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

def progress(name, done, total):
    if name == step:
        full()

if step == "begin":
    full()
try:
    if what == "archive":
        archive(store, progress=progress)
    elif what == "merge":
        resealing.merge_small(store, archiver_of(store))
    else:
        resealing.restore(store, store.archived_files()[0])
except TracemillError as error:
    print(type(error).__name__, error.message)
    sys.exit(3)
"""


@pytest.mark.parametrize(
    ("what", "step"),
    [("archive", "begin"), ("archive", "sealing"), ("archive", "sealed"), ("merge", "begin"), ("restore", "begin")],
)
def test_a_full_device_loses_nothing(tmp_path: Path, what: str, step: str) -> None:
    import random

    noise = random.Random(7)
    words = [f"{noise.getrandbits(64):x}" for _ in range(3000)]
    records: list[AnyRecord] = [
        interaction(3, sequence=at, messages=[{"role": "user", "content": " ".join(noise.sample(words, 400))}])
        for at in range(60)
    ]
    store = open_store(load_settings({"workspace": str(tmp_path)}, environment={}))
    for part in (records[:30], records[30:]):
        store.append(part)
        if what != "archive":
            archive(store)
    store.close()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), what, step],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    store = open_store(load_settings({"workspace": str(tmp_path)}, environment={}))
    assert list(store.scan()) == records
    archive(store)
    merge_small(store, archiver_of(store))
    archiver_of(store).clean()
    assert list(store.scan()) == records
    assert verify_objects(store) == store.verify() == []
    assert store.archived_files(("pending", "retired")) == []
    folders = (tmp_path / "archive", tmp_path / "archiving")
    on_disk = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    known = {file.id for file in store.archived_files()}
    assert {path.name.split(".")[0] for path in on_disk if not path.name.startswith("tracemill-owner")} == known
    store.close()
