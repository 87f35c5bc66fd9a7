"""A workspace with the demo's records in it, and the command as a person runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracemill.demo.run import run_demo

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that the demo filled. Tests only read it."""
    folder = tmp_path_factory.mktemp("demo") / "workspace"
    run_demo(folder, say=lambda _: None)
    return folder


def environment(**extra: str) -> dict[str, str]:
    """The environment of the tests without anything that sets tracemill up."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRACEMILL_", "GEPETO_"))}
    return {**kept, "PYTHONIOENCODING": "utf-8", **extra}


@pytest.fixture
def tracemill(tmp_path: Path) -> Run:
    """Runs ``tracemill`` in an empty folder, as another process; output is piped."""

    def run(*arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tracemill", *map(str, arguments)]
        extra: dict[str, str] = more.pop("env", {})
        given: dict[str, Any] = {"cwd": tmp_path, "env": environment(**extra), "timeout": 60, **more}
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, **given)

    return run
