"""The table of quality over a real store: every row against the measures themselves, in each format."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import base, calls, feedback, interaction, open_store, record_id, result, says, tau_bench
from tracemill.core.errors import ExportError
from tracemill.core.records import Decision, Interaction, Outcome, Step
from tracemill.insight.quality import COLUMNS, quality_rows, summarise, write_table
from tracemill.quality.metrics import Said, measure

LONG = "I would like to change my flight to Seattle to the one on Friday morning, please, as the meeting was moved."
REASON = "Current pricing is critical for an accurate analysis, so it is worth the extra cost"


def records() -> list[Any]:
    talk = [says("user", LONG), says("assistant", "=SUM(A1) is done: you leave on Friday.")]
    near = [says("user", LONG), says("assistant", "=SUM(A1) is done: you leave on Friday!")]
    looping = [
        says("user", "Find it."),
        calls("search", "{}", "c1"),
        result("c1", "Error: no"),
        says("assistant", "No"),
    ]
    return [
        interaction("good", talk, success=True, platform="a"),
        feedback("up", "good", kind="thumbs_up"),
        interaction("same", near, success=False, platform="a", minutes=1),
        interaction("other", looping, platform="b", minutes=2),
        Decision(
            **base("decided", 3),
            interaction_id=record_id("other"),
            choice="web",
            reasoning=REASON,
            confidence=0.9,
            outcome=Outcome(success=True),
        ),
        Step(**base("step", 3), interaction_id=record_id("other"), success=True),
    ]


def test_rows_are_the_measures_with_all_that_belongs_to_the_record(tmp_path: Path) -> None:
    with closing(open_store(tmp_path, records())) as store:
        rows = {row.id: row for row in quality_rows(store)}
        again = list(quality_rows(store))
    assert list(rows.values()) == again
    good, same, other = (rows[record_id(name)] for name in ("good", "same", "other"))
    known = {record.id: record for record in records()}
    talk = known[record_id("good")]
    assert isinstance(talk, Interaction)
    expected = measure(talk, said=Said(thumbs=(True,)))
    assert good.score == expected.score
    assert good.values["satisfaction"] == 1.0
    assert good.reasons["success"] == "marked successful"
    assert other.values["success"] == 1.0  # the step's
    assert other.values["alignment"] == pytest.approx(0.99)  # the decision's
    assert (good.cluster, good.cluster_size) == (good.id, 2)
    assert (same.cluster, same.similarity) == (good.id, 1.0)
    assert (other.cluster, other.cluster_size) == (other.id, 1)
    assert set(good.flat()) == set(COLUMNS)


def test_each_format_holds_the_same_rows(tmp_path: Path) -> None:
    from pyarrow import parquet

    with closing(open_store(tmp_path, records())) as store:
        expected = [row.flat() for row in quality_rows(store)]
        for name in ("t.jsonl", "t.csv", "t.parquet"):
            summary = write_table(quality_rows(store), tmp_path / name)
            assert summary == summarise(quality_rows(store))
    assert [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()] == expected
    assert parquet.read_table(tmp_path / "t.parquet").to_pylist() == expected
    with (tmp_path / "t.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [cell["id"] for cell in cells] == [row["id"] for row in expected]
    assert [cell["success"] for cell in cells] == ["1.0", "0.0", "1.0"]
    assert sorted(path.name for path in tmp_path.glob("*t.*")) == ["t.csv", "t.jsonl", "t.parquet"]


def test_the_summary_counts_what_the_rows_say(tmp_path: Path) -> None:
    with closing(open_store(tmp_path, records())) as store:
        rows = list(quality_rows(store))
        summary = summarise(iter(rows))
        only_b = summarise(quality_rows(store, platform="b"))
    assert (summary.records, only_b.records) == (3, 1)
    assert summary.measures["success"].mean == pytest.approx(2 / 3)
    assert summary.unknown["efficiency"] == 3
    assert summary.defects == {name: sum(name in row.defects for row in rows) for name in summary.defects}
    assert summary.coverage is not None
    assert (summary.coverage.texts, summary.coverage.clusters, summary.coverage.once) == (3, 2, 1)


def test_a_file_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no format"):
        write_table(iter(()), tmp_path / "t.xlsx")
    with closing(open_store(tmp_path, records())) as store:
        rows = quality_rows(store)
        (tmp_path / "t.csv").mkdir()
        with pytest.raises(ExportError, match="cannot be written"):
            write_table(rows, tmp_path / "t.csv")


def test_the_real_trajectories(shared_data: Path, tmp_path: Path) -> None:
    found = list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json"))
    with closing(open_store(tmp_path, found)) as store:
        summary = summarise(quality_rows(store))
    assert summary.records == 200
    assert summary.defective <= 4
    assert summary.coverage is not None
    assert summary.coverage.texts == 200
