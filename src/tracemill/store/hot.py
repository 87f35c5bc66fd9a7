"""The hot store: SQLite by default, PostgreSQL by URL, one implementation of the verbs in base.py."""

from __future__ import annotations

import os
import threading
import weakref
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import zstandard
from sqlalchemy import Connection, Engine, and_, func, or_, select, text, true

from tracemill.core.access import ApiKey
from tracemill.core.archive import ArchivedFile
from tracemill.core.audit import AuditEntry
from tracemill.core.codec import encode, marked_text
from tracemill.core.errors import RecordError
from tracemill.core.ids import from_microseconds, id_bytes, microseconds
from tracemill.core.pending import PendingPart
from tracemill.core.records import AnyRecord, Purpose
from tracemill.core.settings import Settings
from tracemill.store import audit, consents, erasing
from tracemill.store.base import Appended, DailyRow, Filter, QuarantinedItem, Refusal, Said, ToolRow
from tracemill.store.dictionary import TRAINED_AT
from tracemill.store.engine import open_engine, reading, writing
from tracemill.store.erase import erase_records
from tracemill.store.gate import Gateway, conversations
from tracemill.store.hot_search import HotSearch
from tracemill.store.keys import note_use, put_key, read_key, read_keys
from tracemill.store.migrate import upgrade
from tracemill.store.names import CHUNK, column_text
from tracemill.store.pending import count_parts, drop_parts, idle_keys, parts_of, put_parts
from tracemill.store.reader import Reader
from tracemill.store.rollups import read_daily, read_tools
from tracemill.store.rows import TYPE_CODES
from tracemill.store.sealing import Sealer
from tracemill.store.search import Needle
from tracemill.store.statements import look_up
from tracemill.store.tables import chains, counters, erasures, names, parts, pending, quarantine, records
from tracemill.store.training import train_when_due
from tracemill.store.verify import find_problems
from tracemill.store.writer import Candidate, Rejected, Returning, Writer, admit, put_in_quarantine

_LOOKED_AT = 50
"""Records read at once to see whether they hold what was looked for."""
DATABASE_FILE = "store.db"
_open: weakref.WeakSet[HotStore] = weakref.WeakSet()
_inherited: list[Any] = []


