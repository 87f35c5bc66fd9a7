"""Exports on disk: whole, repeatable, and with a list of everything they do not hold."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.dataset.support import calls, feedback, interaction, list_store, record_id, result, says, validation
from tracemill.core.erasure import Touched
from tracemill.core.errors import DatasetError, ExportError
from tracemill.core.examples import EXAMPLE_TYPES, ExportManifest, Loss
from tracemill.core.records import AnyRecord
from tracemill.dataset.build import build_version
from tracemill.dataset.erase import ExportsPlace
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.version import Version
from tracemill.export.formats import FORMATS
from tracemill.export.write import export_version
from tracemill.privacy.subject import Subject


def records() -> Iterator[AnyRecord]:
    for n in range(12):
        yield interaction(str(n), [says("user", f"q{n}")], response=says("assistant", "a", reasoning="r"), success=True)
        yield feedback(f"thumb {n}", str(n), kind="thumbs_up")
    yield interaction("half", [says("user", "\ud800")], response=says("assistant", "a"), success=True)
    yield interaction("open", [says("user", "q"), calls("f", "{", "c1"), result("c1", "r", "f")], success=True)
    yield interaction("flow", [says("user", "build")], artifact={"a": 1})
    yield validation("edit", "flow", edited={"a": 2}, user_edited=True)


@pytest.fixture
def version(tmp_path: Path) -> Version:
    store = list_store(list(records()))
    return build_version(store, Recipe(name="demo", split={"train": 0.7, "test": 0.3}), tmp_path / "datasets")


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_an_export_lies_beside_the_datasets_and_says_what_it_is(version: Version, tmp_path: Path) -> None:
    report = export_version(version, "openai-chat")
    assert report.path == tmp_path / "exports" / "demo-v1-openai-chat"
    manifest = json.loads((report.path / "export.json").read_bytes())
    assert manifest == json.loads(msgspec.json.encode(report.manifest))
    assert manifest["manifest_sha256"] == hashlib.sha256((version.path / "manifest.json").read_bytes()).hexdigest()
    for file in manifest["files"]:
        data = (report.path / file["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
        assert data.count(b"\n") == file["rows"]
    assert {path.name for path in report.path.iterdir()} == {file["path"] for file in manifest["files"]} | {
        "export.json",
        ".lock",
    }
    assert report.rows == sum(len(lines(report.path / f"{split}.jsonl")) for split in manifest["rows"]) == 13


def test_rows_and_losses_account_for_every_example(version: Version) -> None:
    report = export_version(version, "trl-sft")
    losses = [msgspec.convert(loss, Loss) for loss in lines(report.path / "losses.jsonl")]
    refused = {loss.example: loss for loss in losses if loss.row is None}
    assert {loss.reason for loss in refused.values()} == {"lone_surrogate", "arguments_not_json"}
    assert report.manifest.refused == {"lone_surrogate": 1, "arguments_not_json": 1}
    assert report.manifest.losses == {"field_not_in_format": 12}
    for split in version.splits():
        written = [example for example in version.examples(split, "supervised") if example.id not in refused]
        rows = lines(report.path / f"{split}.jsonl")
        assert [row["messages"][0]["content"] for row in rows] == [
            example.messages[0]["content"]  # type: ignore[union-attr]
            for example in written
        ]
        for loss in losses:
            if loss.split == split and loss.row is not None:
                assert written[loss.row - 1].id == loss.example
                assert loss.path == "/messages/1/reasoning"


def test_exporting_again_gives_the_same_bytes_and_removes_what_is_stale(version: Version, tmp_path: Path) -> None:
    to = tmp_path / "mine"
    to.mkdir()
    (to / "notes.txt").write_text("keep me")
    first = export_version(version, "trl-kto", to)
    before = {path.name: path.read_bytes() for path in to.iterdir()}
    assert before["notes.txt"] == b"keep me"
    (to / "validation.jsonl").write_text("of an export of more splits\n")
    again = export_version(version, "trl-kto", to)
    assert {path.name: path.read_bytes() for path in to.iterdir()} == before
    assert again == first


@pytest.mark.parametrize("name", ["records.jsonl", "README.md", "dataset_info.json", "train-00000.parquet"])
def test_files_that_no_export_wrote_are_neither_removed_nor_replaced(
    version: Version, tmp_path: Path, name: str
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("years of work")
    with pytest.raises(ExportError, match=name):
        export_version(version, "trl-kto", tmp_path / "mine")
    assert {path.name: path.read_text() for path in (tmp_path / "mine").iterdir()} == {name: "years of work"}


def test_an_interrupted_export_leaves_what_was_there(version: Version, tmp_path: Path) -> None:
    done = export_version(version, "trl-sft", tmp_path / "to")
    before = {path.name: path.read_bytes() for path in done.path.iterdir()}

    def stop(stage: str, count: int, total: int | None) -> None:
        raise KeyboardInterrupt

    for to in (done.path, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            export_version(version, "trl-kto", to, progress=stop)
    there = {path.name: path.read_bytes() for path in done.path.iterdir() if path.name != ".draft"}
    assert there == before
    assert {path.name for path in (tmp_path / "new").iterdir()} <= {".lock", ".draft"}
    assert export_version(version, "trl-sft", done.path) == done


def erased(version: Version) -> Touched:
    """What an erasure removes beside the datasets, where nobody's records are asked for."""
    root = version.path.parents[2]
    place = ExportsPlace(root / "exports", root / "datasets", list, lambda: "receipt")
    nobody = Subject(kind="user", value="nobody")
    touched = place.erase(nobody)
    assert place.left(nobody) == 0
    return touched


