"""Versions are found by name and number, listed, streamed, and tell when somebody changed them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.dataset.support import feedback, interaction, list_store, says
from tracemill.core.errors import DatasetError
from tracemill.core.records import AnyRecord
from tracemill.dataset.build import build_version
from tracemill.dataset.files import write_whole
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.version import Version, find_version, list_versions, open_version


def records(count: int) -> list[AnyRecord]:
    chats = [
        interaction(str(n), [says("user", f"q{n}")], response=says("assistant", "a"), success=True)
        for n in range(count)
    ]
    return [*chats, *(feedback(f"f{n}", str(n), kind="thumbs_up") for n in range(count))]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, counts in (("alpha", (20, 30)), ("beta", (20,))):
        for count in counts:
            build_version(list_store(records(count)), Recipe(name=name), tmp_path)
    return tmp_path


def test_versions_are_found_and_listed(root: Path) -> None:
    assert [version.reference for version in list_versions(root)] == ["alpha@v1", "alpha@v2", "beta@v1"]
    assert [version.reference for version in list_versions(root, "beta")] == ["beta@v1"]
    assert find_version(root, "alpha").reference == "alpha@v2"
    assert find_version(root, "alpha@v1").number == find_version(root, "alpha@1").number == 1
    assert list_versions(root / "nowhere") == list_versions(root, "gamma") == []


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("gamma", "there is no dataset version 'gamma'", "alpha, beta"),
        ("alpha@v3", "there is no dataset version 'alpha@v3'", "alpha@v1, alpha@v2"),
        ("../alpha", "names no dataset version", "name@v3"),
        ("alpha@latest", "names no dataset version", "name@v3"),
        ("", "names no dataset version", "name@v3"),
    ],
)
def test_what_is_not_there_is_said(root: Path, reference: str, message: str, hint: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        find_version(root, reference)
    assert hint in caught.value.hint


def test_examples_are_streamed_by_split_and_type(root: Path) -> None:
    version = find_version(root, "alpha")
    everything = list(version.examples())
    assert len(everything) == version.count() == 60
    assert len(list(version.examples(type="labelled"))) == version.count(type="labelled") == 30
    for split in version.splits():
        rows = list(version.examples(split, "supervised"))
        assert len(rows) == version.count(split, "supervised")
        assert [row.id for row in rows] == sorted(row.id for row in rows)
    assert list(version.examples("train", "preference")) == []
    with pytest.raises(DatasetError, match="no example type 'other'"):
        next(version.examples(type="other"))
    with pytest.raises(DatasetError, match="has no split 'dev'"):
        next(version.examples("dev"))


def test_the_files_cannot_be_written_by_mistake(root: Path) -> None:
    version = find_version(root, "beta")
    assert version.verify() == []
    assert all(path.stat().st_mode & 0o222 == 0 for path in version.path.iterdir())


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("change", [_cut, _flip, Path.unlink])
@pytest.mark.parametrize("name", ["fates.jsonl", "train-supervised.jsonl", "manifest.json"])
def test_every_change_is_noticed(root: Path, name: str, change: Callable[[Path], None]) -> None:
    version = find_version(root, "beta")
    path = version.path / name
    path.chmod(0o644)
    change(path)
    if name == "manifest.json":
        try:
            version = open_version(version.path)
        except DatasetError:
            return
    assert version.verify()


def test_a_missing_build_record_is_noticed(root: Path) -> None:
    version = find_version(root, "beta")
    (version.path / "build.json").unlink()
    (problem,) = version.verify()
    assert "build.json cannot be read" in problem


def test_a_stranger_among_the_files_is_noticed(root: Path) -> None:
    version = find_version(root, "beta")
    (version.path / "notes.txt").write_text("x")
    assert version.verify() == ["notes.txt does not belong here"]


def test_a_consistent_lie_is_noticed(root: Path) -> None:
    """Files that agree with their hashes, but are not a version: counts, order and rows are looked at too."""
    version = find_version(root, "beta")
    name = "train-supervised.jsonl"
    lines = (version.path / name).read_bytes().splitlines()
    (version.path / name).unlink()
    described = write_whole(version.path / name, b"\n".join([*lines[::-1], b"{}"]) + b"\n")
    files = [described if file.path == name else file for file in version.manifest.files]
    manifest = msgspec.structs.replace(version.manifest, files=files)
    problems = Version(version.path, manifest).verify()
    assert any("not sorted by id" in problem for problem in problems)
    assert any("no example" in problem for problem in problems)


def test_a_version_of_a_newer_tracemill_is_not_misread(root: Path) -> None:
    path = find_version(root, "beta").path / "manifest.json"
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"manifest_version": 1', '"manifest_version": 2'))
    with pytest.raises(DatasetError, match="newer tracemill"):
        find_version(root, "beta")
