"""Only what is finished is found, no link is followed, and only what was found is ever deleted."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from tracemill.ship.scanning import (
    Found,
    Passed,
    give_back_all,
    open_same,
    read_same,
    remove_empty_parents,
    remove_same,
    scan,
)


def put(folder: Path, name: str, content: bytes = b"{}") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def seen(folder: Path, *subdirs: str, quiet: float = 0.0, never: str = "state") -> tuple[list[str], dict[str, str]]:
    found = list(scan(folder, subdirs, quiet, folder / never))
    return [one.name for one in found if isinstance(one, Found)], {
        one.name: one.reason for one in found if isinstance(one, Passed)
    }


def one(folder: Path, name: str) -> Found:
    (found,) = [one for one in scan(folder, (), 0, folder / "state") if isinstance(one, Found) and one.name == name]
    return found


def test_files_are_found_in_order_and_unfinished_names_passed(tmp_path: Path) -> None:
    for name in ("b/2.json", "b/1.json", "a/x/y.json", "z.json", "a/lines.jsonl"):
        put(tmp_path, name)
    for name in (".hidden.json", "a/.x.json", ".git/a.json", "a.json.tmp", "c.tmp/a.json", "a.txt", "state/a.json"):
        put(tmp_path, name)
    assert seen(tmp_path) == (["z.json", "a/lines.jsonl", "a/x/y.json", "b/1.json", "b/2.json"], {})


def test_subdirs_are_those_that_are_named(tmp_path: Path) -> None:
    for name in ("feedback/1.json", "other/1.json", "1.json", "x/feedback/1.json", "feedback2/1.json"):
        put(tmp_path, name)
    names, passed = seen(tmp_path, "feedback")
    assert names == ["feedback/1.json"]
    assert set(passed.values()) == {"not_allowed_subdir"}
    assert len(passed) == 4


def test_links_pipes_and_odd_names_are_passed(tmp_path: Path) -> None:
    outside = put(tmp_path, "outside/secret.json")
    folder = tmp_path / "data"
    put(folder, "a/good.json")
    put(folder, "back\\..\\slash.json")
    put(folder, "new\nline.json")
    put(folder, "..json")
    (folder / "link.json").symlink_to(outside)
    (folder / "linked").symlink_to(outside.parent)
    (folder / "dead.json").symlink_to("/nowhere")
    os.mkfifo(folder / "pipe.json")
    Path(os.fsdecode(bytes(folder) + b"/\xff.json")).write_bytes(b"{}")
    names, passed = seen(folder)
    assert names == ["a/good.json"]
    assert {name: passed[name] for name in ("link.json", "linked", "dead.json", "pipe.json")} == {
        "link.json": "symlink",
        "linked": "symlink",
        "dead.json": "symlink",
        "pipe.json": "not_a_file",
    }
    assert sorted(passed.values()).count("unsafe_name") == 3


def test_what_was_touched_lately_is_not_quiet(tmp_path: Path) -> None:
    path = put(tmp_path, "a.json")
    os.utime(path, (1, 1))  # its modification lies far back, but it was touched just now
    assert seen(tmp_path, quiet=60) == ([], {"a.json": "not_quiet"})
    time.sleep(0.06)
    assert seen(tmp_path, quiet=0.05) == (["a.json"], {})


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        seen(tmp_path / "nowhere")


def test_what_changed_is_not_read(tmp_path: Path) -> None:
    path = put(tmp_path, "a.json", b'{"a":1}')
    found = one(tmp_path, "a.json")
    assert read_same(tmp_path, found) == b'{"a":1}'
    path.write_bytes(b'{"a":2}')
    assert read_same(tmp_path, found) is None
    found = one(tmp_path, "a.json")
    path.with_suffix(".new").write_bytes(b'{"a":2}')
    path.with_suffix(".new").rename(path)
    assert open_same(tmp_path, found) is None
    path.unlink()
    assert read_same(tmp_path, found) is None
    path.symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic link"):
        open_same(tmp_path, found)


def test_only_what_was_found_is_deleted(tmp_path: Path) -> None:
    path = put(tmp_path, "d/a.json", b"{}")
    found, digest = one(tmp_path, "d/a.json"), hashlib.sha256(b"{}").hexdigest()
    path.write_bytes(b"[]")
    os.utime(path, ns=(found.modified, found.modified))  # same size, same time, same inode: only the content tells
    assert not remove_same(tmp_path, found, digest)
    assert path.read_bytes() == b"[]"
    path.write_bytes(b"{}")
    found = one(tmp_path, "d/a.json")
    assert remove_same(tmp_path, found, digest)
    assert not remove_same(tmp_path, found, digest)
    assert list((tmp_path / "d").iterdir()) == []


def test_folders_that_hold_something_stay(tmp_path: Path) -> None:
    put(tmp_path, "a/other.txt")
    (tmp_path / "a/b/c").mkdir(parents=True)
    remove_empty_parents(tmp_path, "a/b/c/x.json")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["other.txt"]
    (tmp_path / "transcripts/user/conversation").mkdir(parents=True)
    remove_empty_parents(tmp_path, "transcripts/user/conversation/x.json")
    assert list((tmp_path / "transcripts").iterdir()) == []


def test_a_killed_deletion_gives_the_name_back(tmp_path: Path) -> None:
    put(tmp_path, "d/.tracemill-ship-a.json", b"1")
    put(tmp_path, "d/.tracemill-ship-b.json", b"2")
    put(tmp_path, "d/b.json", b"3")
    give_back_all(tmp_path)
    names, _ = seen(tmp_path)
    assert len(names) == 3
    assert (tmp_path / "d/a.json").read_bytes() == b"1"
    assert (tmp_path / "d/b.json").read_bytes() == b"3"
    assert sorted((tmp_path / name).read_bytes() for name in names) == [b"1", b"2", b"3"]
