"""Objects of the archive made anew: small ones merged, erased rows left out, rows brought back into the database.

An object is never changed. A new one is written and read back; then one transaction makes it live and retires those it
replaces, if they are all live still; then the old ones are deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from tracemill.core.archive import ArchivedFile
from tracemill.core.codec import encode
from tracemill.core.errors import ArchiveError
from tracemill.core.ids import microseconds, now
from tracemill.core.steps import Progress
from tracemill.store.archived import ArchivedStore
from tracemill.store.archiving import Archiver, Summary, pending_entry
from tracemill.store.cold import catalogue
from tracemill.store.cold.layout import SealedRow, from_table
from tracemill.store.cold.sealed import GROUP_ROWS, GROUP_WHOLE, SealWriter, columns_of
from tracemill.store.names import CHUNK
from tracemill.store.rollups import Rollup
from tracemill.store.rows import names_of
from tracemill.store.sealing import Sealer
from tracemill.store.writer import Returning

_PIECE_BYTES = 32 * 1024 * 1024
_SMALL = 0.5
"""An object of less than this share of the wanted size is merged with its neighbours."""


def merge_small(store: ArchivedStore, archiver: Archiver, progress: Progress | None = None) -> int:
    """Merge the small objects of each partition; returns how many objects became part of a larger one."""
    wanted = store.settings.archive_file_bytes
    merged = 0
    for files in _runs(store.archived_files(), wanted):
        if len(files) > 1 and reseal(store, archiver, files, frozenset()):
            merged += len(files)
        if progress is not None:
            progress("merging", merged, None)
    return merged


def _runs(files: Sequence[ArchivedFile], wanted: int) -> Iterator[list[ArchivedFile]]:
    """Neighbours of a partition that together are no larger than wanted."""
    ordered = sorted(files, key=lambda file: (file.platform, file.day, file.first_place))
    for _, partition in groupby(ordered, key=lambda file: (file.platform, file.day)):
        run: list[ArchivedFile] = []
        for file in partition:
            if file.stored_bytes >= wanted * _SMALL:
                continue
            if sum(other.stored_bytes for other in run) + file.stored_bytes > wanted:
                yield run
                run = []
            run.append(file)
        yield run


def reseal(store: ArchivedStore, archiver: Archiver, files: Sequence[ArchivedFile], gone: frozenset[bytes]) -> bool:
    """Put one new object in the place of some of one partition, without the rows of some ids (16 bytes each).

    Nothing is written where no row is left; the roll-ups lose what went. False when somebody else changed one of the
    objects meanwhile. Raises ArchiveError; the old objects are as they were then.
    """
    entry = pending_entry(store.settings, files[0].platform, files[0].day)
    with store.exclusive() as connection:
        catalogue.add(connection, entry)
    path = archiver.folder / entry.id
    committed = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        rollup = Rollup(sign=-1)
        sealed = _write(store, entry, files, gone, path, rollup)
        if sealed is not None:
            archiver.upload(sealed, path)
        with store.exclusive() as connection:
            committed = catalogue.retire(connection, files)
            if committed and sealed is not None:
                committed = catalogue.change(connection, sealed, "pending")
            elif committed:
                catalogue.remove(connection, entry.id, "pending")
            if committed:
                rollup.store(connection, store.reader.names.numbers(connection, rollup.texts(), create=True))
            else:
                connection.rollback()
    except ArchiveError as error:
        if not archiver.overtaken(error, entry, files):
            raise
    except OSError as error:
        raise ArchiveError(f"the archive cannot be written: {error}", hint="Nothing was changed.") from error
    finally:
        path.unlink(missing_ok=True)
        if not committed:
            archiver.give_up(entry)
    if committed:
        drop_retired(store, files)
    return committed


def drop_retired(store: ArchivedStore, files: Sequence[ArchivedFile]) -> None:
    """Delete objects that were retired, and then their entries; a kill in between leaves them to the next run."""
    for file in files:
        store.objects.delete(file.object_key)
        with store.exclusive() as connection:
            catalogue.remove(connection, file.id, "retired")


def _write(
    store: ArchivedStore,
    entry: ArchivedFile,
    files: Sequence[ArchivedFile],
    gone: frozenset[bytes],
    path: Path,
    rollup: Rollup,
) -> ArchivedFile | None:
    """The new object's file, and its entry; ``rollup`` takes what is left out of it."""
    summary = Summary()
    with SealWriter(path, entry.format, store.sealer) as writer:
        pending: list[pa.Table] = []
        for table in _tables(store, files):
            kept = _without(table, gone, rollup, store.sealer)
            if kept.num_rows == 0:
                continue
            together = (*pending, kept)
            if pending and (
                sum(part.num_rows for part in together) > GROUP_ROWS
                or sum(part.nbytes for part in together) > GROUP_WHOLE
            ):
                _flush(writer, pending, summary, store.sealer)
                pending = []
            pending.append(kept)
        if pending:
            _flush(writer, pending, summary, store.sealer)
    return summary.on(entry, path) if summary.records else None


