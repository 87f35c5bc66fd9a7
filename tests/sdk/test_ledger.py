"""Counters survive their process and always add up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.sdk.ledger import DROP_REASONS, Counts, Ledger
from tracemill.sdk.spool import settle

counters = st.integers(0, 1000)


def ledger_of(**values: int) -> Ledger:
    ledger = Ledger()
    for name, value in values.items():
        ledger.set(name, value)
    return ledger


def test_what_was_counted_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.add("captured", 5)
    ledger.set("stored", 3)
    for reason in DROP_REASONS:
        ledger.drop(reason)
    ledger.close()
    again = Ledger(tmp_path / "ledger")
    assert again.counts() == Counts(5, 0, 0, 3, 0, dict.fromkeys(DROP_REASONS, 1))
    again.close()


def test_a_kill_costs_no_count(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from tracemill.sdk.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "for _ in range(1000): ledger.add('captured')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "ledger")], check=False)
    assert killed.returncode == -9
    ledger = Ledger(tmp_path / "ledger")
    assert ledger.get("captured") == 1000
    ledger.close()


def test_what_was_counted_in_memory_moves_to_the_file(tmp_path: Path) -> None:
    memory = ledger_of(captured=7, dropped_spool_error=2)
    file = Ledger(tmp_path / "ledger")
    file.take_over(memory)
    assert file.counts() == Counts(captured=7, dropped={"spool_error": 2})
    file.close()


def test_an_unknown_reason_is_an_internal_error() -> None:
    ledger = Ledger()
    ledger.drop("no such reason")
    assert ledger.counts().dropped == {"internal_error": 1}


def test_counts_add_up_by_reason() -> None:
    total = Counts(3, 1, 0, 1, 0, {"closed": 1}) + Counts(2, 0, 0, 0, 1, {"closed": 1})
    assert total == Counts(5, 1, 0, 1, 1, {"closed": 2})
    assert total.unaccounted == 0


@given(captured=counters, appended=counters, stored=counters, dead_lettered=counters, dropped_queue_full=counters)
def test_a_settled_ledger_accounts_for_everything(**values: int) -> None:
    ledger = ledger_of(**values)
    settle(ledger)
    counts = ledger.counts()
    assert counts.unaccounted == 0
    assert counts.stored <= values["stored"]
    assert counts.captured >= values["captured"]
    settle(ledger)
    assert ledger.counts() == counts, "settling twice changes nothing"


@pytest.mark.parametrize(
    ("before", "dropped"),
    [
        ({"captured": 9, "appended": 6, "stored": 6}, {"killed": 3}),
        ({"captured": 6, "appended": 6, "stored": 5}, {"damaged": 1}),
        ({"captured": 6, "appended": 5, "stored": 6}, {}),
        ({"captured": 5, "appended": 5, "stored": 6}, {}),
        ({"captured": 6, "appended": 6, "stored": 10}, {}),
    ],
)
def test_what_is_missing_gets_its_reason(before: dict[str, int], dropped: dict[str, int]) -> None:
    ledger = ledger_of(**before)
    settle(ledger)
    assert ledger.counts().dropped == dropped
    assert ledger.counts().unaccounted == 0
