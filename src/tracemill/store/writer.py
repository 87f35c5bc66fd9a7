"""One batch into the store: checked, told from what is there, shared, compressed, counted, inserted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import zstandard
from sqlalchemy import Connection, func, select

from tracemill.core.codec import canonical, decode, encode
from tracemill.core.consent import NO_CONSENT
from tracemill.core.errors import RecordError
from tracemill.core.ids import id_bytes, id_text, microseconds, now
from tracemill.core.records import AnyRecord
from tracemill.core.settings import Settings
from tracemill.store import consents
from tracemill.store.base import Appended, Refusal
from tracemill.store.chains import Chains, Trail
from tracemill.store.consenting import Storing
from tracemill.store.names import CHUNK, Names, column_text
from tracemill.store.parts import PartWriter
from tracemill.store.reader import Reader
from tracemill.store.rollups import Rollup
from tracemill.store.rows import names_of, split
from tracemill.store.sealing import SEALED, Sealing, person_of
from tracemill.store.statements import add_to, insert_or_ignore, insert_rows, look_up
from tracemill.store.tables import chains as chains_table
from tracemill.store.tables import counters, quarantine, records
from tracemill.store.tombstones import any_set, erased

Archived: TypeAlias = Callable[[Connection, Sequence[bytes]], dict[str, bytes]]
"""Canonical bytes, by id, of those of some ids (16 bytes each) that are in the archive."""
ERASED = "erased"
_encode_body = msgspec.msgpack.Encoder().encode


def _nothing_archived(_connection: Connection, _ids: Sequence[bytes]) -> dict[str, bytes]:
    return {}


@dataclass(slots=True)
class Rejected:
    """Bytes of the batch that are not stored, and why. ``plain`` is the record they are, where they are one."""

    refusal: Refusal
    raw: bytes
    plain: dict[str, Any] | None = None


@dataclass(slots=True)
class Candidate:
    """A record of the batch: its place in it, its canonical bytes and what they decode to.

    One that was ``stopped`` is not stored whatever else holds, but is kept aside only if it might have been stored.
    """

    index: int
    item: bytes
    plain: dict[str, Any]
    stopped: Rejected | None = None


@dataclass(slots=True)
class _Draft:
    columns: dict[str, Any]
    body: dict[str, Any]
    has_parts: bool
    candidate: Candidate
    new_messages: list[Any]
    platform: str


def admit(items: Iterable[bytes]) -> tuple[list[Candidate], list[Rejected]]:
    """Decode each item by itself, so that a poisoned one harms nobody else."""
    candidates: list[Candidate] = []
    rejected: list[Rejected] = []
    for index, item in enumerate(items):
        try:
            whole = canonical(item)
            candidates.append(Candidate(index, whole, msgspec.msgpack.decode(whole)))
        except RecordError as error:
            rejected.append(Rejected(Refusal(index, _id_of(item), error.reason, error.message), item))
    return candidates, rejected


def _same(one: bytes, other: bytes) -> bool:
    """Whether two encodings are of equal records; the order of fields does not count.

    NaN does not equal itself, but is written alike; a default may be written out or left out.
    """
    known, new = decode(one), decode(other)
    try:
        return known == new or repr(known) == repr(new)
    except ValueError:  # an integer too long to be written in decimals
        return False


def _id_of(item: bytes) -> str | None:
    try:
        found = msgspec.msgpack.decode(item)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    value = found.get("id") if isinstance(found, dict) else None
    return value[:100] if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class Returning:
    """A record that comes back from the archive: its place, and how many of its messages were counted before it.

    ``size`` is what its body took in the database, ``key`` the id of the key it is sealed with.
    """

    place: int
    record: AnyRecord
    shared: int | None
    size: int
    key: bytes | None = None


class Writer:
    """Writes batches. One of these is used by one thread at a time, inside a write transaction.

    ``same_before`` says whether two encoded records of one id that differ were the same when they were sent.
    """

    def __init__(self, settings: Settings, reader: Reader, same_before: Callable[[bytes, bytes], bool]) -> None:
        self._settings = settings
        self._reader = reader
        self._same_before = same_before
        self._names = Names()
        self._chains = Chains()
        self._tombstones: bool | None = None
        self._generation = -1
        self._storing = Storing(settings.consent_defaults.get("store", "granted"))
        self.archived: Archived = _nothing_archived
        """Gives those of some ids that lie in the archive."""
        self.body_bytes = 0
        """Bytes of all bodies ever stored, as of the last batch."""

    def forget(self) -> None:
        """Drop what is remembered: after a rollback, or when something may have been removed."""
        self._names.forget()
        self._chains.forget()
        self._tombstones = None
        self._storing.forget()

    def write(
        self, connection: Connection, candidates: list[Candidate], rejected: list[Rejected], source: str
    ) -> Appended:
        """Store what is new, quarantine what is refused, in the transaction of ``connection``."""
        self._reader.refresh(connection)
        if self._reader.generation != self._generation:  # somebody who read may have refreshed first
            self.forget()
            self._generation = self._reader.generation
        admitted = self._without_erased(connection, candidates, rejected)
        admitted = self._without_unconsented(connection, admitted, rejected)
        rejected.extend(candidate.stopped for candidate in admitted if candidate.stopped is not None)
        admitted = [candidate for candidate in admitted if candidate.stopped is None]
        fresh, repeated = self._new_ones(connection, admitted, rejected)
        if fresh:
            self._store(connection, fresh)
        kept = [entry for entry in rejected if entry.refusal.reason not in (ERASED, NO_CONSENT)]
        put_in_quarantine(connection, kept, source)
        refused = tuple(entry.refusal for entry in rejected)
        return Appended(len(fresh), len(repeated), refused, tuple(repeated))

    def _without_erased(
        self, connection: Connection, candidates: list[Candidate], rejected: list[Rejected]
    ) -> list[Candidate]:
        """The candidates nobody has erased. What was erased is refused, and kept nowhere."""
        if self._tombstones is None:
            self._tombstones = any_set(connection)
        if not self._tombstones:
            return candidates
        gone = erased(connection, [candidate.plain for candidate in candidates])
        for index in sorted(gone):
            message = "this record, or the person or conversation it belongs to, was erased"
            candidate = candidates[index]
            rejected.append(Rejected(Refusal(candidate.index, candidate.plain["id"], ERASED, message), b""))
        return [candidate for index, candidate in enumerate(candidates) if index not in gone]

    def _without_unconsented(
        self, connection: Connection, candidates: list[Candidate], rejected: list[Rejected]
    ) -> list[Candidate]:
        """The candidates whose people allow that they are stored. The others are refused, and kept nowhere."""
        denied = self._storing.denied(connection, [candidate.plain for candidate in candidates])
        if not denied:
            return candidates
        message = "the person it is of does not allow that it is stored"
        for index in sorted(denied):
            candidate = candidates[index]
            rejected.append(Rejected(Refusal(candidate.index, candidate.plain["id"], NO_CONSENT, message), b""))
        return [candidate for index, candidate in enumerate(candidates) if index not in denied]

    def _new_ones(
        self, connection: Connection, candidates: list[Candidate], rejected: list[Rejected]
    ) -> tuple[list[Candidate], list[int]]:
        existing = self._existing(connection, [id_bytes(candidate.plain["id"]) for candidate in candidates])
        fresh: dict[str, Candidate] = {}
        repeated: list[int] = []
        for candidate in candidates:
            identity = candidate.plain["id"]
            known = existing.get(identity) or (fresh[identity].item if identity in fresh else None)
            if known is None:
                fresh[identity] = candidate
            elif known == candidate.item or _same(known, candidate.item) or self._same_before(known, candidate.item):
                repeated.append(candidate.index)
            else:
                message = "this id is stored with another body; what is stored was kept"
                rejected.append(Rejected(Refusal(candidate.index, identity, "conflict", message), candidate.item))
        return list(fresh.values()), repeated

    def _existing(self, connection: Connection, ids: Sequence[bytes]) -> dict[str, bytes]:
        """The canonical bytes of those ids that are stored, in the database or in the archive."""
        places = [place for (place,) in look_up(connection, (records.c.place,), records.c.id, ids)]
        found: dict[str, bytes] = {}
        for start in range(0, len(places), CHUNK):
            rows = connection.execute(select(records).where(records.c.place.in_(places[start : start + CHUNK]))).all()
            found.update((record.id, encode(record)) for record in self._reader.records(connection, rows))
        if len(found) < len(ids):
            found.update(self.archived(connection, [raw for raw in ids if id_text(raw) not in found]))
        return found

    def bring_back(self, connection: Connection, rows: Sequence[Returning]) -> None:
        """Store records of the archive at places they had."""
        ordered = sorted(rows, key=lambda row: row.place)
        for start in range(0, len(ordered), CHUNK):
            chunk = ordered[start : start + CHUNK]
            items = [encode(row.record) for row in chunk]
            candidates = [Candidate(at, item, msgspec.msgpack.decode(item)) for at, item in enumerate(items)]
            self._store(connection, candidates, chunk)
            self._note_sizes(connection, candidates, {row.place: row.size for row in chunk})
        advance(connection, "generation", 1)

    def _note_sizes(self, connection: Connection, candidates: list[Candidate], before: dict[int, int]) -> None:
        """Have the roll-ups count what bodies take now; ``before`` is what they took, by place, in the candidates' order."""
        sizes = select(records.c.place, func.length(records.c.body)).where(records.c.place.in_(list(before)))
        taken = {int(row[0]): int(row[1]) for row in connection.execute(sizes)}
        rollup = Rollup()
        for candidate, (place, size) in zip(candidates, before.items(), strict=True):
            platform = names_of(candidate.plain).get("platform", "")
            rollup.resized(candidate.plain, platform, microseconds(candidate.plain["time"]), taken[place] - size)
        rollup.store(connection, self._names.numbers(connection, rollup.texts(), create=True))

    def _sealed(
        self, connection: Connection, fresh: list[Candidate], returning: Sequence[Returning]
    ) -> list[dict[str, Any]]:
        """The plain values with what belongs to a person sealed: what names nobody is theirs whose interaction it is of."""
        plains = [candidate.plain for candidate in fresh]
        sealer = self._reader.sealer
        keys = [row.key for row in returning] or [None] * len(fresh)
        if not sealer.on and not any(keys):
            return plains
        if not sealer.on:
            return sealer.seal([Sealing(plain, None, key) for plain, key in zip(plains, keys, strict=True)])
        above = {plain["id"]: _above(plain) for plain in plains}
        wanted = {link for _, link in above.values() if link is not None} - above.keys()
        while wanted:
            known = [msgspec.msgpack.decode(item) for _, item in self._interactions(connection, sorted(wanted))]
            above |= {plain["id"]: _above(plain) for plain in known}
            wanted = {link for _, link in map(_above, known) if link is not None} - above.keys()
        people = [_owner(plain["id"], above) for plain in plains]
        return sealer.seal([Sealing(*each) for each in zip(plains, people, keys, strict=True)])

    def _interactions(self, connection: Connection, ids: Sequence[str]) -> Iterable[tuple[str, bytes]]:
        return (
            self._existing(connection, [id_bytes(identity) for identity in dict.fromkeys(ids)]).items() if ids else ()
        )

    def _store(self, connection: Connection, fresh: list[Candidate], returning: Sequence[Returning] = ()) -> None:
        """Insert records; ``returning`` ones at the places they had, past the roll-ups."""
        texts = [names_of(candidate.plain) for candidate in fresh]
        plains = self._sealed(connection, fresh, returning)
        # Sealed content shares nothing with any other record.
        trails = [Trail.of(p) if p["record"] == "interaction" and SEALED not in p else None for p in plains]
        stored_links = self._chains.look_up(connection, [trail for trail in trails if trail is not None])
        numbers = self._names.numbers(connection, {text for row in texts for text in row.values()}, create=True)
        part_writer = PartWriter(self._settings.part_threshold_bytes)
        rollup = None if returning else Rollup()
        known = [(row.place, row.shared) for row in returning]
        if not returning:
            first = advance(connection, "place", len(fresh)) - len(fresh) + 1
            known = [(first + at, None) for at in range(len(fresh))]
        batch = frozenset(place for place, _ in known)
        drafts: list[_Draft] = []
        links: list[dict[str, int]] = []
        rows = zip(fresh, plains, texts, trails, known, strict=True)
        for candidate, plain, own_texts, trail, (place, counted) in rows:
            columns, body = split(plain, own_texts, numbers)
            columns |= {"place": place, "raw_bytes": len(candidate.item), "parent": None, "shared": counted}
            new_messages = candidate.plain.get("messages", [])
            if trail is not None:
                self._share(connection, trail, stored_links, batch, columns, rollup is None)
                if columns["parent"] is not None:
                    new_messages = body.pop("messages")[columns["shared"] :]
                    if new_messages:
                        body["messages"] = new_messages
                links.extend(self._chains.links(trail, place))
            used = part_writer.taken
            body = part_writer.collect(body, len(candidate.item))
            platform = own_texts.get("platform", "")
            drafts.append(_Draft(columns, body, part_writer.taken > used, candidate, new_messages, platform))
        self._insert(connection, drafts, part_writer, rollup)
        if not returning:  # of what was archived the rows never went
            self._note_consents(connection, drafts)
        insert_rows(connection, chains_table, links, ignore=True)

    def _note_consents(self, connection: Connection, drafts: list[_Draft]) -> None:
        said = [draft for draft in drafts if draft.candidate.plain["record"] == "consent"]
        if said:
            consents.insert(connection, [consents.row_of(one.candidate.plain, one.columns["place"]) for one in said])
            if self._storing.begins([one.candidate.plain for one in said]):
                advance(connection, "generation", 1)  # so that every process looks from now on

    def _share(
        self,
        connection: Connection,
        trail: Trail,
        stored_links: Any,
        batch: frozenset[int],
        columns: dict[str, Any],
        returning: bool,
    ) -> None:
        """Set parent and shared of a row where an earlier trajectory begins its messages.

        A row that returns from the archive shares exactly what it did before, or nothing: its count must stay true.
        """

        def digest_at(record: int, length: int) -> bytes | None:
            return self._reader.digest_at(connection, record, length) if record not in batch else None

        parent = self._chains.parent(trail, stored_links, digest_at)
        earlier = parent is not None and parent[0] < columns["place"]  # what returns may find what came after it
        if parent is not None and earlier and (not returning or parent[1] == columns["shared"]):
            columns["parent"], columns["shared"] = parent

    def _insert(
        self, connection: Connection, drafts: list[_Draft], part_writer: PartWriter, rollup: Rollup | None
    ) -> None:
        compressor = self._reader.compressor
        part_writer.store(connection, compressor)
        total = 0
        for draft in drafts:
            body = _encode_body(part_writer.refer(draft.body) if draft.has_parts else draft.body)
            packed = compressor.compress(body, delta=draft.columns["parent"] is not None)
            total += len(body)
            draft.columns["body"] = packed
            time, raw = draft.columns["time"], draft.columns["raw_bytes"]
            if rollup is not None:
                rollup.add(draft.candidate.plain, draft.new_messages, draft.platform, time, raw, len(packed))
        insert_rows(connection, records, [draft.columns for draft in drafts])
        if rollup is not None:
            rollup.store(connection, self._names.numbers(connection, rollup.texts(), create=True))
        self.body_bytes = advance(connection, "body_bytes", total)


