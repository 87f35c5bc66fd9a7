"""Reading the archive: which rows pass a filter, in the order of storing, and the records at them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tracemill.core.archive import ArchivedFile
from tracemill.core.codec import marked_text
from tracemill.core.ids import id_bytes, id_text, microseconds
from tracemill.core.records import AnyRecord
from tracemill.store.base import Filter
from tracemill.store.cold.layout import GROUP_TEXTS
from tracemill.store.cold.objects import Objects
from tracemill.store.cold.sealed import Cache, Sealed
from tracemill.store.names import column_text
from tracemill.store.rows import TYPE_CODES
from tracemill.store.sealing import Sealer
from tracemill.store.search import Needle

_SPECIAL = ("σ", "ς", "i\u0307")
"""What Python makes of letters by their neighbours (Σ) or as two (İ), and Arrow one by one."""
_PARENT = re.compile(r'"parent_id":"([0-9a-f-]{36})"')
_NIL = bytes(16)
"""How a column of ids says that there is none."""
_WINDOW = 2_000_000
"""Places looked at in one go: bounds the memory of a scan over an archive of any size."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A row of the archive: its place in the order of storing, its object, and where in it."""

    place: int
    file: ArchivedFile
    position: int


class ColdStore:
    """The live objects of one version of the catalogue. Safe for use by several threads, one at a time."""

    def __init__(self, objects: Objects, cache_bytes: int, sealer: Sealer) -> None:
        self.objects = objects
        self._sealer = sealer
        self.files: tuple[ArchivedFile, ...] = ()
        self.version = -1
        self._cache = Cache(cache_bytes)
        self._lock = threading.RLock()

    def load(self, files: Sequence[ArchivedFile], version: int) -> None:
        """Know these objects and no others."""
        with self._lock:
            for gone in {file.id for file in self.files} - {file.id for file in files}:
                self._cache.forget(gone)
            self.files, self.version = tuple(files), version

    def sealed(self, file: ArchivedFile) -> Sealed:
        """A reader of one object."""
        return Sealed(self.objects, file, self._cache, self._sealer)

    # -- by filter

    def hits(self, where: Filter, limit: int, own: frozenset[bytes] = frozenset()) -> list[Hit]:
        """The first rows that pass a filter, in the order of storing. ``own`` are ids of the interactions of ``visible_to``."""
        found: list[Hit] = []
        with self._lock:
            files = [file for file in self.files if _may_hold(file, where)]
            start = where.after + 1
            while len(found) < limit and (files := [file for file in files if file.last_place >= start]):
                start = max(start, min(file.first_place for file in files))
                found += self._window(files, where, start, start + _WINDOW, limit - len(found), own)
                start += _WINDOW
        return found

    def _window(
        self, files: list[ArchivedFile], where: Filter, start: int, end: int, limit: int, own: frozenset[bytes]
    ) -> list[Hit]:
        places: list[Any] = []
        numbers: list[Any] = []
        positions: list[Any] = []
        for number, file in enumerate(files):
            if file.first_place >= end or file.last_place < start:
                continue
            sealed = self.sealed(file)
            place = sealed.column("place")
            at = np.flatnonzero(_mask(sealed, where, own) & (place >= start) & (place < end))
            if len(at) > limit:
                at = at[np.argpartition(place[at], limit)[:limit]]
            places.append(place[at])
            numbers.append(np.full(len(at), number))
            positions.append(at)
        if not places:
            return []
        every, which, where_in = np.concatenate(places), np.concatenate(numbers), np.concatenate(positions)
        order = np.argsort(every, kind="stable")[:limit]
        return [Hit(int(every[i]), files[int(which[i])], int(where_in[i])) for i in order]

    def count(self, where: Filter, own: frozenset[bytes] = frozenset()) -> int:
        """How many rows pass a filter; by the catalogue alone where it tells."""
        total = 0
        with self._lock:
            for file in self.files:
                if not _may_hold(file, where):
                    continue
                if _decided(file, where):
                    total += sum(file.types.get(tag, 0) for tag in set(where.types)) if where.types else file.records
                    continue
                sealed = self.sealed(file)
                total += int(np.count_nonzero(_mask(sealed, where, own) & (sealed.column("place") > where.after)))
        return total

    def interactions_of(self, pseudonym: str) -> frozenset[bytes]:
        """The ids, as 16 bytes, of what a person did."""
        where = Filter(types=("interaction",), user=pseudonym)
        found: set[bytes] = set()
        with self._lock:
            for file in self.files:
                sealed = self.sealed(file)
                found.update(_padded(value) for value in sealed.column("id")[_mask(sealed, where, frozenset())])
        return frozenset(found)

    def search(self, needle: Needle, where: Filter, own: frozenset[bytes] = frozenset()) -> Iterator[Hit]:
        """Rows that pass a filter and may hold a text, object by object in the order of their first records."""
        with self._lock:
            files = [file for file in self.files if _may_hold(file, where)]
        for file in files:
            with self._lock:
                sealed = self.sealed(file)
                mask = _mask(sealed, where, own) & (sealed.column("place") > where.after)
                bounds = sealed.bounds()
            for number in range(len(bounds) - 1):
                passing = mask[bounds[number] : bounds[number + 1]]
                if not passing.any():
                    continue
                with self._lock:
                    held = _holding(sealed.group(number, GROUP_TEXTS), needle) & passing
                    places = sealed.column("place")
                for position in np.flatnonzero(held) + bounds[number]:
                    yield Hit(int(places[position]), file, int(position))

    # -- by id

    def find(self, ids: Iterable[bytes], files: Sequence[ArchivedFile] | None = None) -> dict[bytes, Hit]:
        """Those of the ids (16 bytes each) that the archive holds; or that some objects do."""
        wanted = sorted(set(ids))
        found: dict[bytes, Hit] = {}
        with self._lock:
            for file in self.files if files is None else files:
                near = [identity for identity in wanted if file.first_id <= identity <= file.last_id]
                if not near:
                    continue
                known, order = self.sealed(file).lookup()
                asked = np.array(near, dtype="S16")
                at: Any = np.minimum(np.searchsorted(known, asked), len(known) - 1)
                for number in np.flatnonzero(known[at] == asked):
                    position = int(order[at[number]])
                    place = int(self.sealed(file).column("place")[position])
                    found[near[int(number)]] = Hit(place, file, position)
        return found

    def parents(self) -> Iterator[tuple[str, str]]:
        """Parent and id of every interaction that says who called it."""
        with self._lock:
            for file in self.files:
                sealed = self.sealed(file)
                bounds = sealed.bounds()
                for number in range(len(bounds) - 1):
                    rest = sealed.group(number, ("rest",)).column("rest").combine_chunks()
                    named = _texts_matching(rest, '"parent_id":"')
                    for at in np.flatnonzero(named):
                        match = _PARENT.search(rest[int(at)].as_py())
                        if match is not None:
                            yield match[1], id_text(_padded(sealed.column("id")[int(at) + int(bounds[number])]))

    # -- records

    def records(self, hits: Sequence[Hit]) -> list[AnyRecord]:
        """The records of some rows, in their order."""
        by_file: dict[str, list[Hit]] = {}
        for hit in hits:
            by_file.setdefault(hit.file.id, []).append(hit)
        found: dict[int, AnyRecord] = {}
        with self._lock:
            for own in by_file.values():
                rows = self.sealed(own[0].file).rows([hit.position for hit in own])
                found.update((row.place, row.record) for row in rows)
        return [found[hit.place] for hit in hits]

    def linked_to(self, ids: frozenset[bytes]) -> Iterator[bytes]:
        """The ids of records that name one of these interactions, as 16 bytes."""
        wanted = np.array(sorted(ids - {_NIL}), dtype="S16")
        with self._lock:
            for file in self.files:
                sealed = self.sealed(file)
                at = np.isin(sealed.column("interaction_id"), wanted)
                yield from (_padded(value) for value in sealed.column("id")[at])


