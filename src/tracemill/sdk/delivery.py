"""Where spooled records go: the interface between the SDK and whatever stores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tracemill.core.consent import NO_CONSENT


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of a batch: ``stored`` (duplicates included) and ``dead_lettered`` (refused and kept aside).

    ``no_consent`` were refused because a person does not allow that they are stored: these are kept nowhere.
    """

    stored: int
    dead_lettered: int = 0
    no_consent: int = 0

    def __add__(self, other: Delivered) -> Delivered:
        return Delivered(
            self.stored + other.stored,
            self.dead_lettered + other.dead_lettered,
            self.no_consent + other.no_consent,
        )


def delivered(stored: int, reasons: Sequence[str]) -> Delivered:
    """What became of a batch of which some were refused for the given reasons."""
    unconsented = sum(reason == NO_CONSENT for reason in reasons)
    return Delivered(stored, len(reasons) - unconsented, unconsented)


class Delivery(Protocol):
    """Takes batches of records as :func:`tracemill.core.codec.encode` writes them. Used by one thread.

    A batch is delivered whole or not at all: an error means that it may be sent again, and the same records sent twice
    must be harmless.
    """

    def deliver(self, items: Sequence[bytes]) -> Delivered:
        """Deliver a batch. Raises DeliveryError; ``retry`` False when the same bytes cannot ever be taken."""

    def close(self) -> None:
        """Release what it holds."""
