"""The report in a terminal: all of it, and nothing that could speak to the terminal itself."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.dataset.support import interaction, open_store, says
from tracemill.core.records import Failure, Model
from tracemill.drawing import wording
from tracemill.insight.figures import Statistics
from tracemill.insight.statistics import collect_statistics
from tracemill.insight.terminal import render_terminal


def printed(statistics: Statistics, width: int = 80) -> str:
    target = io.StringIO()
    render_terminal(statistics, Console(file=target, width=width, highlight=False))
    return target.getvalue()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_everything_is_said_and_fits(sample: Statistics, width: int) -> None:
    text = printed(sample, width)
    for title in (
        *("Platforms", "Models", "Tools", "Conversations", "Failures by cause", "Success by context", "Trajectories"),
        *("Frequent sequences of tools", "Feedback", "Validations and edits", "Decisions", "Sessions"),
    ):
        assert f"\n{title}\n" in text
    assert f"Success           {wording.outcome(sample.outcomes.succeeded)}\n" in text
    assert all(len(line) <= width for line in text.splitlines())


def test_nothing_yet(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert "Nothing is stored yet." in printed(collect_statistics(store))
    store.close()


def test_records_cannot_steer_the_terminal_or_its_markup(tmp_path: Path) -> None:
    bad = "\x1b]0;owned\x07\x1b[2J[bold red]x[/bold red]\r"
    odd = interaction(
        "odd",
        [says("user", "hi")],
        model=Model(name=bad),
        error=Failure(type=bad, message=bad),
        intent=bad,
        tools_used=[bad, bad],
        success=False,
    )
    store = open_store(tmp_path, [odd])
    text = printed(collect_statistics(store), 200)
    assert "[bold red]x" in text
    assert not set(text) & {"\x1b", "\x07", "\r"}
    store.close()
