"""Splits and features from the command line: what a version shows, what an export takes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.cli.conftest import Run
from tracemill.cli.app import app


def said(*arguments: str | Path, code: int = 0) -> str:
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert found.exit_code == code, found.output
    return found.output


@pytest.fixture
def at(filled: Path, tmp_path: Path) -> tuple[str, str]:
    """The demo's workspace with a version in three folds."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: folded\nsignals: [supervised]\nfeatures: [turns, outcome]\nsplit: {folds: 3, by: platform}\n", "utf-8"
    )
    said("--workspace", filled, "dataset", "build", recipe)
    return ("--workspace", str(filled))


def rows(folder: Path, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_bytes().splitlines()]


def test_a_version_shows_what_each_split_got_and_its_features(at: tuple[str, str]) -> None:
    shown = said(*at, "dataset", "show", "folded")
    assert "asked for" in shown
    assert "fold_3" in shown
    assert "platform=support-chat" in shown
    assert "messages of users and of the assistant" in shown
    shares = json.loads(said(*at, "dataset", "show", "folded", "--json"))["manifest"]["shares"]
    assert sorted(shares) == ["fold_1", "fold_2", "fold_3"]


def test_an_export_holds_a_fold_out_and_adds_columns(at: tuple[str, str], tmp_path: Path) -> None:
    to = tmp_path / "out"
    command: list[str | Path] = [
        *at,
        "export",
        "folded",
        "--format",
        "trl-sft",
        "--to",
        to,
        "--fold",
        "2",
        "--columns",
        "turns, outcome",
    ]
    exported = json.loads(said(*command, "--json"))
    assert (exported["fold"], exported["columns"]) == (2, ["turns", "outcome"])
    assert set(exported["rows"]) == {"test", "train"}
    for split, number in exported["rows"].items():
        found = rows(to, split)
        assert len(found) == number > 0
        assert all(row["turns"] > 0 and "outcome" in row for row in found)


def test_what_is_wrong_is_said(at: tuple[str, str], tmp_path: Path, tracemill: Run) -> None:
    def refused(*arguments: str | Path) -> str:
        found = tracemill(*at, *arguments)
        assert found.returncode == 1
        return found.stderr

    assert "has no fold 7" in refused("export", "folded", "--format", "trl-sft", "--fold", "7")
    assert "Did you mean turns?" in refused("export", "folded", "--format", "trl-sft", "--columns", "trns")
    recipe = tmp_path / "wrong.yaml"
    recipe.write_text("split: {by: platfrom}\n", "utf-8")
    assert "Did you mean platform" in refused("dataset", "build", recipe)
