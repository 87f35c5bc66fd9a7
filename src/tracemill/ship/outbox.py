"""Sealed packages on disk, from the moment their bytes are fixed until they are acknowledged.

    STATE/lock                  held while a `tracemill ship` works here
    STATE/ledger.db             see :mod:`tracemill.ship.ledger`
    STATE/outbox/<sha256>.tgz   packages that wait
    STATE/set-aside/            packages and files that cannot be sent; nothing here is ever deleted

A package is written under a draft's name, noted in the ledger and then named by its hash. After a kill at any point between
these, :meth:`Outbox.settle` finishes or undoes it.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tracemill.core.errors import SourceError
from tracemill.core.ids import new_id
from tracemill.ship.ledger import Entry, Ledger
from tracemill.ship.packing import Member, Package, look_at, read_package, write_package
from tracemill.ship.scanning import Found

logger = logging.getLogger("tracemill.ship")
_DRAFT, _ENDING = ".draft-", ".tgz"


@dataclass(frozen=True, slots=True)
class Draft:
    """A package under its draft's name, and what is in it."""

    path: Path
    package: Package
    entries: Sequence[Entry]


class Outbox:
    """The packages of one state folder; used by one process, which holds the folder's lock."""

    def __init__(self, state: Path, ledger: Ledger) -> None:
        """Makes the folders. Raises OSError when it cannot."""
        self._ledger = ledger
        self._folder = state / "outbox"
        self.aside = state / "set-aside"
        for folder in (self._folder, self.aside):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, package: Package) -> Path:
        """Where a package lies."""
        return self._folder / f"{package.sha256}{_ENDING}"

    def draft(self, members: Iterable[Member], entries: Sequence[Entry]) -> Draft | None:
        """Write a package; ``entries`` may be filled while ``members`` is gone through. None when there was nothing to pack.

        Raises OSError when there is no room; then nothing of it stays.
        """
        path = self._folder / f"{_DRAFT}{new_id()}{_ENDING}"
        try:
            package = write_package(path, members)
        except BaseException:  # whatever it was, no half package stays behind
            path.unlink(missing_ok=True)
            raise
        if not entries:
            path.unlink()
            return None
        return Draft(path, package, entries)

    def seal(self, drafts: Sequence[Draft], *, instead_of: Package | None = None) -> list[Package]:
        """Put drafts into the outbox, all or none, perhaps in another package's place. Those that are sent already vanish."""
        self._sync()  # the names of the drafts are there before the ledger counts on them
        noted = [(draft.package, draft.entries) for draft in drafts]
        if instead_of is None:
            self._ledger.record(noted)
        else:
            self._ledger.replace(instead_of.sha256, noted)
        for draft in drafts:
            draft.path.rename(self.path(draft.package))
        self._sync()
        if instead_of is not None:
            self.remove(instead_of)
        waiting = []
        for draft in drafts:
            if self._ledger.package_state(draft.package.sha256) == "pending":
                waiting.append(draft.package)
            else:
                self.remove(draft.package)
        return waiting

    def discard(self, drafts: Iterable[Draft]) -> None:
        """Throw drafts away that were never sealed."""
        for draft in drafts:
            draft.path.unlink(missing_ok=True)

    def remove(self, package: Package) -> None:
        """Delete a package that is acknowledged or has been replaced."""
        self.path(package).unlink(missing_ok=True)

    def put_aside(self, package: Package) -> Path:
        """Keep a package where it is not sent from. Moved back by hand, it is sent again."""
        kept = self.aside / self.path(package).name
        self._ledger.set_aside(package.sha256)
        with suppress(FileNotFoundError):
            self.path(package).rename(kept)
        return kept

    def is_intact(self, package: Package) -> bool:
        """Whether a package is on the device as it was made."""
        try:
            return look_at(self.path(package)) == package
        except OSError:
            return False

    def is_sound(self, package: Package) -> bool:
        """Whether it is, and can be unpacked."""
        try:
            return self.is_intact(package) and all(True for _ in read_package(self.path(package)))
        except SourceError:
            return False

    def drop_damaged(self, package: Package) -> Path:
        """Keep a damaged package aside and forget it, so that files of it that are still there are packed anew."""
        kept = self.aside / f"damaged-{new_id()}-{self.path(package).name}"
        with suppress(FileNotFoundError):
            self.path(package).rename(kept)
        self._ledger.forget(package.sha256)
        return kept

    def settle(self) -> None:
        """Make outbox and ledger agree after whatever happened."""
        drafts = list(self._folder.glob(f"{_DRAFT}*"))
        hashes = {look_at(path): path for path in drafts}
        for package in self._ledger.pending():
            if self.path(package).exists():
                continue
            if package in hashes:
                hashes[package].rename(self.path(package))
            else:
                logger.warning("package %s is gone from the outbox; its files are packed anew", package.sha256)
                self._ledger.forget(package.sha256)
        for path in drafts:
            path.unlink(missing_ok=True)  # what it was made of is where it was
        for path in sorted(self._folder.glob(f"*{_ENDING}")):
            self._settle_package(path)
        self._sync()

    def _settle_package(self, path: Path) -> None:
        state = self._ledger.package_state(path.stem)
        if state in ("sent", "replaced"):
            path.unlink()
        elif state == "set_aside":
            self._ledger.reopen(path.stem)
        elif state is None:
            self._adopt(path)

    def _adopt(self, path: Path) -> None:
        """Take a package in that the ledger does not know: somebody lost the ledger, or put the file here."""
        entries = []
        try:
            package = look_at(path)
            for member in read_package(path):
                found = Found(member.name, 0, 0, len(member.content), 0)
                entries.append(Entry(member.name, found, hashlib.sha256(member.content).hexdigest()))
        except SourceError as error:
            logger.warning("%s: it is set aside", error.message)
            path.rename(self.aside / f"damaged-{new_id()}-{path.name}")
            return
        self._ledger.record([(package, entries)])
        path.rename(self.path(package))

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
