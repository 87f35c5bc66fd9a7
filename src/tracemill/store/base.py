"""What a store does, whatever it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple, Protocol

from tracemill.core.records import AnyRecord, Purpose


class Said(NamedTuple):
    """One consent record, narrow. ``id`` is its 16 bytes, or of an ``erased`` one a digest of it; an empty ``platform`` is all.

    ``time`` is in microseconds, ``person`` a digest of the pseudonym, ``place`` that in the order of storing.
    """

    time: int
    id: bytes
    person: bytes
    purpose: Purpose
    platform: str
    granted: bool
    place: int
    erased: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """One record of a batch that was quarantined: its place in the batch, its id where known, and why.

    ``reason`` is a RecordError's, or ``conflict``: the id is stored already with another body.
    """

    index: int
    id: str | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a batch. ``stored + duplicates + len(refused)`` is its length.

    ``repeated`` are the places in the batch of those that were stored already.
    """

    stored: int
    duplicates: int
    refused: tuple[Refusal, ...]
    repeated: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which records to read. Every field is optional, and all that are given must hold.

    ``types`` are record tags (``interaction``, ``feedback``…). ``user`` is a pseudonym. ``since`` is inclusive and
    ``until`` exclusive, by the record's time. ``after`` (exclusive) and ``up_to`` (inclusive) are watermarks: places in
    the order of storing. ``success`` and ``model`` are an interaction's, ``model`` the one that answered.
    ``visible_to`` is a pseudonym: what that person did or said, and what belongs to an interaction of theirs.
    ``unlinked`` keeps records that name no interaction.
    """

    types: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    conversation_id: str | None = None
    session_id: str | None = None
    user: str | None = None
    interaction_id: str | None = None
    model: str | None = None
    success: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: int = 0
    up_to: int | None = None
    visible_to: str | None = None
    unlinked: bool = False


@dataclass(frozen=True, slots=True)
class QuarantinedItem:
    """Bytes that were refused, with the reason. ``source`` says where they came from (spool, import, server)."""

    time: datetime
    reason: str
    message: str
    source: str
    id: str | None
    raw: bytes


@dataclass(frozen=True, slots=True)
class DailyRow:
    """One row of the daily roll-up: all records of one type, day (UTC), platform and label.

    ``label`` is the model that answered for an interaction, the kind for a feedback, and empty otherwise. ``duration_ms``
    is a sum over the ``timed`` records that stated one. ``raw_bytes`` is what the records take encoded whole,
    ``stored_bytes`` what their bodies take in the store without what they share. ``answered`` are interactions with a response
    or an artifact, ``answered_well`` those of them that succeeded; None where nobody counted them then.
    """

    day: date
    platform: str
    type: str
    label: str
    records: int
    succeeded: int
    failed: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    duration_ms: float
    timed: int
    raw_bytes: int
    stored_bytes: int
    answered: int | None
    answered_well: int | None


@dataclass(frozen=True, slots=True)
class ToolRow:
    """One row of the daily roll-up of tools.

    ``called`` counts tool calls in messages (each once, however often later calls repeat the history) or, where an
    interaction has no such messages, the tools it says it used. ``ran``, ``failed``, ``duration_ms`` and ``timed`` come
    from the actions of steps.
    """

    day: date
    platform: str
    tool: str
    called: int
    ran: int
    failed: int
    duration_ms: float
    timed: int


class Store(Protocol):
    """Append, get, scan, erase. Every method may raise StoreError; StoreBusyError means that trying again is safe."""

    def append(self, records: Sequence[AnyRecord]) -> Appended:
        """Store records in one transaction; idempotent by id. Poisoned ones are quarantined alone."""

    def append_encoded(self, items: Sequence[bytes], *, source: str = "spool") -> Appended:
        """The same for records as :func:`tracemill.core.codec.encode` writes them."""

    def quarantine(self, raw: bytes, reason: str, message: str, source: str) -> None:
        """Keep bytes that are no record, with the reason."""

    def quarantined(self, limit: int = 100) -> list[QuarantinedItem]:
        """The newest refused items, newest first."""

    def get(self, record_id: str, *, visible_to: str | None = None) -> AnyRecord | None:
        """One record, exactly as it was written, or None; with ``visible_to`` only if that person may see it (Filter)."""

    def get_many(self, ids: Sequence[str], *, up_to: int | None = None) -> dict[str, AnyRecord]:
        """Those of the ids that are stored (up to a watermark), with their records."""

    def scan(self, where: Filter | None = None, *, page: int = 500) -> Iterator[AnyRecord]:
        """Every record that passes the filter, in the order of storing, in bounded memory."""

    def page(self, where: Filter | None = None, limit: int = 500) -> list[tuple[int, AnyRecord]]:
        """The first records that pass the filter, each with its watermark: the ``after`` of the next page."""

    def search(self, text: str, where: Filter | None = None, *, limit: int = 100) -> list[tuple[int, AnyRecord]]:
        """The first records that pass the filter and hold a text, in the order of storing, each with its watermark.

        Case does not matter. Raises ValueError when the text is empty.
        """

    def known(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are stored."""

    def count(self, where: Filter | None = None) -> int:
        """How many records pass the filter."""

    def erase(self, ids: Sequence[str]) -> int:
        """Remove records and every shared part nobody else uses. Returns how many were there."""

    def consents(self, purposes: Sequence[Purpose], *, after: int = 0, up_to: int | None = None) -> list[Said]:
        """What everybody said of some purposes between two watermarks, by id: see :mod:`tracemill.store.consents`."""

    def linked(self, ids: Sequence[str]) -> set[str]:
        """The ids of records that name one of these interactions."""

    def inside(self, ids: Sequence[str]) -> set[str]:
        """The ids of interactions that one of these called, and of those they called. Looks at every interaction."""

    def watermark(self) -> int:
        """The place of the newest record in the order of storing; 0 when empty."""

    def daily(self, *, platform: str | None = None) -> list[DailyRow]:
        """The daily roll-up, oldest first."""

    def daily_tools(self, *, platform: str | None = None) -> list[ToolRow]:
        """The daily roll-up of tools, oldest first."""

    def verify(self) -> list[str]:
        """What is wrong with the stored data, one sentence each; empty when it is sound."""

    def close(self) -> None:
        """Release every connection. The store cannot be used afterwards."""
