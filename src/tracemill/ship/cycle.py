"""One cycle: send what waits, look what there is, pack it, send it, and delete what was acknowledged."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from tracemill.core.codec import decode, encode_json
from tracemill.core.errors import DeliveryError, RecordError, SourceError, TracemillError
from tracemill.sdk.delivery import Delivered
from tracemill.sdk.spool import drain
from tracemill.ship.gathering import Gatherer
from tracemill.ship.ledger import Entry, Ledger
from tracemill.ship.outbox import Outbox
from tracemill.ship.packing import Member, Package
from tracemill.ship.redaction import Redaction, apply
from tracemill.ship.report import Report
from tracemill.ship.scanning import Found, give_back_all
from tracemill.ship.sending import Sender
from tracemill.ship.settings import ShipSettings
from tracemill.ship.tokens import Credentials


def run_cycle(
    settings: ShipSettings,
    credentials: Credentials,
    ledger: Ledger,
    outbox: Outbox,
    *,
    redaction: Redaction | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Report:
    """Run one cycle and say what it did; what went wrong stands in the report. ``stopping`` is asked between packages."""
    report = Report()
    sender = Sender(settings, credentials, ledger, outbox, report)
    try:
        outbox.settle()
        for package in ledger.pending():
            if sender.may_send() and not stopping():
                sender.send(package)
        if settings.spool:
            _ship_spool(settings, SpoolDelivery(ledger, outbox, sender, report, redaction, stopping), report)
        else:
            _ship_files(settings, Gatherer(settings, ledger, outbox, report, redaction), sender, stopping)
    except TracemillError as error:
        report.problems.append(error.message)
    except (OSError, sqlite3.Error) as error:
        report.problems.append(f"{type(error).__name__}: {error}")
    waiting = ledger.pending()
    report.waiting, report.waiting_bytes = len(waiting), sum(package.size for package in waiting)
    report.stopped = stopping()
    return report


def _ship_files(settings: ShipSettings, gatherer: Gatherer, sender: Sender, stopping: Callable[[], bool]) -> None:
    give_back_all(Path(settings.data_dir))
    groups = gatherer.groups()
    while groups and sender.may_send() and not stopping():
        for package in gatherer.seal_next(groups):
            if sender.may_send() and not stopping():
                sender.send(package)
    if not sender.may_send():
        gatherer.make_room(groups)


def _ship_spool(settings: ShipSettings, delivery: SpoolDelivery, report: Report) -> None:
    drained = drain(Path(settings.workspace), delivery)
    report.records += drained.stored
    report.problems.extend(drained.skipped)
    if drained.live:
        report.skipped["live_producer"] = drained.live
    if drained.dead_lettered:
        report.set_aside.append(
            f"{drained.dead_lettered} records that cannot be sent, kept in the spool's folder 'dead'"
        )


class SpoolDelivery:
    """Takes batches of spooled records to the receiver as JSON Lines: delivered means acknowledged.

    A batch is known by its content, so that one that was sent before a kill is not sent again after it.
    """

    def __init__(
        self,
        ledger: Ledger,
        outbox: Outbox,
        sender: Sender,
        report: Report,
        redaction: Redaction | None,
        stopping: Callable[[], bool],
    ) -> None:
        self._ledger, self._outbox, self._sender, self._report = ledger, outbox, sender, report
        self._redaction, self._stopping = redaction, stopping

    def deliver(self, items: Sequence[bytes]) -> Delivered:
        """See :class:`tracemill.sdk.delivery.Delivery`."""
        try:
            content = b"".join(encode_json(decode(item)) + b"\n" for item in items)
            sha256 = hashlib.sha256(content).hexdigest()
            name = f"records/{sha256[:32]}.jsonl"
            content = apply(self._redaction, name, content)
        except (RecordError, SourceError) as error:
            raise DeliveryError(error.message, retry=False) from error
        for package in self._waiting(name, sha256, content):
            if not self._sender.may_send() or self._stopping():
                break
            self._sender.send(package)
        state = self._ledger.state(name, sha256)
        if state == "sent":
            return Delivered(len(items))
        if state == "set_aside":
            raise DeliveryError("the receiver does not take this batch", retry=False)
        raise DeliveryError("the receiver has not acknowledged the batch; it stays in the spool")

    def _waiting(self, name: str, sha256: str, content: bytes) -> list[Package]:
        """What of a batch is still to be sent; a batch that is new is sealed first."""
        if self._ledger.state(name, sha256) is None:
            found = Found(name, 0, 0, len(content), 0)
            draft = self._outbox.draft([Member(name, content)], [Entry(name, found, sha256)])
            assert draft is not None  # it has an entry
            self._report.packed += 1
            self._report.packages += 1
            self._outbox.seal([draft])
        known = self._ledger.packages_of(name, sha256)
        return [package for package in known if self._ledger.package_state(package.sha256) == "pending"]

    def close(self) -> None:
        """There is nothing to close."""
