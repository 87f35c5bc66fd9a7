"""Consent by purpose: whose records may be evaluated, trained on or shared, as of a place in the order of storing.

A decision needs no record but the one it is about: what everybody said stands in narrow rows
(:mod:`tracemill.store.consents`). Who withdrew ``store`` has withdrawn every other purpose with it. A record that came with
the signal Global Privacy Control is neither trained on nor shared, whoever it is of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from msgspec import Struct

from tracemill.core.codec import marked_text
from tracemill.core.consent import GPC_PURPOSES, GPC_SOURCE, Default, is_private
from tracemill.core.ids import derived_id, from_microseconds, id_text
from tracemill.core.records import SCHEMA_VERSION, AnyRecord, Consent, Feedback, Interaction, Purpose, User, Validation
from tracemill.store import consents
from tracemill.store.base import Said, Store
from tracemill.store.consents import PURPOSES, newest, person_digest, platform_text

_AT_ONCE = 500


def digest_of(user: User) -> bytes:
    """The 16 bytes by which a person's consents are found."""
    return person_digest(marked_text(user.pseudonym))


class Consents:
    """What everybody said of one purpose, up to a watermark.

    ``default`` is what holds for whoever said nothing, and for records that name nobody.
    """

    def __init__(self, said: Iterable[Said], purpose: Purpose, default: Default = "granted") -> None:
        self.purpose, self.default = purpose, default
        self.reason = f"consent.{purpose}"
        """Why a record is left out for want of consent."""
        self._said: dict[bytes, dict[Purpose, list[Said]]] = {}
        for one in said:
            self._said.setdefault(one.person, {}).setdefault(one.purpose, []).append(one)

    def __bool__(self) -> bool:
        return bool(self._said) or self.default == "denied"

    def denies(self, record: AnyRecord) -> bool:
        """Whether a record must be left out: its person does not allow the purpose, or it came with the signal against it."""
        if self.purpose in GPC_PURPOSES and record.extra and is_private(record.extra):
            return True
        user: User | None = getattr(record, "user", None)
        if user is None:
            return self.default == "denied" and isinstance(record, Interaction)
        if not self:
            return False
        return not self.allows(digest_of(user), platform_text(record.platform))

    def allows(self, person: bytes, platform: str) -> bool:
        """Whether a person, by digest, allows the purpose on a platform."""
        said = self._said.get(person, {})
        if self.purpose != "store" and not consents.allowed(said.get("store", ()), platform, "granted"):
            return False
        return consents.allowed(said.get(self.purpose, ()), platform, self.default)

    def of(self, people: Iterable[bytes]) -> list[Said]:
        """Everything some people said, by id."""
        found = [one for person in set(people) for said in self._said.get(person, {}).values() for one in said]
        return sorted(found, key=lambda one: one.id)

    def digest(self) -> str:
        """16 hex digits for everything that was said; empty where nothing was."""
        rows = sorted(
            (one.id.hex(), one.granted, one.time) for by in self._said.values() for s in by.values() for one in s
        )
        return hashlib.sha256(repr(rows).encode()).hexdigest()[:16] if rows else ""


def read_consents(
    store: Store, purpose: Purpose, default: Default = "granted", *, after: int = 0, up_to: int | None = None
) -> Consents:
    """What everybody said of a purpose, and of being stored at all. Raises StoreError."""
    return Consents(store.consents(tuple({"store", purpose}), after=after, up_to=up_to), purpose, default)


class SpokenFor:
    """Passes what people said of interactions on to a build, but for what they do not allow; remembers both.

    ``people`` are all whose feedback was seen, ``refused`` the feedback that was kept back with the interaction it is about.
    """

    def __init__(self, held: Consents) -> None:
        self._held = held
        self.people: set[bytes] = set()
        self.refused: dict[str, str | None] = {}

    def keeps(self, record: AnyRecord) -> bool:
        """Whether a feedback or validation may be used."""
        user: User | None = getattr(record, "user", None)
        if user is not None and self._held:
            self.people.add(digest_of(user))
        if not self._held.denies(record):
            return True
        self.refused[record.id] = record.interaction_id if isinstance(record, Feedback | Validation) else None
        return False


def withdrawn_sources(
    store: Store, ids: Iterable[str], purpose: Purpose, default: Default, *, after: int, before: Default
) -> dict[str, str]:
    """Of the records a version was made of, those whose people do not allow the purpose any more, with the reason.

    ``after`` is the version's watermark and ``before`` the default it was built with: where nobody said anything since and
    the default is no stricter, no record is read. Raises StoreError.
    """
    stricter = default == "denied" and before == "granted"
    if not stricter and all(one.granted for one in store.consents(tuple({"store", purpose}), after=after)):
        return {}
    held = read_consents(store, purpose, default)
    return {record.id: held.reason for record in _records(store, ids) if held.denies(record)}


def _records(store: Store, ids: Iterable[str]) -> Iterator[AnyRecord]:
    rest = iter(ids)
    while chunk := list(islice(rest, _AT_ONCE)):
        yield from store.get_many(chunk).values()


# -- one person


class Standing(Struct, frozen=True, kw_only=True):
    """What holds of one purpose for a person. ``since`` and ``record`` are absent where the default holds.

    ``platform`` is the one it is about, empty for all of them. ``erased`` says that the record itself was erased.
    """

    purpose: Purpose
    granted: bool
    platform: str = ""
    since: datetime | None = None
    record: str | None = None
    erased: bool = False


def standing(store: Store, pseudonym: str, defaults: Mapping[Purpose, Default]) -> list[Standing]:
    """What a person said of every purpose, or the default; for each platform they named, and for all of them."""
    person = person_digest(marked_text(pseudonym))
    theirs = [one for one in store.consents(PURPOSES) if one.person == person]
    found = []
    for purpose in PURPOSES:
        said = [one for one in theirs if one.purpose == purpose]
        for platform in sorted({"", *(one.platform for one in said)}):
            holds = newest(said, platform)
            if holds is None:
                found.append(Standing(purpose=purpose, granted=defaults.get(purpose, "granted") == "granted"))
                continue
            found.append(
                Standing(
                    purpose=purpose,
                    granted=holds.granted,
                    platform=platform,
                    since=from_microseconds(holds.time),
                    record=None if holds.erased else id_text(holds.id),
                    erased=holds.erased,
                )
            )
    return found


def gpc_consents(user: User, said: Sequence[Said], time: datetime, platform: str | None) -> list[Consent]:
    """Consent records for a person whose request carried the signal; none for a purpose they said something of already.

    What a person said to us is about us, and the signal is about everybody: it does not take back what was granted later
    (W3C Global Privacy Control, section 2.2, leaves that to the law); the records that come with it are left out all the same.
    """
    known = {one.purpose for one in said}
    return [
        Consent(
            id=derived_id("gpc", f"{user.pseudonym}\n{purpose}\n{platform or ''}"),
            time=time,
            schema_version=SCHEMA_VERSION,
            producer="gpc",
            sequence=0,
            user=user,
            purpose=purpose,
            granted=False,
            source=GPC_SOURCE,
            platform=platform,
            basis="Sec-GPC: 1",
        )
        for purpose in GPC_PURPOSES
        if purpose not in known
    ]


def plain_of(one: Standing) -> dict[str, Any]:
    """For ``--json`` and HTTP answers."""
    return {
        "purpose": one.purpose,
        "granted": one.granted,
        "platform": one.platform or None,
        "since": one.since.isoformat() if one.since else None,
        "record": one.record,
        "default": one.since is None,
    }
