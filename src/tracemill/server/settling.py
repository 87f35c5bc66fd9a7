"""Making records of parts that arrived apart, for every protocol that sends such."""

from __future__ import annotations

from tracemill.capture.langsmith.joining import settle as settle_langsmith
from tracemill.capture.otlp.joining import settle as settle_otlp
from tracemill.core.ids import now
from tracemill.core.pseudonym import Pseudonymizer
from tracemill.core.settings import Settings
from tracemill.store.hot import HotStore


def settle_all(store: HotStore, settings: Settings, pseudonymizer: Pseudonymizer) -> int:
    """Make the records that can be made now; returns how many parts still wait. Raises StoreError."""
    if store.pending_count():
        for settle in (settle_otlp, settle_langsmith):
            settle(
                store,
                now(),
                pseudonymizer.user,
                quiet_seconds=settings.pending_quiet_seconds,
                expire_seconds=settings.pending_expire_seconds,
            )
    return store.pending_count()
