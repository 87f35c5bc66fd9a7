"""`tracemill quality …`, as a person runs it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run


def test_the_table_goes_to_a_file_or_to_standard_output(tracemill: Run, filled: Path, tmp_path: Path) -> None:
    shown = tracemill("quality", "table", "--workspace", filled, "--out", "table.csv")
    assert shown.returncode == 0, shown.stderr
    assert "rows to table.csv" in shown.stdout
    lines = [json.loads(line) for line in tracemill("quality", "table", "--workspace", filled).stdout.splitlines()]
    assert len(lines) == (tmp_path / "table.csv").read_text().count("\n") - 1
    assert all(line["cluster"] and line["text_reason"] for line in lines)
    answer = json.loads(
        tracemill("quality", "table", "--workspace", filled, "--out", "t.parquet", "--json").stdout,
    )
    assert (answer["path"], answer["records"]) == ("t.parquet", len(lines))
    refused = tracemill("quality", "table", "--workspace", filled, "--format", "csv")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "--out" in refused.stderr


def test_the_summary_names_measures_defects_and_coverage(tracemill: Run, filled: Path) -> None:
    shown = tracemill("quality", "summary", "--workspace", filled)
    assert shown.returncode == 0, shown.stderr
    assert "appropriateness" in shown.stdout
    assert "Good-Turing" in shown.stdout
    answer = json.loads(tracemill("quality", "summary", "--workspace", filled, "--json").stdout)
    assert answer["records"] == answer["measures"]["text"]["count"] == answer["coverage"]["texts"]
