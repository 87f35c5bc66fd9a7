"""After a kill at any point, outbox and ledger agree, and nothing that waits is gone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tracemill.ship.ledger import Entry, Ledger
from tracemill.ship.outbox import Draft, Outbox
from tracemill.ship.packing import Member, Package, read_package
from tracemill.ship.scanning import Found


class Place:
    """A state folder that can be opened again, as after a kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.again()

    def again(self) -> None:
        self.ledger = Ledger(self.folder / "ledger.db")
        self.outbox = Outbox(self.folder, self.ledger)

    def draft(self, *names: str) -> Draft:
        members = [Member(name, name.encode()) for name in names]
        entries = [
            Entry(name, Found(name, 1, 1, len(name), 1), hashlib.sha256(name.encode()).hexdigest()) for name in names
        ]
        draft = self.outbox.draft(members, entries)
        assert draft is not None
        return draft

    def waiting(self) -> set[str]:
        """Every name in packages that wait; each package is where the ledger says it is."""
        packages = self.ledger.pending()
        assert {path.name for path in (self.folder / "outbox").iterdir()} == {f"{one.sha256}.tgz" for one in packages}
        return {member.name for one in packages for member in read_package(self.outbox.path(one))}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_sealed_package_waits(place: Place) -> None:
    (package,) = place.outbox.seal([place.draft("a", "b")])
    assert place.waiting() == {"a", "b"}
    assert place.outbox.is_sound(package)
    place.again()
    place.outbox.settle()
    assert place.waiting() == {"a", "b"}


def test_nothing_to_pack_leaves_nothing(place: Place) -> None:
    assert place.outbox.draft([], []) is None
    with pytest.raises(ValueError, match="in order"):
        place.outbox.draft([Member("../a", b"")], [])
    place.outbox.discard([place.draft("a")])
    assert list((place.folder / "outbox").iterdir()) == []


def test_killed_before_the_ledger_knew(place: Place) -> None:
    place.draft("a")
    place.again()
    place.outbox.settle()
    assert place.waiting() == set()


def test_killed_before_the_package_had_its_name(place: Place) -> None:
    draft = place.draft("a")
    place.ledger.record([(draft.package, draft.entries)])
    place.draft("b")
    place.again()
    place.outbox.settle()
    assert place.waiting() == {"a"}


def test_killed_before_an_acknowledged_package_was_deleted(place: Place) -> None:
    (package,) = place.outbox.seal([place.draft("a")])
    place.ledger.acknowledge(package.sha256, "r")
    place.again()
    place.outbox.settle()
    assert place.waiting() == set()
    assert place.outbox.seal([place.draft("a")]) == []
    assert place.waiting() == set()


def test_killed_while_a_package_gave_way(place: Place) -> None:
    (package,) = place.outbox.seal([place.draft("a", "b")])
    halves = [place.draft("a"), place.draft("b")]
    place.ledger.replace(package.sha256, [(half.package, half.entries) for half in halves])
    place.again()
    place.outbox.settle()
    assert place.waiting() == {"a", "b"}
    assert len(place.ledger.pending()) == 2


def test_a_package_that_somebody_deleted_is_made_again(place: Place) -> None:
    (package,) = place.outbox.seal([place.draft("a")])
    place.outbox.path(package).unlink()
    place.outbox.settle()
    assert place.ledger.pending() == []
    assert place.ledger.state("a", hashlib.sha256(b"a").hexdigest()) is None


def test_a_lost_ledger_loses_no_package(place: Place) -> None:
    place.outbox.seal([place.draft("a", "b")])
    place.ledger.close()
    for path in place.folder.glob("ledger.db*"):
        path.unlink()
    place.again()
    place.outbox.settle()
    assert place.waiting() == {"a", "b"}
    assert place.ledger.state("a", hashlib.sha256(b"a").hexdigest()) == "pending"


def test_what_was_set_aside_waits_again_when_it_is_moved_back(place: Place) -> None:
    (package,) = place.outbox.seal([place.draft("a")])
    kept = place.outbox.put_aside(package)
    place.outbox.settle()
    assert place.waiting() == set()
    kept.rename(place.outbox.path(package))
    place.outbox.settle()
    assert place.waiting() == {"a"}


def test_a_damaged_package_is_kept_and_its_files_are_new(place: Place) -> None:
    (package,) = place.outbox.seal([place.draft("a")])
    path = place.outbox.path(package)
    path.write_bytes(path.read_bytes()[:-9])
    assert not place.outbox.is_sound(package)
    kept = place.outbox.drop_damaged(package)
    assert kept.exists()
    assert place.waiting() == set()
    assert place.ledger.state("a", hashlib.sha256(b"a").hexdigest()) is None
    assert not place.outbox.is_sound(Package("0" * 64, 1))


def test_rubbish_in_the_outbox_is_set_aside(place: Place) -> None:
    (place.folder / "outbox" / "x.tgz").write_bytes(b"rubbish")
    place.outbox.settle()
    assert place.waiting() == set()
    assert [path.read_bytes() for path in place.outbox.aside.iterdir()] == [b"rubbish"]
