"""The command as a process: start, exit codes, errors in plain words, interruption, pipes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Run, environment

HEAVY = (
    "sqlalchemy",
    "alembic",
    "jinja2",
    "zstandard",
    "yaml",
    "tracemill.workspace",
    "tracemill.store",
    "tracemill.dataset",
)

SLOW = """
import pathlib, time
from tracemill.core.steps import KEEP

def wait(interaction):
    waiting = pathlib.Path("waiting")
    if not waiting.exists():
        waiting.touch()
        time.sleep(60)
    return KEEP
"""


def test_help_is_quick_and_loads_nothing_it_does_not_need() -> None:
    code = (
        "import sys; sys.argv = ['tracemill', '--help']\n"
        "from tracemill.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert found.stderr.strip() == "[]"
    assert "Usage: tracemill" in found.stdout


def test_version(tracemill: Run) -> None:
    found = tracemill("--version")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("tracemill 0.")


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["stats", "--nonsense"], ["import", "tau-bench"], ["export", "demo"], ["records", "--limit", "0"]],
)
def test_wrong_usage_is_2(tracemill: Run, arguments: list[str]) -> None:
    found = tracemill(*arguments)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
    assert found.stderr


def test_looking_where_there_is_no_workspace_is_an_error_and_makes_none(tracemill: Run, tmp_path: Path) -> None:
    for command in (
        ["stats"],
        ["doctor"],
        ["records"],
        ["deliver"],
        ["dataset", "list"],
        ["show", "x"],
        ["quarantine"],
    ):
        found = tracemill(*command)
        assert found.returncode == 1, command
        assert found.stdout == ""
        assert "there is no workspace at tracemill-data" in found.stderr
        assert "tracemill init" in found.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "tau-bench", "missing.json"], "missing.json"),
        (["import", "tau-bunch", "x.json"], "tau-bunch"),
        (["export", "demo", "--format", "trl-dpp"], "trl-dpo"),
        (["export", "nothing", "--format", "trl-dpo"], "nothing"),
        (["dataset", "show", "demo@v9"], "demo"),
        (["dataset", "build", "missing.yaml"], "missing.yaml"),
        (["records", "--type", "interactions"], "interaction"),
        (["records", "--since", "yesterday"], "yesterday"),
        (["show", "not-an-id"], "not-an-id"),
        (["report", "--html", "/dev/null/report.html"], "report.html"),
    ],
)
def test_errors_say_what_is_wrong_and_what_to_do(
    tracemill: Run, filled: Path, arguments: list[str], message: str
) -> None:
    found = tracemill("--workspace", filled, *arguments)
    assert found.returncode == 1
    assert message in found.stderr
    assert found.stderr.startswith("error: ")
    assert "Traceback" not in found.stderr
    assert found.stdout == ""


def test_a_wrong_setting_names_itself_and_its_origin(tracemill: Run, filled: Path) -> None:
    found = tracemill("--workspace", filled, "stats", env={"TRACEMILL_QUEUE_MAX_RECORDS": "many"})
    assert found.returncode == 1
    assert "queue_max_records" in found.stderr
    assert "TRACEMILL_QUEUE_MAX_RECORDS" in found.stderr
    found = tracemill("--config", "missing.yaml", "settings")
    assert (found.returncode, "missing.yaml" in found.stderr) == (1, True)


def test_a_traceback_is_there_for_who_asks(tracemill: Run) -> None:
    found = tracemill("stats", env={"TRACEMILL_DEBUG": "1"})
    assert found.returncode == 1
    assert "Traceback" in found.stderr


def test_piped_output_has_neither_colours_nor_a_bar(tracemill: Run, filled: Path, tmp_path: Path) -> None:
    for command in (["stats"], ["doctor"], ["settings"], ["dataset", "show", "demo"]):
        found = tracemill("--workspace", filled, *command)
        assert (found.returncode, found.stderr) == (0, "")
        assert "\x1b" not in found.stdout


def test_interruption_is_130_and_the_same_command_goes_on(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text("name: slow\nsteps: ['slow:wait']\n", encoding="utf-8")
    command = [sys.executable, "-m", "tracemill", "--workspace", str(filled), "dataset", "build", "recipe.yaml"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        while not (tmp_path / "waiting").exists():
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        said, complaint = running.communicate(timeout=30)
    assert running.returncode == 130
    assert said == ""
    assert "Nothing is lost: run the same command again." in complaint
    assert "Traceback" not in complaint
    again = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (0, "")
    assert "slow@v1 is new" in again.stdout


def test_a_reader_that_goes_away_is_no_error(filled: Path) -> None:
    command = [sys.executable, "-m", "tracemill", "--workspace", str(filled), "records"]
    running = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    assert running.stderr is not None
    assert running.stdout.readline().startswith(b"{")
    running.stdout.close()
    assert running.stderr.read() == b""
    running.stderr.close()
    running.wait(30)


def test_the_installed_command_is_the_same() -> None:
    from importlib.metadata import entry_points

    (command,) = (each for each in entry_points(group="console_scripts") if each.name == "tracemill")
    assert command.value == "tracemill.cli:main"
