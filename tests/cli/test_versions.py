"""`tracemill dataset diff|history|propose|approve|refuse|rollback`, as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.dataset.support import chat_records, record_id
from tracemill.cli.app import app
from tracemill.workspace import Workspace

RECIPE = """
name: d
split: {train: 0.5, test: 0.5}
gates: {maximum_lost: 0.5}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    with Workspace.open(tmp_path / "w") as workspace:
        workspace.store.append(chat_records(range(12)))
    return tmp_path


def add(folder: Path, *numbers: int) -> None:
    with Workspace.open(folder / "w") as workspace:
        workspace.store.append(chat_records(numbers))


def said(folder: Path, *arguments: str, code: int = 0) -> str:
    found = CliRunner().invoke(app, ["--workspace", str(folder / "w"), "dataset", *arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        assert code, found.exception
        return str(found.exception)
    assert found.exit_code == code, found.output
    return found.output


def answered(folder: Path, *arguments: str) -> Any:
    return json.loads(said(folder, *arguments, "--json"))


def test_the_whole_way(folder: Path) -> None:
    recipe = str(folder / "recipe.yaml")
    assert "d@v1 is new" in said(folder, "build", recipe)
    add(folder, 20, 21)
    shown = said(folder, "propose", recipe)
    assert "d@v2 waits for approval" in shown
    assert shown.count("passed") == 5
    assert "new_record" in shown
    listed = {entry["reference"]: entry for entry in answered(folder, "list")}
    assert [entry["current"] for entry in listed.values()] == [True, False]
    assert listed["d@v2"]["proposal"]["status"] == "waiting"
    assert "waiting for approval" in said(folder, "list")
    assert "waiting for approval" in said(folder, "show", "d@v2")
    approved = answered(folder, "approve", "d@v2", "--reason", "good")
    assert approved["proposal"]["status"] == "approved"
    assert approved["changes"]["added"] == {"new_record": 2}
    assert answered(folder, "show", "d")["reference"] == "d@v2"
    assert "d@v1 is the current version" in said(folder, "rollback", "d", "--to", "v1", "--reason", "worse")
    assert answered(folder, "show", "d")["reference"] == "d@v1"
    assert "was there already (approved by" in said(folder, "build", recipe)
    assert answered(folder, "rollback", "d", "--to", "2") == {
        "current": "d@v2",
        "path": str(folder / "w" / "datasets" / "d" / "v2"),
    }
    assert "was approved already" in said(folder, "refuse", "d@v2", "--reason", "late", code=1)


def test_refused_and_overridden(folder: Path) -> None:
    recipe = folder / "recipe.yaml"
    said(folder, "build", str(recipe))
    recipe.write_text(RECIPE + "steps: [{sample: {fraction: 0.2}}]\n")
    assert "FAILED" in said(folder, "propose", str(recipe))
    assert "does not pass: lost" in said(folder, "approve", "d@v2", code=1)
    assert "needs a reason" in said(folder, "approve", "d@v2", "--override", code=1)
    assert "was refused" in said(folder, "refuse", "d@v2", "--reason", "too few")
    assert "refused by" in said(folder, "list")
    said(folder, "propose", str(recipe))
    assert answered(folder, "approve", "d@v2", "--override", "--reason", "fine")["proposal"]["overridden"] is True


def test_diff_names_rows_and_reasons(folder: Path) -> None:
    recipe = folder / "recipe.yaml"
    said(folder, "build", str(recipe))
    recipe.write_text(RECIPE + "steps: [{sample: {fraction: 0.5}}]\nseed: 1\n")
    said(folder, "build", str(recipe))
    changes = answered(folder, "diff", "d@v1", "d@v2", "--rows")
    dropped = [row for row in changes["rows"] if row["change"] == "dropped"]
    assert len(dropped) == changes["dropped"]["steps.not_sampled"] == changes["examples"]["supervised"]["dropped"] > 0
    assert changes["recipe"]["modified"] == {"/seed": [0, 1]}
    shown = said(folder, "diff", "d@v1", "d@v2", "--rows")
    for part in ("steps.not_sampled", "/seed", "0 → 1", dropped[0]["id"][:8]):
        assert part in shown
    assert "rows" not in answered(folder, "diff", "d@v1", "d")


def test_history_says_what_each_version_changed(folder: Path) -> None:
    recipe = folder / "recipe.yaml"
    said(folder, "build", str(recipe))
    add(folder, 20, 21, 22)
    said(folder, "build", str(recipe))
    with Workspace.open(folder / "w") as workspace:
        workspace.erase("interaction", record_id("20"))
    entries = answered(folder, "history", "d")
    assert [(entry["reference"], entry["rows"], entry["added"], entry["dropped"]) for entry in entries] == [
        ("d@v1", 12, None, None),
        ("d@v2", 15, None, None),  # its rows are gone
        ("d@v3", 14, None, None),
    ]
    assert [entry["state"] for entry in entries] == [[], ["rows erased, see d@v3"], ["current"]]
    add(folder, 30)
    said(folder, "build", str(recipe))
    assert answered(folder, "history", "d")[-1]["added"] == 1
    assert "d@v4" in said(folder, "history", "d")
    assert "There is no dataset nothing" in said(folder, "history", "nothing")
    assert "has no rows any more" in said(folder, "verify", "d@v2")
    assert "8 documents" in said(folder, "verify", "d")
