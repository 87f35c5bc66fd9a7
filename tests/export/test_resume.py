"""An export that is stopped goes on behind its finished files, and only behind those: the folder is as if nobody had."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dataset.support import calls, feedback, interaction, list_store, result, says
from tests.export.tokenizers_made import CHATML, save_tokenizer
from tracemill.core.errors import DatasetError, TracemillError
from tracemill.core.examples import Tombstone
from tracemill.core.ids import now
from tracemill.core.records import AnyRecord
from tracemill.dataset.build import build_version
from tracemill.dataset.erase import ExportsPlace, write_tombstone
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.version import Version, open_version
from tracemill.export import write
from tracemill.export.containers import CONTAINERS
from tracemill.export.write import ExportReport, export_version
from tracemill.privacy.subject import Subject

SIZE = 500
"""Bytes of rows a file: about five rows."""


def records() -> Iterator[AnyRecord]:
    """Rows with and without losses, and some that are refused."""
    for number in range(60):
        answer = says("assistant", f"answer {number}", **({"reasoning": "r"} if number % 3 == 0 else {}))
        if number % 7 == 3:
            asked = [says("user", f"call {number}"), calls("f", "{", "c1"), result("c1", "r", "f")]
            yield interaction(f"{number}", asked, response=answer, success=True)
        else:
            yield interaction(f"{number}", [says("user", f"question {number}")], response=answer, success=True)
        yield feedback(f"thumb {number}", f"{number}", kind="thumbs_up")


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Version:
    recipe = Recipe(name="demo", split={"train": 0.6, "test": 0.4})
    return build_version(list_store(list(records())), recipe, tmp_path_factory.mktemp("made") / "datasets")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def stopped(version: Version, to: Path, after: int, **options: Any) -> None:
    """An export that is interrupted when it has looked at so many examples."""

    def stop(_stage: str, done: int, _total: int | None) -> None:
        if done >= after:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(write, "_REPORT_EVERY", 1)
        with pytest.raises(KeyboardInterrupt):
            export(version, to, progress=stop, **options)


def export(version: Version, to: Path, **options: Any) -> ExportReport:
    return export_version(version, "trl-sft", to, **{"shard_bytes": SIZE, **options})


def finished(to: Path) -> dict[str, tuple[int, int]]:
    """The files of rows in a draft: each with its inode and when it was written."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in (to / ".draft").iterdir()
        if path.name.startswith(("train", "test"))
    }


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("after", [20, 45])
def test_finished_files_are_taken_as_they_are(version: Version, tmp_path: Path, container: str, after: int) -> None:
    if container == "parquet":
        pytest.importorskip("pyarrow")
    if container == "tfrecord":
        pytest.importorskip("google_crc32c")
    expected = export(version, tmp_path / "whole", container=container)
    stopped(version, tmp_path / "to", after, container=container)
    kept = finished(tmp_path / "to")
    assert kept
    report = export(version, tmp_path / "to", container=container)
    assert report.resumed == len(kept)
    assert report.manifest == expected.manifest
    assert content(tmp_path / "to") == content(tmp_path / "whole")
    for name, (inode, written) in kept.items():
        found = (tmp_path / "to" / name).stat()
        assert (found.st_ino, found.st_mtime_ns) == (inode, written), name


def test_without_a_size_a_finished_split_is_kept(version: Version, tmp_path: Path) -> None:
    expected = export(version, tmp_path / "whole", shard_bytes=None)
    first = expected.manifest.rows
    stopped(version, tmp_path / "to", version.count(type="supervised") - 1, shard_bytes=None)
    assert list(finished(tmp_path / "to")) == [f"{next(iter(first))}.jsonl"]
    assert export(version, tmp_path / "to", shard_bytes=None).resumed == 1
    assert content(tmp_path / "to") == content(tmp_path / "whole")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(1, 60), min_size=1, max_size=4), size=st.sampled_from([1, 120, SIZE, 2000]))
def test_however_often_it_is_stopped(
    version: Version, tmp_path_factory: pytest.TempPathFactory, stops: list[int], size: int
) -> None:
    folder = tmp_path_factory.mktemp("stops")
    for after in sorted(stops):
        stopped(version, folder / "to", after, shard_bytes=size)
    export(version, folder / "to", shard_bytes=size)
    export(version, folder / "whole", shard_bytes=size)
    assert content(folder / "to") == content(folder / "whole")


