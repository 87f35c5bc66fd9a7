"""The demo from one end to the other."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tracemill.cli.app import app
from tracemill.core.errors import SourceError
from tracemill.core.records import Interaction
from tracemill.demo.run import run_demo
from tracemill.store.base import Filter
from tracemill.workspace import Workspace


def test_the_whole_way_on_the_sample(tmp_path: Path) -> None:
    lines: list[str] = []
    done = run_demo(tmp_path / "demo", say=lines.append)
    stages = {stage["name"]: stage for stage in done["stages"]}
    assert list(stages) == ["capture", "deliver", "store", "signals", "dataset", "export", "report"]
    assert stages["capture"]["count"] == 68
    assert "276 of 276 records" in stages["deliver"]["what"]
    assert "0 dropped" in stages["deliver"]["what"]
    assert "all sound" in stages["store"]["what"]
    for example in ("supervised", "labelled", "preference", "trajectory preference"):
        assert example in stages["signals"]["what"]
    text = "\n".join(lines)
    for stage in done["stages"]:
        assert stage["what"] in text
    for path, _ in done["files"]:
        assert Path(path).exists()
        assert path in text
    assert max(len(line) for line in lines[1 : len(stages) + 2]) < 120, "a stage does not fit a terminal"


def test_preferences_are_honest(tmp_path: Path) -> None:
    run_demo(tmp_path / "demo", say=lambda _: None)
    with Workspace.open(tmp_path / "demo") as workspace:
        version = workspace.dataset("demo")
        pairs = list(version.examples(type="preference"))
        assert len(pairs) >= 15
        assert {pair.signal for pair in pairs} >= {"trials", "corrected_text", "artifact_in_text"}
        # A simulated customer who asks in other words makes another history: no row for DPO.
        whole = list(version.examples(type="trajectory_preference"))
        assert {pair.task_id for pair in whole} == {"redirect-shipped-parcel"}
        assert version.verify() == []


def test_the_commands_it_names_can_be_run(tmp_path: Path) -> None:
    done = run_demo(tmp_path / "demo", say=lambda _: None)
    assert len(done["next"]) == 3
    for command, _ in done["next"]:
        found = CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False)
        assert found.exit_code == 0, found.output
        assert found.stdout


def test_it_never_writes_where_something_is(tmp_path: Path) -> None:
    first = run_demo(tmp_path / "demo", say=lambda _: None)
    second = run_demo(tmp_path / "demo", say=lambda _: None)
    assert (first["workspace"], second["workspace"]) == (str(tmp_path / "demo"), str(tmp_path / "demo-2"))
    (tmp_path / "file").write_text("mine")
    third = run_demo(tmp_path / "file", say=lambda _: None)
    assert third["workspace"] == str(tmp_path / "file-2")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_environment_cannot_lead_it_astray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEMILL_DATABASE", f"sqlite:///{tmp_path}/production.db")
    monkeypatch.setenv("GEPETO_DATA_PATH", str(tmp_path / "gepeto"))
    monkeypatch.setenv("TRACEMILL_ENABLED", "false")
    monkeypatch.setenv("TRACEMILL_WORKSPACE", str(tmp_path / "production"))
    run_demo(tmp_path / "demo", say=lambda _: None)
    assert {path.name for path in tmp_path.iterdir()} == {"demo"}
    assert (tmp_path / "demo" / "store.db").exists()


def test_the_command(tmp_path: Path) -> None:
    at = ["--workspace", str(tmp_path / "demo")]
    found = CliRunner().invoke(app, [*at, "demo", "--json"], catch_exceptions=False)
    assert found.exit_code == 0
    assert json.loads(found.stdout)["stages"][0]["name"] == "capture"


def test_the_same_on_the_real_file(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "tau_bench_airline_gpt4o.json"
    at = ["--workspace", str(tmp_path / "demo")]
    found = CliRunner().invoke(app, [*at, "demo", "--from", "tau-bench", str(source), "--json"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    stages = {stage["name"]: stage for stage in json.loads(found.stdout)["stages"]}
    assert stages["import"]["count"] == 400
    assert "88 trajectory preference" in stages["signals"]["what"]
    with Workspace.open(tmp_path / "demo") as workspace:
        assert (
            sum(1 for record in workspace.store.scan(Filter(types=("interaction",))) if isinstance(record, Interaction))
            == 200
        )


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="missing"):
        run_demo(tmp_path / "demo", ("tau-bench", tmp_path / "missing.json"), say=lambda _: None)
