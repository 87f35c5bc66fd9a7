"""Old rows into the archive: sealed, uploaded, read back, and only then out of the database.

The order of steps, any of which may be the last one a process takes:

1. the object is entered in the catalogue as ``pending``, with a lease;
2. its rows are read, in the order of their conversations, and written to a file beside the workspace;
3. the file is uploaded under a new name, and the object is read back: its SHA-256 and number of rows must agree;
4. in one transaction the entry becomes ``live`` and the rows leave the database, if both are still as they were.

Until step 4 the database has the rows and nobody reads the object; after it the object has them. What a kill leaves is
a pending entry, a file or an object without an entry, and the next run removes it (:meth:`Archiver.clean`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from sqlalchemy import Connection, func, select

from tracemill.core.archive import ArchivedFile
from tracemill.core.codec import decode
from tracemill.core.errors import ArchiveError
from tracemill.core.ids import from_microseconds, microseconds, monotonic, new_id, now
from tracemill.core.settings import Settings
from tracemill.core.steps import Progress
from tracemill.store.chains import Trail
from tracemill.store.cold import catalogue
from tracemill.store.cold.objects import Objects
from tracemill.store.engine import reading
from tracemill.store.leaving import Producers, Seen, in_partition, leave, unchanged
from tracemill.store.rows import named_columns
from tracemill.store.tables import records

if TYPE_CHECKING:
    from tracemill.store.cold.layout import SealedRow
    from tracemill.store.hot import HotStore

T = TypeVar("T")
_OWNER = "tracemill-owner-"
"""With a number, the name of the object that says whose catalogue names the others."""
DAY = 86_400_000_000
ROWS = 100_000
"""Rows of one object at first: they leave the database in one transaction. Merging makes larger objects of them."""
_AT_ONCE = 200  # each with its whole history
_CONVERSATION_ROWS = 2_000
"""So many more rows an object may get to keep a conversation whole."""
_LONGEST_PART, _BEGINNING = 220, 90  # a folder's name may have 255 bytes; 90 cuts no escape of three in two
_UNRESERVED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one platform and day that are old enough. ``platform`` is empty where they name none."""

    number: int | None
    platform: str
    day: int
    cutoff: int
    records: int
    raw_bytes: int
    hot_bytes: int


@dataclass
class PlatformArchived:
    """What was archived of one platform. ``hot_bytes`` is what its bodies took in the database."""

    records: int = 0
    raw_bytes: int = 0
    hot_bytes: int = 0
    stored_bytes: int = 0
    objects: int = 0


@dataclass
class ArchiveReport:
    """What a run did, or with ``dry_run`` would do. Sizes in bytes."""

    dry_run: bool
    location: str
    platforms: dict[str, PlatformArchived] = field(default_factory=dict)
    objects: list[str] = field(default_factory=list)
    merged: int = 0
    cleaned: int = 0
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def records(self) -> int:
        """How many records left the database."""
        return sum(found.records for found in self.platforms.values())

    def total(self, name: str) -> int:
        """The sum of a field over the platforms."""
        return sum(getattr(found, name) for found in self.platforms.values())

    def to_plain(self) -> dict[str, Any]:
        """For ``--json`` and HTTP."""
        return {
            "dry_run": self.dry_run,
            "location": self.location,
            "records": self.records,
            "raw_bytes": self.total("raw_bytes"),
            "stored_bytes": self.total("stored_bytes"),
            "objects": self.objects,
            "merged": self.merged,
            "cleaned": self.cleaned,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
            "platforms": msgspec.to_builtins(self.platforms),
        }


