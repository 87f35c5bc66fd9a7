"""Runs on disk are merged into one order, however many there are."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.core.errors import DatasetError
from tracemill.dataset.sort import RunWriter, grouped, merge_runs, read_run

entries = st.lists(st.tuples(st.integers(0, 9).map(lambda key: key.to_bytes(16, "big")), st.binary(max_size=40)))


@given(entries, st.integers(1, 500), st.integers(2, 4))
def test_everything_comes_back_sorted(given_entries: list[tuple[bytes, bytes]], run_bytes: int, fan_in: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = RunWriter(folder, "runs", run_bytes=run_bytes)
        for key, payload in given_entries:
            writer.add(key, payload)
        runs = writer.close()
        assert list(merge_runs(runs, folder, "merged", fan_in=fan_in)) == sorted(given_entries)
        groups = dict(grouped(merge_runs(runs, folder, "again", fan_in=fan_in)))
    assert groups == {
        key: sorted(payload for other, payload in given_entries if other == key) for key, _ in given_entries
    }


def test_a_run_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, "runs")
    writer.add(bytes(16), b"payload")
    (run,) = writer.close()
    whole = run.read_bytes()
    for length in (len(whole) - 1, 20, 3):
        run.write_bytes(whole[:length])
        with pytest.raises(DatasetError, match="cut off"):
            list(read_run(run))