def _padded(value: bytes) -> bytes:
    """16 bytes: NumPy leaves trailing zeros out."""
    return bytes(value).ljust(16, b"\x00")


def _may_hold(file: ArchivedFile, where: Filter) -> bool:
    """Whether the catalogue leaves open that an object holds what passes a filter."""
    if where.platforms and file.platform not in [column_text(marked_text(name)) for name in where.platforms]:
        return False
    if where.types and not any(file.types.get(tag) for tag in where.types):
        return False
    if where.since is not None and file.last_time < microseconds(where.since):
        return False
    if where.until is not None and file.first_time >= microseconds(where.until):
        return False
    return file.last_place > where.after and (where.up_to is None or file.first_place <= where.up_to)


def _decided(file: ArchivedFile, where: Filter) -> bool:
    """Whether every row of a fitting type passes, as far as the catalogue tells."""
    narrow = (where.conversation_id, where.session_id, where.user, where.interaction_id, where.model, where.success)
    return (
        all(value is None for value in (*narrow, where.visible_to))
        and not where.unlinked
        and not (where.platforms and not file.platform)
        and (where.since is None or microseconds(where.since) <= file.first_time)
        and (where.until is None or file.last_time < microseconds(where.until))
        and where.after < file.first_place
        and (where.up_to is None or file.last_place <= where.up_to)
    )


