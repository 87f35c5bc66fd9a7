"""Sending sealed packages: a fresh token when one is refused, smaller packages when one is too large, and then the files go."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from tracemill.core.errors import DeliveryError, SettingError, SourceError
from tracemill.ship.ledger import Entry, Ledger
from tracemill.ship.outbox import Draft, Outbox
from tracemill.ship.packing import Member, Package, part_name, read_package, split
from tracemill.ship.report import Report
from tracemill.ship.scanning import remove_empty_parents, remove_same
from tracemill.ship.settings import ShipSettings
from tracemill.ship.tokens import Credentials
from tracemill.ship.upload import TOO_LARGE, Outcome, upload

logger = logging.getLogger("tracemill.ship")
_SMALLEST = 64 * 1024
"""A package of so many bytes is too large for no receiver: one that says so is misconfigured, and nothing is set aside."""


def clean(settings: ShipSettings, ledger: Ledger, entries: Sequence[Entry], report: Report) -> None:
    """Delete the files of entries that are acknowledged as a whole and have not changed since they were packed."""
    folder = Path(settings.data_dir)
    for entry in {entry.key: entry for entry in entries}.values():
        if ledger.state(entry.found.name, entry.sha256) != "sent":
            continue
        try:
            if remove_same(folder, entry.found, entry.sha256):
                report.cleaned += 1
                remove_empty_parents(folder, entry.found.name)
        except OSError as error:  # it stays, and is known to be sent
            report.problems.append(f"{entry.found.name} was sent but cannot be deleted: {error.strerror}")


class Sender:
    """Sends sealed packages until the receiver, or the way to it, fails."""

    def __init__(
        self, settings: ShipSettings, credentials: Credentials, ledger: Ledger, outbox: Outbox, report: Report
    ) -> None:
        self._settings, self._credentials = settings, credentials
        self._ledger, self._outbox, self._report = ledger, outbox, report
        self._blocked = False

    def may_send(self) -> bool:
        """Whether further packages may fare better in this cycle than one that failed."""
        return not self._blocked

    def send(self, package: Package) -> None:
        """Send one package; what became of it stands in the ledger and the report. Raises OSError, StoreError."""
        if not self._outbox.is_intact(package):
            kept = self._outbox.drop_damaged(package)
            self._report.problems.append(f"a package was damaged on the disk, and is kept as {kept}")
            return
        outcome = self._try(package)
        if outcome.unauthorized and self._refreshed():
            outcome = self._try(package)
        if outcome.request_id:
            self._arrived(package, outcome.request_id)
        elif outcome.status == TOO_LARGE and package.size > _SMALLEST:
            for smaller in self._halves(package):
                if self.may_send():
                    self.send(smaller)
        else:
            self._report.problems.append(outcome.problem)
            self._report.wait_seconds = max(self._report.wait_seconds, outcome.wait_seconds)
            self._blocked = self._blocked or not outcome.only_this_one

    def _try(self, package: Package) -> Outcome:
        try:
            token, identity = self._credentials.token(), self._credentials.identity()
        except (DeliveryError, SettingError) as error:
            return Outcome(problem=error.message)
        return upload(self._settings.receiver, self._outbox.path(package), package, token, identity)

    def _refreshed(self) -> bool:
        try:
            return self._credentials.refresh()
        except (DeliveryError, SettingError):
            return False

    def _arrived(self, package: Package, request_id: str) -> None:
        entries = self._ledger.entries(package.sha256)
        self._ledger.acknowledge(package.sha256, request_id)
        self._outbox.remove(package)
        logger.info("uploaded %s bytes, request_id %s", package.size, request_id)
        report = self._report
        report.uploaded += 1
        report.uploaded_files += len(entries)
        report.uploaded_bytes += package.size
        report.request_ids.append(request_id)
        if self._settings.cleanup_after_send and self._settings.data_dir:
            clean(self._settings, self._ledger, entries, report)

    def _halves(self, package: Package) -> list[Package]:
        """Two packages, or the parts of the one file, in the place of one that is too large; set aside when there are none."""
        entries = {entry.member: entry for entry in self._ledger.entries(package.sha256)}
        members = list(read_package(self._outbox.path(package)))
        drafts: list[Draft | None] = []
        try:
            if len(members) > 1:
                middle = len(members) // 2
                drafts = [
                    self._outbox.draft(half, [entries[member.name] for member in half])
                    for half in (members[:middle], members[middle:])
                ]
            else:
                for part, entry in _parts_of(members[0], entries[members[0].name]):
                    drafts.append(self._outbox.draft([part], [entry]))
        except SourceError:
            self._outbox.discard(draft for draft in drafts if draft)
            kept = self._outbox.put_aside(package)
            self._report.set_aside.append(f"{members[0].name}: too large for the receiver, kept as {kept}")
            return []
        except BaseException:  # whatever it was, no draft stays behind
            self._outbox.discard(draft for draft in drafts if draft)
            raise
        return self._outbox.seal([draft for draft in drafts if draft], instead_of=package)


def _parts_of(member: Member, entry: Entry) -> Iterator[tuple[Member, Entry]]:
    """A member cut in two or more. Raises SourceError when it cannot be cut."""
    limit = max(1024, len(member.content) // 2 + 1)
    for number, content in enumerate(split(member.name, io.BytesIO(member.content), limit), 1):
        name = part_name(member.name, number)
        yield Member(name, content), Entry(name, entry.found, entry.sha256)