class Archiver:
    """Moves rows of one store into its archive. Several may work at once, on one machine or on many."""

    def __init__(self, store: HotStore, objects: Objects, folder: Path) -> None:
        self._store = store
        self._objects = objects
        self.folder = folder
        self._producers = Producers()

    # -- what is old enough

    def plan(self, cutoffs: dict[str, int], default: int) -> list[Group]:
        """Rows older than a moment (microseconds), by platform and day; ``cutoffs`` are platforms' own moments."""
        latest = max([default, *cutoffs.values()])
        day = ((records.c.time - ((records.c.time % DAY) + DAY) % DAY) // DAY).label("day")
        sums = (func.count(), func.sum(records.c.raw_bytes), func.sum(func.length(records.c.body)))
        statement = select(records.c.platform, day, *sums).where(records.c.time < latest)
        engine = self._store.engine
        groups = []
        with self._store.reader.lock, reading(engine) as connection:
            self._store.reader.refresh(connection)
            found = connection.execute(statement.group_by(records.c.platform, day)).all()
            names = self._store.reader.names.values(connection, {row[0] for row in found if row[0] is not None})
        for number, at, count, raw, hot in found:
            platform = names[number] if number is not None else ""
            cutoff = cutoffs.get(platform, default)
            if int(at) * DAY < cutoff:
                groups.append(Group(number, platform, int(at), cutoff, int(count), int(raw), int(hot)))
        return sorted(groups, key=lambda group: (group.day, group.platform))

    # -- a run

    def run(self, groups: Sequence[Group], report: ArchiveReport, progress: Progress | None = None) -> None:
        """Archive some groups; what is archived stays so when it is interrupted. Raises StoreError."""
        started = monotonic()
        total = sum(group.records for group in groups)
        report.cleaned += self.clean()
        done = 0
        try:
            for group in groups:
                for places in self._cut(self._ordered(group)):
                    file = self._move(group, places, progress)
                    if file is None:
                        report.skipped.append(
                            f"{group.platform or 'no platform'}, {_iso(group.day)}: another process is at it"
                        )
                        break
                    own = report.platforms.setdefault(group.platform, PlatformArchived())
                    own.records += file.records
                    own.raw_bytes += file.raw_bytes
                    own.stored_bytes += file.stored_bytes
                    own.hot_bytes += file.hot_bytes
                    own.objects += 1
                    report.objects.append(file.object_key)
                    done += file.records
                    if progress is not None:
                        progress("archiving", done, total)
        finally:
            report.seconds += monotonic() - started

    def _ordered(self, group: Group) -> list[tuple[int, int]]:
        """Places and conversation numbers of a group: conversation by conversation as they began, each by time."""
        columns = (
            *(records.c.place, records.c.time, records.c.conversation),
            *(records.c.interaction, records.c.id),
        )
        statement = select(*columns).where(in_partition(group.number, group.day, group.cutoff))
        with reading(self._store.engine) as connection:
            rows = connection.execute(statement.order_by(records.c.place)).all()
        first: dict[object, int] = {}
        of_interaction: dict[bytes, object] = {}
        keyed = []
        for place, time, conversation, interaction, identity in rows:
            key: object = conversation
            if key is None:
                linked = bytes(interaction) if interaction is not None else bytes(identity)
                key = of_interaction.get(linked, linked)
            of_interaction[bytes(identity)] = key
            keyed.append((first.setdefault(key, place), time, place))
        return [(place, group_first) for group_first, _, place in sorted(keyed)]

    def _cut(self, ordered: list[tuple[int, int]]) -> Iterator[list[int]]:
        start = 0
        while start < len(ordered):
            end = min(len(ordered), start + ROWS)
            furthest = min(len(ordered), end + _CONVERSATION_ROWS)
            whole = end
            while whole < furthest and ordered[whole][1] == ordered[whole - 1][1]:
                whole += 1
            end = whole if whole < furthest or whole == len(ordered) else end
            yield [place for place, _ in ordered[start:end]]
            start = end

    def _move(self, group: Group, places: list[int], progress: Progress | None) -> ArchivedFile | None:
        """One object's rows through all steps; None when another process is at this partition."""
        entry = self._begin(group)
        if entry is None:
            return None
        path = self.folder / entry.id
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sealed, seen = self._seal(entry, places, path, progress)
            self.upload(sealed, path)
            _say(progress, "uploaded")
            with self._store.exclusive() as connection:
                if not unchanged(connection, seen):
                    raise _Moved
                if not catalogue.change(connection, sealed, "pending"):
                    raise _Moved
                leave(connection, self._store.reader, seen, self._store.settings.part_threshold_bytes, self._producers)
                _say(progress, "leaving")
            _say(progress, "committed")
        except BaseException as error:
            moved = isinstance(error, _Moved) or (isinstance(error, ArchiveError) and self.overtaken(error, entry))
            self.give_up(entry)
            if moved:
                return None
            if isinstance(error, OSError):
                raise ArchiveError(
                    f"the archive cannot be written: {error}", hint="Nothing left the database."
                ) from error
            raise
        finally:
            path.unlink(missing_ok=True)
        return sealed

    def _begin(self, group: Group) -> ArchivedFile | None:
        entry = pending_entry(self._store.settings, group.platform, group.day)
        with self._store.exclusive() as connection:
            for other in catalogue.entries(connection, ("pending",)):
                if (other.platform, other.day) == (group.platform, group.day) and not catalogue.abandoned(other):
                    return None
            catalogue.add(connection, entry)
        return entry

    def _seal(
        self, entry: ArchivedFile, places: list[int], path: Path, progress: Progress | None
    ) -> tuple[ArchivedFile, list[Seen]]:
        from tracemill.store.cold.layout import to_table  # noqa: PLC0415 - heavy
        from tracemill.store.cold.sealed import (  # noqa: PLC0415 - heavy
            GROUP_BYTES,
            GROUP_ROWS,
            GROUP_WHOLE,
            SealWriter,
            columns_of,
            rows_of,
        )

        seen: list[Seen] = []
        summary = Summary()
        with SealWriter(path, entry.format, self._store.sealer) as writer:

            def flush(rows: list[SealedRow]) -> None:
                table = to_table(rows, self._store.sealer)
                summary.add_columns(columns_of(table))
                if entry.format == "parquet":
                    writer.write_table(table)
                else:
                    writer.write(rows)

            pending: list[SealedRow] = []
            size = whole = 0
            for start in range(0, len(places), _AT_ONCE):
                for row, observed in self._read(places[start : start + _AT_ONCE]):
                    seen.append(observed)
                    pending.append(row)
                    size += observed.size if not observed.shared else row.hot_bytes * 4
                    whole += observed.size
                    if len(pending) >= GROUP_ROWS or size >= GROUP_BYTES or whole >= GROUP_WHOLE:
                        flush(pending)
                        pending, size, whole = [], 0, 0
                _say(progress, "sealing")
            if pending:
                flush(pending)
        _say(progress, "sealed")
        sealed = summary.on(entry, path)
        if rows_of(path, entry.format) != sealed.records:
            raise ArchiveError(f"the file of object {entry.object_key} does not hold the rows written to it")
        return sealed, seen

    def _read(self, places: list[int]) -> list[tuple[SealedRow, Seen]]:
        """Rows of the database on their way, in the order of ``places``; those that are gone are left out."""
        from tracemill.store.cold.layout import SealedRow  # noqa: PLC0415 - heavy

        reader = self._store.reader
        found: dict[int, tuple[SealedRow, Seen]] = {}
        with reader.lock, reading(self._store.engine) as connection:
            reader.refresh(connection)
            rows = {row.place: row for row in connection.execute(select(records).where(records.c.place.in_(places)))}
            values = reader.names.values(connection, {n for row in rows.values() for n in named_columns(row)})
            for place in places:
                row = rows.get(place)
                if row is None:
                    continue
                encoded = reader.encoded(connection, row, values)
                plain = msgspec.msgpack.decode(encoded)
                trail = Trail.of(plain) if plain["record"] == "interaction" else None
                observed = Seen(place, row.parent, row.shared, row.raw_bytes, trail.end[1] if trail else None)
                key = reader.key_of(connection, row)
                sealed = SealedRow(place, decode(encoded), row.raw_bytes, len(row.body), row.shared, key)
                found[place] = (sealed, observed)
        return [found[place] for place in places if place in found]

    def upload(self, file: ArchivedFile, path: Path) -> None:
        """Write an object and read it back. Raises ArchiveError when what comes back is not what was written."""
        self._objects.put(file.object_key, path)
        digest, size = self._objects.digest(file.object_key)
        if (digest, size) != (file.sha256, file.stored_bytes):
            raise ArchiveError(
                f"object {file.object_key} came back with another content ({size:,} of {file.stored_bytes:,} bytes)",
                hint="Nothing left the database; look at the object storage, then run it again.",
            )

    def give_up(self, entry: ArchivedFile) -> None:
        """Take back an object that is still pending, as far as the storage answers; the next run tries again."""
        with self._store.exclusive() as connection:
            given_up = msgspec.structs.replace(entry, lease=0)
            taken = msgspec.structs.replace(given_up, status="retired")  # by an erasure
            if not catalogue.change(connection, given_up, "pending") and not _nobodys(connection, taken):
                return  # live after all, or taken away by another run
        try:
            self._objects.delete(entry.object_key)
        except ArchiveError:
            return
        with self._store.exclusive() as connection:
            catalogue.remove(connection, entry.id, "pending")
            catalogue.remove(connection, entry.id, "retired")

    def overtaken(self, error: ArchiveError, entry: ArchivedFile, files: Sequence[ArchivedFile] = ()) -> bool:
        """Whether an object is missing because somebody else (an erasure, a merge, a restore) was faster.

        So it is when the pending entry was taken away meanwhile, or one of the objects it was to replace.
        """
        if not error.missing:
            return False
        with reading(self._store.engine) as connection:
            pending = {file.id for file in catalogue.entries(connection, ("pending",))}
            live = {file.id for file in catalogue.entries(connection)}
        return entry.id not in pending or any(file.id not in live for file in files)

    # -- what others left

    def _claim(self, keys: Sequence[str]) -> None:
        """Mark the archive's place as this database's, whose catalogue alone says what there is left over.

        The name says it, not the content, which may be cut off. Raises ArchiveError when another's is there: each would
        remove the other's objects.
        """
        with self._store.exclusive() as connection:
            mine = f"{_OWNER}{catalogue.identity(connection)}"
        owners = [key for key in keys if key.startswith(_OWNER)]
        if other := [key for key in owners if key != mine]:
            raise ArchiveError(
                f"the archive at {self._objects.place} is another workspace's: it holds {other[0]}",
                hint="Give each workspace a place of its own: archive_url, with a prefix in a bucket that is shared.",
            )
        if not owners:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / new_id()
            try:
                path.write_bytes(b"\n")
                self._objects.put(mine, path)
            except OSError as error:
                raise ArchiveError(
                    f"the archive cannot be written: {error}", hint="Nothing left the database."
                ) from error
            finally:
                path.unlink(missing_ok=True)

    def clean(self) -> int:
        """Remove what was begun and abandoned, and objects whose rows are elsewhere; returns how many objects went."""
        with reading(self._store.engine) as connection:
            waiting = catalogue.entries(connection, ("pending", "retired"))
            known = {file.id for file in catalogue.entries(connection, ("pending", "live", "retired"))}
            live = {file.id for file in catalogue.entries(connection)}
        gone = 0
        for file in waiting:
            if not (file.sha256 and file.status == "retired") and not catalogue.abandoned(file):
                continue
            if file.status == "pending":
                with self._store.exclusive() as connection:  # first of all, so that its writer cannot go on
                    catalogue.remove(connection, file.id, "pending")
            self._objects.delete(file.object_key)
            with self._store.exclusive() as connection:
                catalogue.remove(connection, file.id, file.status)
            known.discard(file.id)
            gone += 1
        return gone + self._clean_unknown(known, live)

    def _clean_unknown(self, known: set[str], live: set[str]) -> int:
        """Objects and files that no entry names, of writers that went on after their lease or were killed."""
        gone = 0
        oldest = now().timestamp() - self._store.settings.archive_lease_seconds
        every = list(self._objects.list())
        self._claim([stored.key for stored in every])
        found = [stored for stored in every if _is_ours(stored.key)]
        if live - {_identity(stored.key) for stored in found}:
            # The catalogue names what is not there: perhaps the database is a restored one, and what it does not know
            # is all that is left of some rows. `tracemill archive verify` says what is missing.
            return gone
        for stored in found:
            if _identity(stored.key) not in known and stored.modified.timestamp() < oldest:
                self._objects.delete(stored.key)
                gone += 1
        paths = [*(self.folder.iterdir() if self.folder.is_dir() else ()), *self._objects.leftovers()]
        with reading(self._store.engine) as connection:  # after the listing: a file's entry is older than the file
            named = {file.id for file in catalogue.entries(connection, ("pending", "live", "retired"))}
        for path in paths:
            with suppress(FileNotFoundError):  # its writer is done with it
                if path.stat().st_mtime < oldest or (path.parent == self.folder and path.name not in named):
                    path.unlink()
        return gone


def _nobodys(connection: Connection, taken: ArchivedFile) -> bool:
    """Whether an erasure has retired an object before it was live; the entry says then that nobody writes it any more."""
    retired = {file.id: file for file in catalogue.entries(connection, ("retired",))}
    return taken.id in retired and not retired[taken.id].sha256 and catalogue.change(connection, taken, "retired")


class _Moved(Exception):  # noqa: N818 - not an error: somebody else was there first
    """What was sealed is no longer what is stored."""


class Summary:
    """What the catalogue says of the rows of an object, gathered a table at a time."""

    def __init__(self) -> None:
        self.types: dict[str, int] = {}
        self.raw_bytes = 0
        self.hot_bytes = 0
        self._times: list[int] = []
        self._places: list[int] = []
        self._ids: list[bytes] = []

    @property
    def records(self) -> int:
        """How many rows there are."""
        return sum(self.types.values())

    def add_columns(self, found: dict[str, Any]) -> None:
        """Count the rows of one table; ``found`` is what :func:`tracemill.store.cold.sealed.columns_of` says of it."""
        for tag, number in found["types"].items():
            self.types[tag] = self.types.get(tag, 0) + number
        self.raw_bytes += found["raw_bytes"]
        self.hot_bytes += found["hot_bytes"]
        self._times = _ends(self._times, found["time"])
        self._places = _ends(self._places, found["place"])
        self._ids = _ends(self._ids, found["ids"])

    def on(self, entry: ArchivedFile, path: Path) -> ArchivedFile:
        """The live entry of an object whose file lies at a path."""
        if not self.records:
            raise _Moved
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return msgspec.structs.replace(
            entry,
            status="live",
            records=self.records,
            types=dict(sorted(self.types.items())),
            raw_bytes=self.raw_bytes,
            hot_bytes=self.hot_bytes,
            stored_bytes=path.stat().st_size,
            sha256=digest,
            first_time=self._times[0],
            last_time=self._times[1],
            first_place=self._places[0],
            last_place=self._places[1],
            first_id=self._ids[0],
            last_id=self._ids[1],
            verified=microseconds(now()),
        )


def _ends(known: list[T], more: tuple[T, T]) -> list[T]:
    """The smallest and largest of what is known and two more."""
    every: list[Any] = [*known, *more]
    return [min(every), max(every)]


def pending_entry(settings: Settings, platform: str, day: int) -> ArchivedFile:
    """The entry of an object that is about to be written, under a lease that begins now."""
    identity = new_id()
    return ArchivedFile(
        id=identity,
        object_key=object_key(platform, day, identity, settings.archive_format),
        platform=platform,
        day=day,
        status="pending",
        format=settings.archive_format,
        lease=microseconds(now()) + int(settings.archive_lease_seconds * 1_000_000),
        owner=catalogue.owner(),
        storage_class=settings.s3_storage_class,
        created=microseconds(now()),
    )


def object_key(platform: str, day: int, identity: str, format: str) -> str:  # noqa: A002
    """The name of an object: its partition, as folders that engines understand, and its id."""
    return f"platform={escaped(platform) or '__none__'}/day={_iso(day)}/{identity}.{format}"


def escaped(text: str) -> str:
    """A text as one part of an object's key: what is no letter, digit, ``-`` or ``_`` as ``~`` and its hex. Injective.

    What no file system would take as a name ends, after its beginning, in ``~-`` and the SHA-256 of the text.
    """
    whole = "".join(
        letter if letter in _UNRESERVED else "".join(f"~{byte:02X}" for byte in letter.encode()) for letter in text
    )
    if len(whole) <= _LONGEST_PART:
        return whole
    return f"{whole[:_BEGINNING]}~-{hashlib.sha256(text.encode()).hexdigest()}"


def _iso(day: int) -> str:
    return from_microseconds(day * DAY).date().isoformat()


def _identity(key: str) -> str:
    return key.rsplit("/", 1)[-1].split(".", 1)[0]


def _is_ours(key: str) -> bool:
    return key.startswith("platform=") and "/day=" in key


def _say(progress: Progress | None, step: str) -> None:
    if progress is not None:
        progress(step, 0, None)