def _mask(sealed: Sealed, where: Filter, own: frozenset[bytes]) -> Any:
    """Which rows of an object pass a filter, ``after`` apart. Columns are read only where the catalogue does not decide."""
    file = sealed.file
    mask = np.ones(file.records, dtype=bool)
    if where.types and not all(tag in where.types for tag in file.types):
        mask &= np.isin(sealed.column("record"), [TYPE_CODES[tag] for tag in where.types if tag in TYPE_CODES])
    if where.platforms and not file.platform:
        mask &= _equals(sealed, "platform", "")  # some of these rows name none
    texts = {
        "conversation_id": where.conversation_id,
        "session_id": where.session_id,
        "user": where.user,
        "model": where.model,
    }
    for name, value in texts.items():
        if value is not None:
            mask &= _equals(sealed, name, value)
    if where.unlinked:
        mask &= sealed.column("interaction_id") == b""
    if where.success is not None:
        mask &= sealed.column("success") == int(where.success)
    if where.interaction_id is not None:
        linked = id_bytes(where.interaction_id)
        mask &= (sealed.column("interaction_id") == np.bytes_(linked)) & (linked != _NIL)
    if where.since is not None and microseconds(where.since) > file.first_time:
        mask &= sealed.column("time") >= microseconds(where.since)
    if where.until is not None and microseconds(where.until) <= file.last_time:
        mask &= sealed.column("time") < microseconds(where.until)
    if where.up_to is not None and where.up_to < file.last_place:
        mask &= sealed.column("place") <= where.up_to
    if where.visible_to is not None:
        theirs = np.isin(sealed.column("interaction_id"), np.array(sorted(own), dtype="S16")) if own else False
        mask &= _equals(sealed, "user", where.visible_to) | theirs
    return mask


def _holding(table: pa.Table, needle: Needle) -> Any:
    """Which rows of a row group may hold a text: looked for once in each distinct text, by the columns' dictionaries."""
    held = np.zeros(table.num_rows, dtype=bool)
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if name in ("exact", "sealed"):
            held |= column.is_valid().to_numpy(zero_copy_only=False)  # to be read whole, and looked at then
            continue
        rows = None
        if pa.types.is_list(column.type):
            rows = np.repeat(np.arange(len(column)), column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
            column = column.flatten()
        fields = column.type if pa.types.is_struct(column.type) else None
        parts = [column] if fields is None else [column.field(field.name) for field in fields if field.name != "keys"]
        for part in parts:
            at = np.flatnonzero(_texts_with(part, needle))
            held[at if rows is None else rows[at]] = True
    return held


def _texts_matching(column: Any, text: str) -> Any:
    """Which rows of a column hold a text exactly as it stands."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    hits = np.zeros(len(encoded.dictionary) + 1, dtype=bool)
    hits[:-1] = pc.match_substring(encoded.dictionary, text).to_numpy(zero_copy_only=False)
    return hits[encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)]


def _texts_with(column: Any, needle: Needle) -> Any:
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    lowered = pc.utf8_lower(encoded.dictionary)
    if any(letter in form for form in needle.in_json for letter in _SPECIAL):
        lowered = pa.array([text.lower() for text in encoded.dictionary.to_pylist()], pa.string())
    hits = np.zeros(len(lowered) + 1, dtype=bool)  # the last stands for a row without a text
    for form in needle.in_json:
        hits[:-1] |= pc.match_substring(lowered, form).to_numpy(zero_copy_only=False)
    return hits[encoded.indices.fill_null(len(lowered)).to_numpy(zero_copy_only=False)]


def _equals(sealed: Sealed, name: str, value: str) -> Any:
    codes, names = sealed.texts(name)
    code = names.get(column_text(marked_text(value)))
    return codes == code if code is not None else np.zeros(len(codes), dtype=bool)
