"""Which stored trajectory a new interaction continues.

A proxy or a tracer logs the whole conversation again with every call. Each trajectory (messages and response) has a
rolling digest, d(i) = BLAKE2b-128(d(i-1) || message i), and 63 bits of the last one stand in ``chains``. A new
interaction looks its own prefixes up, longest first, and keeps only what comes after the one it finds. A hit is believed
only when the whole digest agrees with what is stored.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection

from tracemill.store.statements import look_up
from tracemill.store.tables import chains

_REMEMBERED = 50_000
_encode = msgspec.msgpack.Encoder().encode


def rolling(messages: Iterable[Any], start: bytes = b"") -> list[bytes]:
    """The rolling digest after each message."""
    digests, last = [], start
    for message in messages:
        last = hashlib.blake2b(last + _encode(message), digest_size=16).digest()
        digests.append(last)
    return digests


def key_of(digest: bytes) -> int:
    """The 63 bits of a digest that ``chains`` is keyed by."""
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True, slots=True)
class Link:
    """A place where a stored trajectory can be continued: its record, how many messages, and their digest if checked."""

    record: int
    length: int
    digest: bytes | None


@dataclass(slots=True)
class Trail:
    """The rolling digests of one new interaction, its response included, and where it may be joined."""

    digests: list[bytes]
    candidates: list[tuple[int, int]]
    """The prefixes to look up, longest first: how many messages, and the key of their digest."""
    end: tuple[int, int]
    """The same for the whole trajectory: where another may continue."""

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Trail | None:
        """The trail of a plain interaction, or None where there is nothing to share."""
        messages = plain.get("messages")
        if not messages:
            return None
        response = plain.get("response")
        digests = rolling(messages if response is None else [*messages, response])
        first = next(
            (index for index, message in enumerate(messages) if message.get("role") == "assistant"),
            len(messages),
        )
        lengths = range(len(messages), max(first, 1) - 1, -1)
        candidates = [(length, key_of(digests[length - 1])) for length in lengths]
        return cls(digests, candidates, (len(digests), key_of(digests[-1])))


class Chains:
    """The chains table, with the links written lately in memory."""

    def __init__(self) -> None:
        self._recent: OrderedDict[int, Link] = OrderedDict()

    def forget(self) -> None:
        """Drop what is remembered."""
        self._recent.clear()

    def remember(self, digest: bytes, record: int, length: int) -> None:
        """Note a link that was just written or checked."""
        self._recent[key_of(digest)] = Link(record, length, digest)
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)

    def look_up(self, connection: Connection, trails: Sequence[Trail]) -> dict[int, Link]:
        """The stored links that the trails of one batch may continue, besides those in memory and in the batch."""
        within = {trail.end[1] for trail in trails}
        wanted: set[int] = set()
        for trail in trails:
            own = trail.end[1]
            for _, key in trail.candidates:
                if key in self._recent or (key in within and key != own):
                    break
                wanted.add(key)
        columns = (chains.c.key, chains.c.record, chains.c.length)
        return {
            key: Link(record, length, None)
            for key, record, length in look_up(connection, columns, chains.c.key, wanted)
        }

    def parent(
        self, trail: Trail, stored: dict[int, Link], digest_at: Callable[[int, int], bytes | None]
    ) -> tuple[int, int] | None:
        """The record that begins this trail and how many messages they share, or None.

        ``digest_at(record, length)`` computes the digest of a stored trajectory, for links that are not checked yet.
        """
        for length, key in trail.candidates:
            link = self._recent.get(key) or stored.get(key)
            if link is None or link.length != length:
                continue
            digest = trail.digests[length - 1]
            known = link.digest or digest_at(link.record, length)
            if known == digest:
                self.remember(digest, link.record, length)
                return link.record, length
        return None

    def links(self, trail: Trail, place: int) -> list[dict[str, int]]:
        """The row a new interaction adds to ``chains``, if any; also remembers it."""
        length, key = trail.end
        if key in self._recent:
            return []
        self.remember(trail.digests[-1], place, length)
        return [{"key": key, "record": place, "length": length}]
