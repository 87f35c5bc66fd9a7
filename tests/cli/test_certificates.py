"""Certificates by command, over the demo's records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.test_commands import answered, said
from tracemill.core.errors import DatasetError, SourceError


@pytest.fixture
def at(filled: Path, tmp_path: Path) -> tuple[str, str]:
    folder = tmp_path / "workspace"
    shutil.copytree(filled, folder)
    said("dataset", "build", "--name", "certified", "--workspace", folder)
    return ("--workspace", str(folder))


def test_a_version_is_certified_shown_and_held_against_its_files(at: tuple[str, str], tmp_path: Path) -> None:
    evaluation = tmp_path / "bench.jsonl"
    evaluation.write_text(json.dumps({"question": " ".join(f"word{number}" for number in range(20))}) + "\n")
    made = answered(*at, "dataset", "certify", "certified", "--evaluation", evaluation, "--k", "2")
    names = {check["name"]: check for check in made["checks"]}
    assert names["contamination.bench.jsonl"]["state"] == "passed"
    assert len([name for name in names if name.startswith("split.shared_")]) == 4
    assert made["problems"] == []
    assert names["anonymity"]["detail"]["k"] == 2
    assert names["version.verified"]["state"] == "passed"
    shown = said(*at, "dataset", "certificate", "certified")
    assert "split.near_duplicates" in shown
    assert "Signed with the key" in shown
    assert answered(*at, "dataset", "certificate", "certified")["signature"] == made["signature"]
    path = Path(at[1]) / "datasets" / "certified" / "v1" / "certificate.json"
    path.write_text(path.read_text().replace('"passed"', '"failed"', 1))
    assert "the signature does not hold" in said(*at, "dataset", "certificate", "certified", code=1)
    actions = [entry["action"] for entry in answered(*at, "audit", "list", "--action", "dataset.certify")]
    assert actions == ["dataset.certify"]


def test_a_failed_check_is_an_exit_code_where_that_is_asked_for(at: tuple[str, str]) -> None:
    said(*at, "dataset", "certify", "certified", "--k", "1000")
    said(*at, "dataset", "certify", "certified", "--k", "1000", "--check", code=1)
    with pytest.raises(SourceError):
        said(*at, "dataset", "certify", "certified", "--evaluation", "absent.jsonl", code=1)


def test_rows_that_hide_and_rows_that_stand_out(at: tuple[str, str]) -> None:
    with pytest.raises(DatasetError, match="was not certified"):
        said(*at, "dataset", "certificate", "certified", code=1)
    found = answered(*at, "dataset", "anonymity", "certified", "--columns", "platform, kind", "--k", "1")
    assert found["holds"] is True
    assert found["columns"] == ["platform", "kind"]
    assert found["rows"] > 0
    text = said(*at, "dataset", "anonymity", "certified", "--k", "1000", "--check", code=1)
    assert "NOT 1000-anonymous" in " ".join(text.split())
