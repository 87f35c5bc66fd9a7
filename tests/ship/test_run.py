"""Pauses, the lock and the ways to end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.core.errors import SettingError
from tracemill.ship.report import Report
from tracemill.ship.run import Stop, locked, pause
from tracemill.ship.settings import ShipSettings


@given(st.floats(0.01, 1e5), st.integers(1, 10_000), st.floats(0, 300))
def test_a_pause_is_within_its_bounds(most: float, failures: int, asked: float) -> None:
    found = pause(ShipSettings(retry_interval=most), failures, Report(wait_seconds=asked))
    assert asked <= found <= max(asked, min(most, 2.0**failures if failures < 64 else most))


def test_pauses_spread_and_grow() -> None:
    settings = ShipSettings(retry_interval=300)
    means = [sum(pause(settings, failures, Report()) for _ in range(400)) / 400 for failures in (1, 4, 20)]
    assert means[0] < 2
    assert 4 < means[1] < 12
    assert 100 < means[2] < 200


def test_a_state_folder_belongs_to_one(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    with locked(state):
        assert state.stat().st_mode & 0o077 == 0
        with pytest.raises(SettingError, match="another"), locked(state):
            pass
    with locked(state):
        pass


def test_a_state_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="cannot be used"), locked(tmp_path / "file" / "state"):
        pass
    (tmp_path / "lock").symlink_to(tmp_path / "file")  # nobody is led to write elsewhere
    with pytest.raises(SettingError, match="cannot be used"), locked(tmp_path):
        pass


def test_signals_ask_for_an_end() -> None:
    before = signal.getsignal(signal.SIGTERM)
    stop = Stop()
    with stop.on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        assert (stop.asked.is_set(), stop.at_once.is_set()) == (True, False)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.at_once.is_set()
    assert signal.getsignal(signal.SIGTERM) is before
    stop = Stop()
    with stop.on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.at_once.is_set()


def test_a_report_names_only_some() -> None:
    report = Report()
    for number in range(50):
        report.skip(f"{number}.json", "symlink")
        report.skip(f"{number}.json", "sent")
    assert (report.skipped, len(report.skipped_names["symlink"])) == ({"symlink": 50, "sent": 50}, 20)
    assert "sent" not in report.skipped_names
    assert "50 skipped (symlink)" in report.as_text()
    assert report.as_json()["ok"] is True