class HotStore:
    """Records in a SQL database. Safe for use by several threads; several processes may open the same database."""

    def __init__(self, url: str, settings: Settings) -> None:
        """Open the database, making or migrating its tables. Raises StoreError when that cannot be done."""
        self.url = url
        self.settings = settings
        self._engine: Engine = open_engine(url)
        upgrade(self._engine)
        self.sealer = Sealer(settings)
        self.gateway = Gateway(settings)
        self._reader = Reader(settings.store_cache_bytes, self.sealer)
        self._writer = Writer(settings, self._reader, self.gateway.same)
        self._write_lock = threading.Lock()
        self._trained = 0  # how many of the sizes at which a dictionary is trained were seen to
        with self._reader.lock, reading(self._engine) as connection:
            self._reader.refresh(connection)
        _open.add(self)

    # -- writing

    def append(self, records: Sequence[AnyRecord]) -> Appended:
        """See :class:`tracemill.store.base.Store`."""
        items: list[bytes] = []
        indexes: list[int] = []
        unencodable: list[Rejected] = []
        for index, record in enumerate(records):
            try:
                items.append(encode(record))
                indexes.append(index)
            except RecordError as error:
                refusal = Refusal(index, str(record.id), error.reason, error.message)
                unencodable.append(Rejected(refusal, f"{type(record).__name__} {record.id}: {error.message}".encode()))
        self.gateway.hide(unencodable)
        passed, places, stopped = self.gateway.passed(items, indexes, self.conversations_of)
        return self._write(passed, places, [*unencodable, *stopped], "append")

    def append_encoded(self, items: Sequence[bytes], *, source: str = "spool") -> Appended:
        """See :class:`tracemill.store.base.Store`."""
        passed, places, stopped = self.gateway.passed(items, range(len(items)), self.conversations_of)
        return self._write(passed, places, stopped, source)

    def _write(self, items: Sequence[bytes], indexes: Sequence[int], rejected: list[Rejected], source: str) -> Appended:
        candidates, malformed = admit(items)
        for entry in malformed:
            refusal = entry.refusal
            entry.refusal = Refusal(indexes[refusal.index], refusal.id, refusal.reason, refusal.message)
        self.gateway.hide(malformed)
        for candidate in candidates:
            candidate.index = indexes[candidate.index]
        candidates += [Candidate(one.refusal.index, b"", one.plain, one) for one in rejected if one.plain is not None]
        rejected = [one for one in rejected if one.plain is None]
        with self._write_lock, self._reader.lock:
            try:
                with writing(self._engine) as connection:
                    result = self._writer.write(connection, candidates, [*rejected, *malformed], source)
            except BaseException:
                self._writer.forget()  # what they remember may have been rolled back
                self._reader.forget()
                raise
            if result.stored and (crossed := bisect_right(TRAINED_AT, self._writer.body_bytes)) > self._trained:
                train_when_due(self._engine, self._reader)
                self._trained = crossed
        return result

    def quarantine(self, raw: bytes, reason: str, message: str, source: str) -> None:
        """See :class:`tracemill.store.base.Store`."""
        refused = Rejected(Refusal(0, None, reason, message), raw)
        self.gateway.hide([refused])
        with self._write_lock, writing(self._engine) as connection:
            put_in_quarantine(connection, [refused], source)

    def pending_put(self, parts: Sequence[PendingPart]) -> None:
        """Keep parts of records that arrive apart; committed when it returns. The same part again changes nothing."""
        if parts:
            kept = [msgspec.structs.replace(part, body=self.gateway.waiting(part.body)) for part in parts]
            with self._write_lock, writing(self._engine) as connection:
                put_parts(connection, kept)

    def pending_drop(self, parts: Sequence[PendingPart]) -> None:
        """Remove parts whose records are made; what came for the same keys meanwhile stays."""
        if parts:
            with self._write_lock, writing(self._engine) as connection:
                drop_parts(connection, parts)

    def pending_of(self, source: str, keys: Sequence[str]) -> dict[str, list[PendingPart]]:
        """The parts of each key that has any, in the order of their names."""
        with reading(self._engine) as connection:
            found = parts_of(connection, source, keys)
        take_off = self.gateway.veil.take_off
        return {
            key: [msgspec.structs.replace(part, body=take_off(part.body)) for part in parts]
            for key, parts in found.items()
        }

    def pending_idle(self, source: str, older_than: datetime, limit: int = 1000) -> list[str]:
        """Keys of which no part has come since a moment, those that wait longest first."""
        with reading(self._engine) as connection:
            return idle_keys(connection, source, older_than, limit)

    def pending_count(self) -> int:
        """How many parts wait."""
        with reading(self._engine) as connection:
            return count_parts(connection)

    def put_api_key(self, key: ApiKey) -> None:
        """Store an API key, in place of the one of the same id."""
        with self._write_lock, writing(self._engine) as connection:
            put_key(connection, key)

    def note_api_key_use(self, identity: str, moment: datetime) -> None:
        """Remember when a key was used last."""
        with self._write_lock, writing(self._engine) as connection:
            note_use(connection, identity, moment)

    def api_keys(self) -> list[ApiKey]:
        """Every API key, revoked ones too, oldest first."""
        with reading(self._engine) as connection:
            return read_keys(connection)

    def api_key(self, identity: str) -> ApiKey | None:
        """The API key of an id."""
        with reading(self._engine) as connection:
            return read_key(connection, identity)

    def erase(self, ids: Sequence[str]) -> int:
        """See :class:`tracemill.store.base.Store`."""
        with self.exclusive() as connection:
            consents.bury(connection, ids)
            removed = erase_records(connection, self._reader, ids, self.settings.part_threshold_bytes)
        self.shrink()
        return removed

    def audit_append(self, actor: str, action: str, target: str, detail: dict[str, Any]) -> AuditEntry:
        """Add an entry to the audit log; committed when it returns."""
        with self._write_lock, writing(self._engine) as connection:
            return audit.append(connection, actor, action, target, detail)

    def audit_rows(self, after: int, limit: int) -> list[tuple[int, bytes, bytes]]:
        """Number, bytes and hash of the entries of the audit log after a number."""
        with reading(self._engine) as connection:
            return audit.rows(connection, after, limit)

    def audit_head(self) -> tuple[int, bytes]:
        """Number and hash of the last entry of the audit log."""
        with reading(self._engine) as connection:
            return audit.head(connection)

    @property
    def engine(self) -> Engine:
        """The database's engine, for the rooms of the store that work on it."""
        return self._engine

    @property
    def reader(self) -> Reader:
        """What puts rows together; its lock is held while it is used."""
        return self._reader

    @contextmanager
    def exclusive(self) -> Iterator[Connection]:
        """A write transaction in which nothing else of this store works; what the writer remembers is forgotten after it."""
        with self._write_lock, self._reader.lock:
            try:
                with writing(self._engine) as connection:
                    self._reader.refresh(connection)
                    yield connection
            except BaseException:
                self._reader.forget()  # what it remembers was rolled back
                raise
            finally:
                self._writer.forget()

    def bring_back(self, connection: Connection, rows: Sequence[Returning]) -> None:
        """Store records at places they had, in the transaction of ``connection``; the roll-ups count them already."""
        self._writer.bring_back(connection, rows)

    def shrink(self) -> bool:
        """Give the room of what was removed back to the device. SQLite only: PostgreSQL sees to it itself.

        False when the write-ahead log could not be emptied, because somebody reads what was there before.
        """
        if self._engine.dialect.name == "sqlite":
            with self._write_lock, self._engine.connect() as connection:
                raw: Any = connection.connection.driver_connection
                raw.executescript("PRAGMA incremental_vacuum")  # execute() would free one page: it takes one step
                return not raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return True

    def overwrite_removed(self) -> bool:
        """Leave no bytes of what was removed in the database's files, as far as the database lets us.

        SQLite: they are overwritten with zeros, and the write-ahead log is emptied; False when somebody reads what was
        there before, and it is not. PostgreSQL: the rows' room is made free (VACUUM) and written over in time; its own
        write-ahead log and backups are out of reach.
        """
        if self._engine.dialect.name == "sqlite":
            return self.shrink()
        with self._write_lock, self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in (records, parts, chains, names, quarantine, pending, erasures):
                connection.exec_driver_sql(f"VACUUM {table.name}")
        return True

    # -- reading

    def get(self, record_id: str, *, visible_to: str | None = None) -> AnyRecord | None:
        """See :class:`tracemill.store.base.Store`."""
        try:
            raw = id_bytes(record_id)
        except ValueError:
            return None
        found = self._select(records.c.id == raw, visible_to, 1)
        return found[0][1] if found else None

    def get_many(self, ids: Sequence[str], *, up_to: int | None = None) -> dict[str, AnyRecord]:
        """See :class:`tracemill.store.base.Store`."""
        found: dict[str, AnyRecord] = {}
        for start in range(0, len(ids), CHUNK):
            condition: Any = records.c.id.in_([id_bytes(identity) for identity in ids[start : start + CHUNK]])
            if up_to is not None:
                condition = and_(condition, records.c.place <= up_to)
            found.update((record.id, record) for _, record in self._select(condition, None, CHUNK))
        return found

    def scan(self, where: Filter | None = None, *, page: int = 500) -> Iterator[AnyRecord]:
        """See :class:`tracemill.store.base.Store`. Each page is a read transaction of its own."""
        wanted = where or Filter()
        while found := self.page(wanted, page):
            for _, record in found:
                yield record
            wanted = replace(wanted, after=found[-1][0])

    def page(self, where: Filter | None = None, limit: int = 500) -> list[tuple[int, AnyRecord]]:
        """See :class:`tracemill.store.base.Store`."""
        wanted = where or Filter()
        with reading(self._engine) as connection:
            condition = self._condition(connection, wanted)
        return [] if condition is None else self._select(condition, wanted.visible_to, limit)

    def _select(
        self, condition: Any, visible_to: str | None, limit: int, own: frozenset[bytes] = frozenset()
    ) -> list[tuple[int, AnyRecord]]:
        """The first records that meet a condition, in the order of storing, of those a person may see.

        ``own`` are ids of interactions of that person that are not in the database.
        """
        if visible_to is not None:
            places = self._visible(condition, visible_to, limit, own)
            condition = records.c.place.in_(places)
        statement = select(records).where(condition).order_by(records.c.place).limit(limit)
        with self._reader.lock, reading(self._engine) as connection:
            self._reader.refresh(connection)
            rows = connection.execute(statement).all()
            found = self._reader.records(connection, rows)
            return [(row.place, record) for row, record in zip(rows, found, strict=True)]

    def _visible(self, condition: Any, pseudonym: str, limit: int, own: frozenset[bytes]) -> list[int]:
        """Places a person may see. Their bodies are read apart: what they share with others' the person may not read."""
        value = column_text(marked_text(pseudonym))
        with self._reader.lock, reading(self._engine) as connection:
            self._reader.refresh(connection)
            number = self._reader.names.numbers(connection, [value], create=False).get(value)
        columns = records.c
        places: set[int] = set()
        if number is not None:
            own_ids = select(columns.id).where(columns.person == number)
            theirs = or_(columns.person == number, columns.interaction.in_(own_ids))
            places.update(self._places(and_(condition, theirs), limit, number))
        listed = sorted(own)
        for start in range(0, len(listed), CHUNK):  # PostgreSQL cannot know whose an archived interaction is
            linked = columns.interaction.in_(listed[start : start + CHUNK])
            places.update(self._places(and_(condition, linked), limit, None))
        return sorted(places)[:limit]

    def _places(self, condition: Any, limit: int, viewer: int | None) -> list[int]:
        statement = select(records.c.place).where(condition).order_by(records.c.place).limit(limit)
        with reading(self._engine, viewer=viewer) as connection:
            return [place for (place,) in connection.execute(statement)]

    def _condition(self, connection: Connection, where: Filter) -> Any:
        """The SQL condition of a filter, or None when it names something the store does not hold."""
        columns = records.c
        conditions: list[Any] = [columns.place > where.after]
        texts = {
            "conversation": where.conversation_id,
            "session": where.session_id,
            "person": where.user,
            "model": where.model,
        }
        given = {column: column_text(marked_text(value)) for column, value in texts.items() if value is not None}
        platforms = [column_text(marked_text(platform)) for platform in where.platforms]
        with self._reader.lock:
            self._reader.refresh(connection)
            numbers = self._reader.names.numbers(connection, [*given.values(), *platforms], create=False)
        if any(value not in numbers for value in given.values()):
            return None
        conditions.extend(columns[column] == numbers[value] for column, value in given.items())
        if platforms:
            conditions.append(columns.platform.in_([numbers[name] for name in platforms if name in numbers]))
        if where.types:
            conditions.append(columns.type.in_([TYPE_CODES[tag] for tag in where.types if tag in TYPE_CODES]))
        if where.interaction_id is not None:
            conditions.append(columns.interaction == id_bytes(where.interaction_id))
        if where.unlinked:
            conditions.append(columns.interaction.is_(None))
        if where.success is not None:
            conditions.append(columns.success == int(where.success))
        if where.since is not None:
            conditions.append(columns.time >= microseconds(where.since))
        if where.until is not None:
            conditions.append(columns.time < microseconds(where.until))
        if where.up_to is not None:
            conditions.append(columns.place <= where.up_to)
        return and_(true(), *conditions)

    def search(self, text: str, where: Filter | None = None, *, limit: int = 100) -> list[tuple[int, AnyRecord]]:
        """See :class:`tracemill.store.base.Store`."""
        return list(islice(self._found(Needle(text), where or Filter()), limit))

    def _found(
        self, needle: Needle, where: Filter, own: frozenset[bytes] = frozenset()
    ) -> Iterator[tuple[int, AnyRecord]]:
        """What of the database holds a text, in the order of storing; ``own`` as in _select.

        Each page is a read transaction of its own.
        """
        looking = HotSearch(self._reader, needle)
        after: int | None = where.after
        while after is not None:
            with self._reader.lock, reading(self._engine) as connection:
                if self._reader.refresh(connection):
                    looking = HotSearch(self._reader, needle)
                condition = self._condition(connection, replace(where, after=after))
                if condition is None:
                    return
                places, after = looking.candidates(connection, condition, after)
            for start in range(0, len(places), _LOOKED_AT):
                chosen = records.c.place.in_(places[start : start + _LOOKED_AT])
                for place, record in self._select(chosen, where.visible_to, _LOOKED_AT, own):
                    if needle.in_record(record):
                        yield place, record

    def consents(self, purposes: Sequence[Purpose], *, after: int = 0, up_to: int | None = None) -> list[Said]:
        """See :class:`tracemill.store.base.Store`."""
        with reading(self._engine) as connection:
            return consents.everything(connection, purposes, after=after, up_to=up_to)

    def consents_of(self, people: Sequence[bytes], purpose: Purpose) -> list[Said]:
        """What some people, by digest, said of a purpose."""
        with reading(self._engine) as connection:
            return [one for said in consents.of_people(connection, purpose, people).values() for one in said]

    def linked(self, ids: Sequence[str]) -> set[str]:
        """See :class:`tracemill.store.base.Store`."""
        with reading(self._engine) as connection:
            return set(erasing.linked(connection, ids))

    def inside(self, ids: Sequence[str]) -> set[str]:
        """See :class:`tracemill.store.base.Store`."""
        return closed(ids, self._parents())

    def _parents(self) -> Iterator[tuple[str, str]]:
        """Parent and id of every interaction in the database that says who called it."""
        after: int | None = 0
        while after is not None:
            with self._reader.lock, reading(self._engine) as connection:
                self._reader.refresh(connection)
                found, after = erasing.parents(connection, self._reader, after)
            yield from found

    def known(self, ids: Sequence[str]) -> set[str]:
        """See :class:`tracemill.store.base.Store`."""
        raw = {id_bytes(identity): identity for identity in ids}
        with reading(self._engine) as connection:
            return {raw[bytes(identity)] for (identity,) in look_up(connection, (records.c.id,), records.c.id, raw)}

    def conversations_of(self, ids: Sequence[str]) -> dict[str, str]:
        """The conversation (else the session), as it stands in a column, of those interactions that are stored and have one."""
        with self._reader.lock, reading(self._engine) as connection:
            self._reader.refresh(connection)
            return conversations(connection, self._reader.names, ids)

    def count(self, where: Filter | None = None) -> int:
        """See :class:`tracemill.store.base.Store`."""
        if where is not None and where.visible_to is not None:
            return sum(1 for _ in self.scan(where))
        with reading(self._engine) as connection:
            condition = self._condition(connection, where or Filter())
            if condition is None:
                return 0
            return int(connection.execute(select(func.count()).select_from(records).where(condition)).scalar_one())

    def watermark(self) -> int:
        """See :class:`tracemill.store.base.Store`."""
        with reading(self._engine) as connection:
            return int(connection.execute(select(counters.c.value).where(counters.c.name == "place")).scalar() or 0)

    def state(self) -> tuple[int, int]:
        """Two numbers that change with whatever is stored, removed or brought back; moving to the archive may change them."""
        wanted = select(counters.c.name, counters.c.value).where(counters.c.name.in_(("place", "generation")))
        with reading(self._engine) as connection:
            found = {name: int(value) for name, value in connection.execute(wanted)}
        return found.get("place", 0), found.get("generation", 0)

    def daily(self, *, platform: str | None = None) -> list[DailyRow]:
        """See :class:`tracemill.store.base.Store`."""
        with self._reader.lock, reading(self._engine) as connection:
            self._reader.refresh(connection)
            return read_daily(connection, self._reader.names, platform)

    def daily_tools(self, *, platform: str | None = None) -> list[ToolRow]:
        """See :class:`tracemill.store.base.Store`."""
        with self._reader.lock, reading(self._engine) as connection:
            self._reader.refresh(connection)
            return read_tools(connection, self._reader.names, platform)

    def quarantined(self, limit: int = 100) -> list[QuarantinedItem]:
        """See :class:`tracemill.store.base.Store`."""
        decompress = zstandard.ZstdDecompressor().decompress
        with reading(self._engine) as connection:
            rows = connection.execute(select(quarantine).order_by(quarantine.c.id.desc()).limit(limit)).all()
        return [
            QuarantinedItem(
                from_microseconds(row.time),
                row.reason,
                row.message,
                row.source,
                row.record,
                self.gateway.veil.take_off(decompress(bytes(row.raw))),
            )
            for row in rows
        ]

    def quarantine_count(self) -> int:
        """How many refused items are kept."""
        with reading(self._engine) as connection:
            return int(connection.execute(select(func.count()).select_from(quarantine)).scalar_one())

    def verify(self) -> list[str]:
        """See :class:`tracemill.store.base.Store`. Reads every record."""
        with self._reader.lock, reading(self._engine) as connection:
            self._reader.refresh(connection)
            return self._problems(connection, ())

    def _problems(self, connection: Connection, archived: Sequence[ArchivedFile]) -> list[str]:
        """What is wrong with the database, whose sums count what is archived too."""
        elsewhere: Counter[str] = Counter()
        for file in archived:
            elsewhere.update(file.types)
        return find_problems(connection, self._reader, elsewhere)

    @property
    def address(self) -> str:
        """The database's URL without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    def size(self) -> int:
        """Bytes the database takes on its device, indexes and log included."""
        if self._engine.dialect.name == "sqlite":
            database = Path(self._engine.url.database or "")
            files = (database, database.with_name(database.name + "-wal"))
            return sum(path.stat().st_size for path in files if path.is_file())
        with reading(self._engine) as connection:
            return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())

    def close(self) -> None:
        """See :class:`tracemill.store.base.Store`."""
        _open.discard(self)
        self._engine.dispose()


def closed(ids: Sequence[str], parents: Iterable[tuple[str, str]]) -> set[str]:
    """What is inside some interactions, however deep, out of pairs of a parent and what it called."""
    children: dict[str, list[str]] = {}
    for parent, identity in parents:
        children.setdefault(parent, []).append(identity)
    found: set[str] = set()
    waiting = list(ids)
    while waiting:
        inner = [identity for identity in children.get(waiting.pop(), ()) if identity not in found]
        found.update(inner)
        waiting += inner
    return found


def store_url(settings: Settings) -> str:
    """The database's URL: the one the settings name, or ``store.db`` in the workspace."""
    return settings.database or f"sqlite:///{Path(settings.workspace).resolve() / DATABASE_FILE}"


def _after_fork() -> None:
    """Keep a child from closing connections that belong to its parent: closing would finish the parent's work for it."""
    _inherited.extend(store._engine for store in _open)
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
