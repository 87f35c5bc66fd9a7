"""Keeps what the server itself saw: calls it passed on or answered. Never in the way of an answer.

It is the SDK's own capture: a record is in the memory-mapped spool of the workspace within microseconds, survives kill -9
there, and goes to the store in the background. Whatever goes wrong is counted and logged, and the caller has its answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tracemill.core.errors import DeliveryError, TracemillError
from tracemill.core.records import AnyRecord
from tracemill.core.settings import Settings
from tracemill.sdk.background import OpenRedaction
from tracemill.sdk.client import Client
from tracemill.sdk.delivery import Delivered, delivered
from tracemill.sdk.ledger import Counts
from tracemill.server.committer import Committer
from tracemill.server.metrics import Metrics
from tracemill.server.observe import place_of

logger = logging.getLogger("tracemill.server")
SOURCE = "recorder"


class CommitterDelivery:
    """Delivers the spool through the server's own writer, so that its commits are shared with requests."""

    def __init__(self, committer: Committer, metrics: Metrics) -> None:
        self._committer = committer
        self._metrics = metrics

    def deliver(self, items: Sequence[bytes]) -> Delivered:
        """See :class:`tracemill.sdk.delivery.Delivery`."""
        try:
            result = self._committer.append_now(items, SOURCE)
        except TracemillError as error:
            raise DeliveryError(error.message, hint=error.hint) from error
        self._metrics.count(SOURCE, result.stored, result.duplicates, result.refused)
        return delivered(result.stored + result.duplicates, [one.reason for one in result.refused])

    def close(self) -> None:
        """The committer is closed by the server."""


class Recorder:
    """Records without ever raising."""

    def __init__(
        self,
        path: Path,
        settings: Settings,
        committer: Committer,
        metrics: Metrics,
        open_redaction: OpenRedaction | None = None,
    ) -> None:
        self._metrics = metrics
        quiet = msgspec.structs.replace(settings, raise_errors="never", delivery_interval_ms=50.0, enabled=True)
        self._client = Client(path, quiet, lambda: CommitterDelivery(committer, metrics), open_redaction)

    def record(self, source: str, kind: type[AnyRecord], fields: Callable[[], Mapping[str, Any]]) -> None:
        """Keep a record of what a function says; the function may fail on what strangers sent."""
        try:
            self._client.capture(kind, fields())
        except Exception as error:  # noqa: BLE001
            # The client was answered; a record that cannot be made must not take that back.
            self._metrics.capture_failures.labels(source).inc()
            logger.error("not_recorded", extra={"fields": {"source": source, "place": place_of(error)}})

    def counts(self) -> Counts:
        """Where everything recorded so far is."""
        return self._client.counts()

    def close(self) -> None:
        """Deliver what is spooled; what cannot be is delivered by the next start."""
        self._client.close(timeout=10)