def test_tokens_are_counted_on(version: Version, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    words = [f"question {number} answer call user assistant" for number in range(60)]
    tokenizer = save_tokenizer(tmp_path / "tokenizer", words, CHATML)
    options: dict[str, Any] = {"tokenizer": tokenizer, "max_tokens": 12}
    expected = export(version, tmp_path / "whole", **options)
    assert expected.manifest.tokens is not None
    assert expected.manifest.tokens.splits["train"].over > 0
    stopped(version, tmp_path / "to", 40, **options)
    assert export(version, tmp_path / "to", **options).resumed > 1
    assert content(tmp_path / "to") == content(tmp_path / "whole")
    stopped(version, tmp_path / "other", 40, **options)
    assert export(version, tmp_path / "other", tokenizer=tokenizer, max_tokens=13).resumed == 0


@pytest.mark.parametrize(
    "other",
    [{"shard_bytes": 700}, {"container": "jsonl.gz"}, {"withdrawn": {"a": "consent_withdrawn"}}, {"columns": ["all"]}],
    ids=["size", "container", "consent", "columns"],
)
def test_another_export_begins_anew(tmp_path: Path, other: dict[str, Any]) -> None:
    recipe = Recipe(name="demo", split={"train": 0.6, "test": 0.4}, features=("turns",))
    version = build_version(list_store(list(records())), recipe, tmp_path / "datasets")
    stopped(version, tmp_path / "to", 45)
    assert export(version, tmp_path / "to", **other).resumed == 0
    export(version, tmp_path / "whole", **other)
    assert content(tmp_path / "to") == content(tmp_path / "whole")


def test_another_version_of_a_package_begins_anew(
    version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(version, tmp_path / "to", 45)
    monkeypatch.setattr("tracemill.export.resume.version", lambda package: f"next {package}")
    assert export(version, tmp_path / "to").resumed == 0


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"{}\n")


def _garble_last(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _of_another(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([b'{"export":"0"}\n', *lines[1:]]))


@pytest.mark.parametrize(
    ("name", "damage", "left"),
    [
        ("{}", _flip, 2),
        ("{}", _cut, 2),
        ("{}", _lengthen, 2),
        ("{}", Path.unlink, 2),
        ("losses.jsonl", _flip, None),
        ("losses.jsonl", lambda path: path.write_bytes(b""), 0),
        ("losses.jsonl", Path.unlink, 0),
        ("losses.jsonl", _lengthen, -1),
        ("finished.jsonl", _garble_last, -2),
        ("finished.jsonl", _of_another, 0),
        ("finished.jsonl", Path.unlink, 0),
    ],
)
def test_only_what_is_as_recorded_is_trusted(
    version: Version, tmp_path: Path, name: str, damage: Callable[[Path], object], left: int | None
) -> None:
    export(version, tmp_path / "whole")
    stopped(version, tmp_path / "to", 45)
    draft = tmp_path / "to" / ".draft"
    order = [json.loads(line) for line in (draft / "finished.jsonl").read_bytes().splitlines()[1:]]
    assert len(order) >= 5
    assert order[0]["losses"]["bytes"] < order[-1]["losses"]["bytes"]
    damage(draft / name.format(order[2]["file"]["path"]))
    report = export(version, tmp_path / "to")
    if left is None:
        assert 0 < report.resumed < len(order)
    else:
        assert report.resumed == (left if left >= 0 else len(order) + left + 1)
    assert content(tmp_path / "to") == content(tmp_path / "whole")


def test_erasure_takes_the_draft_and_rows_of_an_erased_version_are_not_put_in_place(tmp_path: Path) -> None:
    version = build_version(list_store(list(records())), Recipe(name="demo"), tmp_path / "datasets")
    to = tmp_path / "exports" / "demo"
    stopped(version, to, version.count(type="supervised"))
    assert finished(to)
    place = ExportsPlace(tmp_path / "exports", tmp_path / "datasets", list, lambda: "receipt")
    assert place.left(Subject(kind="user", value="somebody")) == 1
    assert place.erase(Subject(kind="user", value="somebody")).removed == {"drafts": 1}
    assert not (to / ".draft").exists()
    stopped(version, to, version.count(type="supervised"))
    assert finished(to)
    write_tombstone(version.path, Tombstone(receipt="r1", erased=now(), records=1, rows=version.count()))
    with pytest.raises(DatasetError, match="has no rows any more"):
        export(open_version(version.path), to)
    assert [path.name for path in to.iterdir()] == [".lock"]


def test_an_export_that_fails_keeps_what_it_finished(
    version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write.make_row

    def full(example: Any, form: Any) -> Any:
        if example.messages[0]["content"] == "question 12":
            raise OSError(28, "No space left on device")
        return made(example, form)

    monkeypatch.setattr(write, "make_row", full)
    with pytest.raises(OSError, match="No space"):
        export(version, tmp_path / "to")
    kept = finished(tmp_path / "to")
    monkeypatch.setattr(write, "make_row", made)
    assert export(version, tmp_path / "to").resumed == len(kept) > 0
    export(version, tmp_path / "whole")
    assert content(tmp_path / "to") == content(tmp_path / "whole")


_EXPORT = """
import sys, time
from pathlib import Path
from tests.export.test_resume import export
from tracemill.dataset.version import open_version
from tracemill.export import write

version, to = map(Path, sys.argv[1:])
write._REPORT_EVERY = 1
export(open_version(version), to, progress=lambda *_: time.sleep(0.02))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_killed_leaves_what_it_finished(
    version: Version, tmp_path: Path, how: signal.Signals
) -> None:
    export(version, tmp_path / "whole")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
    command = [sys.executable, "-c", _EXPORT, str(version.path), str(tmp_path / "to")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    journal = tmp_path / "to" / ".draft" / "finished.jsonl"
    end = time.monotonic() + 60
    while not journal.exists() or journal.read_bytes().count(b"\n") < 5:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(how)
    process.wait(30)
    assert process.returncode != 0
    assert not (tmp_path / "to" / "export.json").exists()
    noted = journal.read_bytes().count(b"\n") - 1
    report = export(version, tmp_path / "to")
    assert report.resumed == noted >= 4
    assert content(tmp_path / "to") == content(tmp_path / "whole")


def test_an_export_that_cannot_begin_leaves_no_draft(version: Version, tmp_path: Path) -> None:
    with pytest.raises(TracemillError):
        export_version(version, "trl-sft", tmp_path / "to", container="parchment")
    stopped(version, tmp_path / "to", 1)
    assert [path.name for path in (tmp_path / "to").iterdir()] == [".lock"]
