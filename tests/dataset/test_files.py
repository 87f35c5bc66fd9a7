"""Files are whole or absent, and one process at a time works in a folder."""

from __future__ import annotations

import hashlib
import multiprocessing
from pathlib import Path

import pytest

from tracemill.core.errors import DatasetError
from tracemill.dataset.files import WholeFile, locked, sha256_of, write_whole


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with WholeFile(path) as file:
        file.write_line(b"{}")
        assert not path.exists()
        file.write_line(b"[]")
    assert path.read_bytes() == b"{}\n[]\n"
    described = file.describe()
    assert (described.path, described.rows, described.bytes) == ("rows.jsonl", 2, 6)
    assert described.sha256 == hashlib.sha256(b"{}\n[]\n").hexdigest() == sha256_of(path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_goes_wrong_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_whole(path, b"old\n")
    with pytest.raises(TypeError), WholeFile(path) as file:
        file.write_line("text is not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_who_writes_a_file_that_was_taken_over_cannot_touch_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    late = WholeFile(path)
    late.write_line(b"1" * 3_000_000)
    with WholeFile(path) as file:
        file.write_line(b"2" * 3_000_000)
        late.write_line(b"1" * 3_000_000)
        with pytest.raises(DatasetError, match="is being written by another process"):
            late.commit()
    again = WholeFile(path)
    last = WholeFile(path)
    again.abandon()
    assert path.read_bytes() == b"2" * 3_000_000 + b"\n"
    last.write(b"3")
    last.commit()
    assert path.read_bytes() == b"3"
    assert list(tmp_path.iterdir()) == [path]


def _hold(folder: Path, held: multiprocessing.synchronize.Event) -> None:
    with locked(folder, "testing"):
        held.set()
        multiprocessing.Event().wait(60)


def test_a_lock_is_held_by_one_process_and_let_go_by_a_dead_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held))
    process.start()
    assert held.wait(30)
    message = rf"in use by another process \(process {process.pid}, testing\)"
    with pytest.raises(DatasetError, match=message), locked(tmp_path, "me too"):
        pytest.fail("the lock was given twice")
    process.kill()
    process.join()
    with locked(tmp_path, "me again"):
        pass
