"""The database and the archive behind it as one table.

Every verb of :mod:`tracemill.store.base` reads both, in the one order of storing. The catalogue stands in the database, so
that one read transaction tells which rows are where; objects are read outside of it, and read again with a newer catalogue
where one was merged or rewritten meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace as replaced
from sqlalchemy import Connection, select

from tracemill.core.codec import encode, marked_text
from tracemill.core.errors import ArchiveError, StoreError
from tracemill.core.ids import id_bytes, id_text, monotonic
from tracemill.core.records import AnyRecord
from tracemill.core.settings import Settings
from tracemill.store import consents
from tracemill.store.archived import ArchivedStore, archive_folder
from tracemill.store.archiving import Archiver
from tracemill.store.base import Appended, Filter
from tracemill.store.cold import catalogue
from tracemill.store.engine import reading
from tracemill.store.hot import closed, store_url
from tracemill.store.names import column_text
from tracemill.store.search import Needle
from tracemill.store.tables import records
from tracemill.store.writer import Rejected, advance

T = TypeVar("T")
_ATTEMPTS = 5
_PATIENCE_SECONDS = 30.0
"""How long a reader tries again beyond those attempts while archivers keep changing what it reads."""


class TieredStore(ArchivedStore):
    """A hot store with its archive. Where nothing is archived it is the hot store, and needs none of the archive's parts."""

    def __init__(self, url: str, settings: Settings) -> None:
        """Open the database, making or migrating its tables. Raises StoreError when that cannot be done."""
        super().__init__(url, settings)
        self._writer.archived = self._archived

    def _both(self, verb: Callable[[int], T | None]) -> T:
        """What a verb gives for one version of the catalogue; tried again when that changed under it (it gave None)."""
        end, attempts = monotonic() + _PATIENCE_SECONDS, 0
        while attempts < _ATTEMPTS or monotonic() < end:
            attempts += 1
            version = self._refresh()
            try:
                found = verb(version)
            except ArchiveError as error:
                if not error.missing or self._refresh() == version:
                    raise
                continue
            if found is not None:
                return found
        raise StoreError("the archive changed with every attempt to read it", hint="Try again.")

    # -- verbs

    def page(self, where: Filter | None = None, limit: int = 500) -> list[tuple[int, AnyRecord]]:
        """See :class:`tracemill.store.base.Store`."""
        wanted = where or Filter()
        return self._both(lambda version: self._page(wanted, limit, version))

    def scan_hot(self, where: Filter | None = None) -> Iterator[AnyRecord]:
        """As scan, of the database alone."""
        wanted = where or Filter()
        while found := super().page(wanted, 500):
            for _, record in found:
                yield record
            wanted = replace(wanted, after=found[-1][0])

    def _page(self, where: Filter, limit: int, version: int) -> list[tuple[int, AnyRecord]] | None:
        if not self._files:
            alone = super().page(where, limit)
            return alone if self._refresh() == version else None
        archived, own = self._own(where)
        hits = self.cold.hits(where, limit, own)
        bounded = where
        if hits and len(hits) == limit:
            bounded = replace(where, up_to=hits[-1].place)  # up_to itself bounds the hits already
        with reading(self._engine) as connection:
            condition = self._condition(connection, bounded)
        hot = {} if condition is None else dict(self._select(condition, where.visible_to, limit, archived))
        if self._refresh() != version:
            return None
        at = {hit.place: hit for hit in hits}
        places = sorted(at.keys() | hot.keys())[:limit]
        cold = [at[place] for place in places if place not in hot]
        hot.update(zip((hit.place for hit in cold), self.cold.records(cold), strict=True))
        return [(place, hot[place]) for place in places]

    def _own(self, where: Filter) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """Of a filter by who may see: the ids of that person's archived interactions, and of those in both tiers."""
        if where.visible_to is None:
            return frozenset(), frozenset()
        value = column_text(marked_text(where.visible_to))
        with self._reader.lock, reading(self._engine) as connection:
            self._reader.refresh(connection)
            number = self._reader.names.numbers(connection, [value], create=False).get(value)
            statement = select(records.c.id).where(records.c.person == number)
            hot = {bytes(identity) for (identity,) in connection.execute(statement)} if number is not None else set()
        archived = self.cold.interactions_of(where.visible_to)
        return archived, archived | hot

    def get(self, record_id: str, *, visible_to: str | None = None) -> AnyRecord | None:
        """See :class:`tracemill.store.base.Store`."""
        found = super().get(record_id, visible_to=visible_to)
        if found is not None:
            return found
        try:
            raw = id_bytes(record_id)
        except ValueError:
            return None
        return self._both(lambda version: self._get(raw, visible_to, version))[0]

    def _get(self, raw: bytes, visible_to: str | None, version: int) -> tuple[AnyRecord | None] | None:
        hit = self.cold.find([raw]).get(raw) if self._files else None
        record = self.cold.records([hit])[0] if hit is not None else None
        archived, own = self._own(Filter(visible_to=visible_to)) if self._files else (frozenset(), frozenset())
        if record is not None and visible_to is not None:
            user, linked = getattr(record, "user", None), getattr(record, "interaction_id", None)
            if not (user is not None and user.pseudonym == visible_to) and (
                linked is None or id_bytes(linked) not in own
            ):
                record = None
        if record is None:  # restored meanwhile, or about an archived interaction of that person
            hot = self._select(records.c.id == raw, visible_to, 1, archived)
            record = hot[0][1] if hot else None
        return (record,) if record is not None or self._refresh() == version else None

    def get_many(self, ids: Sequence[str], *, up_to: int | None = None) -> dict[str, AnyRecord]:
        """See :class:`tracemill.store.base.Store`."""
        found = super().get_many(ids, up_to=up_to)
        missing = {id_bytes(identity): identity for identity in ids if identity not in found}
        if missing:
            found |= self._both(lambda version: self._get_many(missing, up_to, version))
        return found

    def _get_many(self, missing: dict[bytes, str], up_to: int | None, version: int) -> dict[str, AnyRecord] | None:
        there = self.cold.find(missing).values() if self._files else ()
        hits = [hit for hit in there if up_to is None or hit.place <= up_to]
        found = {record.id: record for record in self.cold.records(hits)} if hits else {}
        rest = [identity for identity in missing.values() if identity not in found]
        found |= super().get_many(rest, up_to=up_to)
        return found if self._refresh() == version else None

    def known(self, ids: Sequence[str]) -> set[str]:
        """See :class:`tracemill.store.base.Store`."""
        found = super().known(ids)
        missing = {id_bytes(identity): identity for identity in ids if identity not in found}
        if not missing:
            return found
        archived: set[str] = self._both(
            lambda _: {missing[raw] for raw in self.cold.find(missing)} if self._files else set()
        )
        return found | archived | super().known([identity for identity in missing.values() if identity not in archived])

    def conversations_of(self, ids: Sequence[str]) -> dict[str, str]:
        """See :meth:`tracemill.store.hot.HotStore.conversations_of`."""
        found = super().conversations_of(ids)
        missing = [identity for identity in ids if identity not in found]
        self._refresh()
        if not missing or not self._files:
            return found
        there = super().known(missing)
        for identity, record in self.get_many([identity for identity in missing if identity not in there]).items():
            value = getattr(record, "conversation_id", None) or getattr(record, "session_id", None)
            if value is not None:
                found[identity] = column_text(marked_text(value))
        return found

    def linked(self, ids: Sequence[str]) -> set[str]:
        """See :class:`tracemill.store.base.Store`."""
        found = super().linked(ids)
        wanted = frozenset(id_bytes(identity) for identity in ids)
        archived: set[str] = self._both(
            lambda _: {id_text(raw) for raw in self.cold.linked_to(wanted)} if self._files else set()
        )
        return found | archived | super().linked(ids)

    def inside(self, ids: Sequence[str]) -> set[str]:
        """See :class:`tracemill.store.base.Store`."""
        return self._both(lambda version: closed(ids, self._every_parent(version)))

    def _every_parent(self, version: int) -> Iterator[tuple[str, str]]:
        yield from self._parents()
        if self._files:
            yield from self.cold.parents()
        if self._refresh() != version:
            yield from self._parents()  # some may have come back from the archive while it was read

    def count(self, where: Filter | None = None) -> int:
        """See :class:`tracemill.store.base.Store`."""
        wanted = where or Filter()
        if wanted.visible_to is not None:
            return sum(1 for _ in self.scan(wanted))
        return self._both(lambda version: self._count(wanted, version))

    def _count(self, where: Filter, version: int) -> int | None:
        total = (self.cold.count(where) if self._files else 0) + super().count(where)
        return total if self._refresh() == version else None

    def search(self, text: str, where: Filter | None = None, *, limit: int = 100) -> list[tuple[int, AnyRecord]]:
        """See :class:`tracemill.store.base.Store`."""
        wanted = where or Filter()
        return self._both(lambda version: self._search(text, wanted, limit, version))

    def _search(self, text: str, where: Filter, limit: int, version: int) -> list[tuple[int, AnyRecord]] | None:
        """Every archived hit is gathered before the first is given: objects overlap in the order of storing."""
        needle = Needle(text)
        if not self._files:
            alone = super().search(text, where, limit=limit)
            return alone if self._refresh() == version else None
        archived, own = self._own(where)
        found: dict[int, AnyRecord] = {}
        hits = sorted(self.cold.search(needle, where, own), key=lambda hit: hit.place)
        for start in range(0, len(hits), limit):
            chunk = hits[start : start + limit]
            records_there = zip(chunk, self.cold.records(chunk), strict=True)
            found.update((hit.place, record) for hit, record in records_there if needle.in_record(record))
            if len(found) >= limit:
                break
        last = sorted(found)[limit - 1] if len(found) >= limit else None
        bounded = where if last is None else replace(where, up_to=last)
        found.update(islice(self._found(needle, bounded, archived), limit))
        return None if self._refresh() != version else [(place, found[place]) for place in sorted(found)[:limit]]

    def verify(self) -> list[str]:
        """See :class:`tracemill.store.base.Store`. The archive's objects are not read: ``tracemill archive verify`` does."""
        with self._reader.lock, reading(self._engine) as connection:
            self._reader.refresh(connection)
            return self._problems(connection, catalogue.entries(connection))

    # -- writing

    def _write(self, items: Sequence[bytes], indexes: Sequence[int], rejected: list[Rejected], source: str) -> Appended:
        self._refresh()
        return super()._write(items, indexes, rejected, source)

    def erase(self, ids: Sequence[str]) -> int:
        """See :class:`tracemill.store.base.Store`. Objects that hold any of them are written anew without."""
        wanted = {id_bytes(identity): identity for identity in ids}
        self._refresh()
        archived = len(self.cold.find(wanted)) if self._files else 0
        self._drop_left_behind()
        removed = super().erase(ids)
        for _ in range(_ATTEMPTS):
            if self._erase_archived(list(wanted)) and not super().known(ids):
                self._drop_left_behind()
                return removed + archived
            super().erase(ids)  # came back from the archive meanwhile
        raise StoreError("the archive changed with every attempt to erase from it", hint="Run it again.")

    def _drop_left_behind(self) -> None:
        """Delete the objects nobody reads, which may hold what is erased: of work that was cut off, or is under way.

        What is under way is given up by whoever is at it. Its entry stays for as long as they may still upload.
        """
        for file in self.archived_files(("pending", "retired")):
            if file.status == "pending":
                with self.exclusive() as connection:
                    if not catalogue.change(connection, replaced(file, status="retired"), "pending"):
                        continue  # live by now: its rows are looked for there
            self.objects.delete(file.object_key)
            if file.sha256 or catalogue.abandoned(file):
                with self.exclusive() as connection:
                    catalogue.remove(connection, file.id, "retired")

    def _erase_archived(self, ids: Sequence[bytes]) -> bool:
        self._refresh()
        if not self._files:
            return True
        from tracemill.store.resealing import erase_archived  # noqa: PLC0415 - heavy, and an optional part

        archiver = Archiver(self, self.objects, archive_folder(self.settings))
        return erase_archived(self, archiver, ids)

    def _archived(self, connection: Connection, ids: Sequence[bytes]) -> dict[str, bytes]:
        """Canonical bytes of those ids that are in the archive, for telling a repeated record from a new one."""
        known, files = self._known
        if catalogue.version(connection) != known:  # changed just now, or by this transaction, which may be rolled back
            files = tuple(catalogue.entries(connection))
        if not files:
            return {}
        hits = list(self.cold.find(ids, files).values())
        return {record.id: encode(record) for record in self.cold.records(hits)}


def open_store(settings: Settings) -> TieredStore:
    """The store of a workspace: the database the settings name, or ``store.db`` in its folder, and its archive."""
    store = TieredStore(store_url(settings), settings)
    _index_consents(store)
    return store


def _index_consents(store: TieredStore) -> None:
    """Give the consent records of before there were narrow rows their rows; once in a database's life."""
    with reading(store.engine) as connection:
        if consents.is_indexed(connection):
            return
    rows: list[dict[str, Any]] = []
    where = Filter(types=("consent",))
    while found := store.page(where):
        rows += [consents.row_of(msgspec.msgpack.decode(encode(record)), place) for place, record in found]
        where = replace(where, after=found[-1][0])
    with store.exclusive() as connection:
        consents.insert(connection, rows)
        advance(connection, consents.INDEXED, 1)
