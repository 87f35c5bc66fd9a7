"""Which records of a batch may not be stored, because the person they are of does not allow it.

What names a person is theirs. What names nobody and belongs to an interaction (a step, a validation) goes the way of that
interaction, also when it comes later; a digest of the refused interaction's id is kept for that. An interaction of nobody
known is held to the default. Consent records themselves are always stored: they are what decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from tracemill.core.consent import Default
from tracemill.store import consents
from tracemill.store.base import Said
from tracemill.store.names import column_text
from tracemill.store.statements import insert_or_ignore, look_up
from tracemill.store.tables import tombstones
from tracemill.store.tombstones import ALWAYS, digest_of

UNCONSENTED = 4
"""The kind of tombstone of an interaction that was not stored for want of consent."""
_LINKS = ("interaction_id", "parent_id", "step_id")


class Storing:
    """Decides over one batch after another. Costs nothing while nobody ever said anything of being stored."""

    def __init__(self, default: Default) -> None:
        self._default = default
        self._said: bool | None = None

    def forget(self) -> None:
        """Look anew whether there is anything to decide by."""
        self._said = None

    def begins(self, coming: Sequence[dict[str, Any]]) -> bool:
        """Whether these consents are the first that say anything of being stored."""
        return not self._said and any(plain["purpose"] == "store" for plain in coming)

    def denied(self, connection: Connection, plains: Sequence[dict[str, Any]]) -> set[int]:
        """The places in a batch of plain records of those that may not be stored.

        A consent in the batch holds for all of it: it is newer than the decision to send.
        """
        if self._said is None:
            self._said = consents.any_said(connection, "store")
        coming = [plain for plain in plains if plain["record"] == "consent" and plain["purpose"] == "store"]
        if not self._said and not coming and self._default == "granted":
            return set()
        people = {index: digest for index, plain in enumerate(plains) if (digest := _person(plain)) is not None}
        said = consents.of_people(connection, "store", people.values())
        for plain in coming:
            one = _said_now(plain)
            said.setdefault(one.person, []).append(one)
        gone = {
            index
            for index, plain in enumerate(plains)
            if plain["record"] != "consent" and self._is_denied(plain, people.get(index), said)
        }
        return self._with_what_belongs(connection, plains, gone)

    def _is_denied(self, plain: dict[str, Any], person: bytes | None, said: dict[bytes, list[Said]]) -> bool:
        if person is None:
            return self._default == "denied" and plain["record"] == "interaction"
        platform = plain.get("platform") or ("default" if plain["record"] == "interaction" else "")
        return not consents.allowed(said.get(person, ()), column_text(platform), self._default)

    @staticmethod
    def _with_what_belongs(connection: Connection, plains: Sequence[dict[str, Any]], gone: set[int]) -> set[int]:
        """With what names nobody and belongs to an interaction that was refused, now or before."""
        stones = {digest_of(UNCONSENTED, plains[at]["id"]) for at in gone if plains[at]["record"] == "interaction"}
        rows = [{"kind": UNCONSENTED, "digest": stone, "time": ALWAYS} for stone in sorted(stones)]
        insert_or_ignore(connection, tombstones, rows)
        links = {
            index: [digest_of(UNCONSENTED, plain[name]) for name in _LINKS if isinstance(plain.get(name), str)]
            for index, plain in enumerate(plains)
            if index not in gone and plain["record"] != "consent" and _person(plain) is None
        }
        columns = (tombstones.c.digest, tombstones.c.kind)
        wanted = {digest for digests in links.values() for digest in digests}
        known = {bytes(row[0]) for row in look_up(connection, columns, tombstones.c.digest, wanted)}
        return gone | {index for index, digests in links.items() if any(digest in known for digest in digests)}


def _person(plain: dict[str, Any]) -> bytes | None:
    user = plain.get("user")
    return consents.person_digest(user["pseudonym"]) if isinstance(user, dict) else None


def _said_now(plain: dict[str, Any]) -> Said:
    row = consents.row_of(plain, 0)
    return Said(
        row["time"], row["id"], row["person"], plain["purpose"], row["platform"], bool(row["granted"]), 0, False
    )
