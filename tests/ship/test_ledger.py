"""The ledger knows a file by its name and content, whatever became of its packages."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tracemill.core.errors import StoreError
from tracemill.ship.ledger import Entry, Ledger
from tracemill.ship.packing import Package
from tracemill.ship.scanning import Found


def entry(name: str, content: str = "x", member: str = "", inode: int = 1) -> Entry:
    return Entry(member or name, Found(name, 1, inode, 10, 1_000), content)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.db")


def test_a_package_from_its_making_to_its_acknowledgement(ledger: Ledger, tmp_path: Path) -> None:
    assert ledger.state("a", "x") is None
    ledger.record([(Package("p1", 10), [entry("a"), entry("b")])])
    assert ledger.pending() == [Package("p1", 10)]
    assert ledger.state("a", "x") == "pending"
    ledger.acknowledge("p1", "request-1")
    assert (ledger.state("a", "x"), ledger.state("b", "x")) == ("sent", "sent")
    assert (ledger.state("a", "y"), ledger.state("c", "x")) == (None, None)
    assert ledger.pending() == []
    ledger.close()
    again = Ledger(tmp_path / "ledger.db")
    assert again.entries("p1") == [entry("a"), entry("b")]
    assert (again.package_state("p1"), again.request_id("p1")) == ("sent", "request-1")


def test_an_untouched_file_is_known_without_reading_it(ledger: Ledger) -> None:
    ledger.record([(Package("p1", 10), [entry("a")])])
    assert ledger.known(entry("a").found) == "x"
    assert ledger.known(entry("a", inode=2).found) is None
    assert ledger.known(entry("b").found) is None


def test_a_file_in_parts_is_sent_when_all_parts_are(ledger: Ledger) -> None:
    ledger.record([(Package(f"p{number}", 10), [entry("a", member=f"a.{number}")]) for number in range(3)])
    for number, state in enumerate(("pending", "pending", "sent")):
        ledger.acknowledge(f"p{number}", "r")
        assert ledger.state("a", "x") == state


def test_a_package_gives_way_to_smaller_ones(ledger: Ledger) -> None:
    ledger.record([(Package("p", 10), [entry("a"), entry("b")])])
    ledger.replace("p", [(Package("q", 5), [entry("a")]), (Package("r", 5), [entry("b")])])
    assert {package.sha256 for package in ledger.pending()} == {"q", "r"}
    ledger.acknowledge("q", "1")
    ledger.set_aside("r")
    assert (ledger.state("a", "x"), ledger.state("b", "x")) == ("sent", "set_aside")


def test_the_same_bytes_twice_are_one_package(ledger: Ledger) -> None:
    ledger.record([(Package("p", 10), [entry("a", "first")])])
    ledger.acknowledge("p", "1")
    ledger.record([(Package("p", 10), [entry("a", "second")])])  # redacted, both read the same
    assert ledger.state("a", "second") == "sent"
    ledger.forget("p")
    assert ledger.package_state("p") == "sent"
    assert ledger.state("a", "first") == "sent"


def test_what_is_forgotten_is_new_again(ledger: Ledger) -> None:
    ledger.record([(Package("p", 10), [entry("a")])])
    ledger.forget("p")
    assert (ledger.package_state("p"), ledger.state("a", "x"), ledger.pending()) == (None, None, [])


def test_nothing_is_half_recorded(ledger: Ledger) -> None:
    broken = Entry("b", Found("b", 1, 1, None, 1), "x")  # type: ignore[arg-type]  # what SQLite refuses
    with pytest.raises(StoreError, match="cannot be written"):
        ledger.record([(Package("p", 10), [entry("a")]), (Package("q", 10), [broken])])
    assert ledger.pending() == []
    ledger.record([(Package("p", 10), [entry("a")])])


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x" * 5000)
    with pytest.raises(StoreError, match="cannot be opened"):
        Ledger(tmp_path / "text")
    newer = sqlite3.connect(tmp_path / "newer")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StoreError, match="newer"):
        Ledger(tmp_path / "newer")
