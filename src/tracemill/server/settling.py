"""Making records of parts that arrived apart, for every protocol that sends such."""

from __future__ import annotations

from tracemill.core.settings import Settings
from tracemill.store.hot import HotStore


def settle_all(store: HotStore, settings: Settings) -> int:
    """Make the records that can be made now; returns how many parts still wait. Raises StoreError."""
    del settings
    return store.pending_count()
