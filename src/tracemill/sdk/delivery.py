"""Where spooled records go: the interface between the SDK and whatever stores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of a batch: ``stored`` (duplicates included) and ``dead_lettered`` (refused and kept aside)."""

    stored: int
    dead_lettered: int = 0


class Delivery(Protocol):
    """Takes batches of records as :func:`tracemill.core.codec.encode` writes them. Used by one thread.

    A batch is delivered whole or not at all: an error means that it may be sent again, and the same records sent twice
    must be harmless.
    """

    def deliver(self, items: Sequence[bytes]) -> Delivered:
        """Deliver a batch. Raises DeliveryError; ``retry`` False when the same bytes cannot ever be taken."""

    def close(self) -> None:
        """Release what it holds."""