def _flush(writer: SealWriter, tables: list[pa.Table], summary: Summary, sealer: Sealer) -> None:
    whole = pa.concat_tables(tables)
    summary.add_columns(columns_of(whole))
    if writer.format == "parquet":
        writer.write_table(whole)
    else:
        writer.write(list(from_table(whole, sealer)))


def _without(table: pa.Table, gone: frozenset[bytes], rollup: Rollup, sealer: Sealer) -> pa.Table:
    """The rows of a table whose ids are not among those; the others are taken out of the roll-up."""
    if not gone:
        return table
    wanted = pa.array(sorted(gone), pa.binary(16))
    hit = pc.is_in(table.column("id").combine_chunks().storage, value_set=wanted)
    if not pc.any(hit).as_py():
        return table
    for row in from_table(table.filter(hit), sealer):
        plain = msgspec.msgpack.decode(encode(row.record))
        platform = names_of(plain).get("platform", "")
        own = plain.get("messages", [])[row.shared or 0 :]
        rollup.add(plain, own, platform, microseconds(row.record.time), row.raw_bytes, row.hot_bytes)
    return table.filter(pc.invert(hit))


def _tables(store: ArchivedStore, files: Sequence[ArchivedFile]) -> Iterator[pa.Table]:
    for file in sorted(files, key=lambda file: file.first_place):
        yield from store.cold.sealed(file).tables()


def verify_objects(store: ArchivedStore, progress: Progress | None = None) -> list[str]:
    """What is wrong with the archive: missing, changed and swapped objects, rows that are no records. One sentence each."""
    problems: list[str] = []
    files = store.archived_files()
    for number, file in enumerate(files):
        try:
            problems += _verify_one(store, file)
        except ArchiveError as error:
            problems.append(error.message)
        if progress is not None:
            progress("verifying", number + 1, len(files))
    return problems


def _verify_one(store: ArchivedStore, file: ArchivedFile) -> list[str]:
    digest, size = store.objects.digest(file.object_key)
    if (digest, size) != (file.sha256, file.stored_bytes):
        stated = f"the catalogue says {file.stored_bytes:,} bytes with {file.sha256[:16]}…"
        return [f"object {file.object_key} has {size:,} bytes with SHA-256 {digest[:16]}…, {stated}"]
    summary = Summary()
    for table in store.cold.sealed(file).tables():
        summary.add_columns(columns_of(table))
        for start in range(0, table.num_rows, CHUNK):
            for _ in from_table(table.slice(start, CHUNK), store.sealer):
                pass  # raises where a row is no record
    if (summary.records, summary.types) != (file.records, file.types):
        return [f"object {file.object_key} holds {summary.records:,} records, the catalogue says {file.records:,}"]
    return []


def mark_verified(store: ArchivedStore, files: Sequence[ArchivedFile]) -> None:
    """Note in the catalogue that objects were read whole just now."""
    with store.exclusive() as connection:
        for file in files:
            catalogue.change(connection, msgspec.structs.replace(file, verified=microseconds(now())), "live")


def erase_archived(store: ArchivedStore, archiver: Archiver, ids: Sequence[bytes]) -> bool:
    """Leave the rows of some ids out of every object that holds any. False when it has to be tried again."""
    by_file: dict[str, list[ArchivedFile]] = {}
    for hit in store.cold.find(ids).values():
        by_file.setdefault(hit.file.id, [hit.file])
    gone = frozenset(ids)
    return all([reseal(store, archiver, files, gone) for files in by_file.values()])  # noqa: C419 - each is tried


def restore(store: ArchivedStore, file: ArchivedFile) -> int:
    """Bring the rows of an object back into the database, at their old places; returns how many. Raises StoreError.

    One transaction, a piece at a time: until it ends they are in the archive, from then on they are not.
    """
    brought = 0
    with store.exclusive() as connection:
        if not catalogue.retire(connection, [file]):
            raise ArchiveError(f"object {file.object_key} was changed meanwhile", hint="Run it again.")
        for rows in _pieces(store.cold.sealed(file).all_rows()):
            store.bring_back(
                connection, [Returning(row.place, row.record, row.shared, row.hot_bytes, row.key) for row in rows]
            )
            brought += len(rows)
    drop_retired(store, [file])
    return brought


def _pieces(rows: Iterator[SealedRow]) -> Iterator[list[SealedRow]]:
    """Lists of neighbours that are read at once without harm: histories are whole in each row."""
    piece: list[SealedRow] = []
    size = 0
    for row in rows:
        piece.append(row)
        size += row.raw_bytes
        if len(piece) == CHUNK or size >= _PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