def _above(plain: dict[str, Any]) -> tuple[str | None, str | None]:
    """Whom a record names, or what it is of or inside of, where it names nobody."""
    person = person_of(plain)
    link = plain.get("interaction_id") or plain.get("parent_id") or plain.get("step_id")
    return (person, None) if person is not None else (None, link)


def _owner(identity: str, above: dict[str, tuple[str | None, str | None]]) -> str | None:
    """Whose a record is: theirs whom it names, or whose record it is of, however deep."""
    seen: set[str] = set()
    at: str | None = identity
    while at is not None and at not in seen:
        seen.add(at)
        person, at = above.get(at, (None, None))
        if person is not None:
            return person
    return None


def advance(connection: Connection, name: str, by: int) -> int:
    """Add to a counter and return its new value."""
    return add_to(connection, counters, {"name": name, "value": by}, "value")


def put_in_quarantine(connection: Connection, rejected: Iterable[Rejected], source: str) -> None:
    """Keep refused bytes with their reasons; the same bytes again change nothing."""
    compress = zstandard.ZstdCompressor(level=3).compress
    moment = microseconds(now())
    rows = [
        {
            "time": moment,
            "reason": entry.refusal.reason,
            "message": _storable(entry.refusal.message),
            "source": source,
            "record": None if entry.refusal.id is None else column_text(entry.refusal.id),
            "digest": hashlib.blake2b(entry.raw, digest_size=16).digest(),
            "raw": compress(entry.raw),
        }
        for entry in rejected
    ]
    insert_or_ignore(connection, quarantine, rows)


def _storable(message: str) -> str:
    return message[:1000].encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