@pytest.mark.parametrize("steps", range(9))
def test_an_export_cut_off_while_it_is_put_in_place_is_found(
    steps: int, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power is lost after so many files were moved: no half export has a manifest, and erasure reaches all of it."""
    first = export_version(version, "trl-sft", container="csv")
    with monkeypatch.context() as patched:
        dying_after(steps, patched)
        try:
            export_version(version, "trl-sft", first.path, container="jsonl.gz", shard_bytes=400)
        except OSError:
            done = False
        else:
            done = True
    whole = (first.path / "export.json").exists()
    if whole:
        manifest = msgspec.json.decode((first.path / "export.json").read_bytes(), type=ExportManifest)
        for file in manifest.files:
            assert hashlib.sha256((first.path / file.path).read_bytes()).hexdigest() == file.sha256
    assert whole == (done or steps == 0)
    touched = erased(version)
    assert touched.removed == ({} if whole else {"drafts": 1})
    left = {path.name for path in first.path.iterdir()} - {".lock"}
    assert left == ({file.path for file in manifest.files} | {"export.json"} if whole else set())
    again = export_version(version, "trl-sft", first.path, container="jsonl.gz", shard_bytes=400)
    assert {path.name for path in first.path.iterdir()} - {".lock"} == {f.path for f in again.manifest.files} | {
        "export.json"
    }


def dying_after(steps: int, patched: pytest.MonkeyPatch) -> None:
    """Let the file system fail after so many files were moved out of a draft."""
    real, left = Path.replace, [steps]

    def replace(path: Path, target: Path) -> Path:
        if ".draft" in (path.parent.name, target.parent.name) and path.parent != target.parent:
            if not left[0]:
                raise OSError("the power is lost")
            left[0] -= 1
        return real(path, target)

    patched.setattr(Path, "replace", replace)


def test_what_cannot_be_exported_is_said(version: Version) -> None:
    with pytest.raises(ExportError, match="no format 'trl-stf'") as caught:
        export_version(version, "trl-stf")
    assert caught.value.hint == f"Did you mean trl-sft? Formats: {', '.join(FORMATS)}."
    with pytest.raises(ExportError, match="demo@v1 has no trajectory_preference examples") as caught:
        export_version(version, "trajectory-preference")
    assert caught.value.hint is not None
    there = {name: int(number) for name, number in re.findall(r"([a-z-]+) \((\d+)\)", caught.value.hint)}
    assert (there["openai-chat"], there["trl-sft"], there["trl-dpo"], there["trl-kto"]) == (14, 14, 1, 12)
    made = {EXAMPLE_TYPES[tag] for types in version.manifest.examples.values() for tag in types}
    assert there.keys() == {name for name, form in FORMATS.items() if form.example in made}


def test_a_damaged_version_is_not_exported(version: Version) -> None:
    path = next(version.path.glob("*-labelled.jsonl"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DatasetError, match="no example"):
        export_version(version, "trl-kto")


def test_progress_counts_examples(version: Version) -> None:
    seen: list[tuple[str, int, int | None]] = []
    export_version(version, "trl-kto", progress=lambda *step: seen.append(step))
    assert seen == [("export trl-kto", 12, 12)]


def test_a_corrected_workflow_becomes_a_dpo_row(version: Version) -> None:
    report = export_version(version, "trl-dpo")
    (split,) = report.manifest.rows
    assert lines(report.path / f"{split}.jsonl") == [
        {
            "prompt": [says("user", "build")],
            "chosen": [says("assistant", '{"a": 2}')],
            "rejected": [says("assistant", '{"a": 1}')],
        }
    ]
    assert record_id("edit") in next(version.examples(type="preference")).sources
