"""The places of a workspace where a person's data may lie besides dataset versions and exports."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec
import zstandard
from sqlalchemy import Connection, delete, select

from tracemill.core.access import ApiKey
from tracemill.core.codec import marked_text, to_plain
from tracemill.core.erasure import Touched
from tracemill.core.ids import from_microseconds, microseconds, new_id, now
from tracemill.privacy.subject import Subject
from tracemill.sdk.spool import DEAD, SPOOL, scrub
from tracemill.store.base import Filter
from tracemill.store.engine import reading
from tracemill.store.hot import HotStore
from tracemill.store.names import column_text
from tracemill.store.tables import names, pending, quarantine, records

_CHUNK = 500


class Place(Protocol):
    """Somewhere that erasure has to reach."""

    name: str

    def erase(self, subject: Subject) -> Touched:
        """Remove what is theirs; safe to run again. Raises TracemillError, OSError."""

    def left(self, subject: Subject) -> int:
        """How much of theirs is still there."""


class RecordsPlace:
    """The records themselves, in the database and in the archive, with shared parts and roll-ups."""

    name = "records"

    def __init__(self, store: HotStore) -> None:
        self._store = store

    def erase(self, subject: Subject) -> Touched:
        """See :class:`Place`."""
        return Touched(place=self.name, removed={"records": self._store.erase(sorted(subject.ids))})

    def left(self, subject: Subject) -> int:
        """See :class:`Place`. Looks for ids, and for anything that names the person or conversation."""
        left = len(self._store.known(sorted(subject.ids)))
        for name in subject.pseudonyms:
            left += self._store.count(Filter(user=name, up_to=subject.watermark))
            left += self._store.count(Filter(user=name, until=from_microseconds(subject.asked)))
        if subject.kind == "conversation":
            return left + sum(self._store.count(Filter(conversation_id=name)) for name in subject.conversations)
        for name in sorted(subject.conversations):  # others may have joined them meanwhile
            left += sum(subject.owns(to_plain(record)) for record in self._store.scan(Filter(conversation_id=name)))
        return left


class KeysPlace:
    """The keys that people's content is sealed with: destroying one also kills what backups hold of it."""

    name = "keys"

    def __init__(self, store: HotStore) -> None:
        self._store = store

    def erase(self, subject: Subject) -> Touched:
        """See :class:`Place`. Somebody who is back as a user keeps their key: what is new is sealed with it."""
        if not subject.pseudonyms or not self._store.sealer.has_keys(subject.pseudonyms):
            return Touched(place=self.name)
        back = self._back(subject)
        with self._store.exclusive() as connection:  # nobody is between looking a key up and storing what it seals
            if back or _named(connection, subject):
                return Touched(place=self.name, notes=["the key was kept: there are newer records of the same person"])
            return Touched(place=self.name, removed=_counts(keys=self._store.sealer.destroy(subject.pseudonyms)))

    def left(self, subject: Subject) -> int:
        """See :class:`Place`."""
        return 0 if self._back(subject) else self._store.sealer.has_keys(subject.pseudonyms)

    def _back(self, subject: Subject) -> bool:
        return any(self._store.count(Filter(user=name)) for name in subject.pseudonyms)


def _named(connection: Connection, subject: Subject) -> bool:
    """Whether a row of the database names the person, as of this transaction."""
    numbers = select(names.c.id).where(
        names.c.value.in_([column_text(marked_text(name)) for name in subject.pseudonyms])
    )
    found = select(records.c.place).where(records.c.person.in_(numbers)).limit(1)
    return connection.execute(found).first() is not None


class ApiKeysPlace:
    """The API keys that are bound to the person: they are revoked, and forget whose they were."""

    name = "api keys"

    def __init__(self, store: HotStore) -> None:
        self._store = store

    def erase(self, subject: Subject) -> Touched:
        """See :class:`Place`."""
        bound = self._bound(subject)
        for key in bound:
            self._store.put_api_key(msgspec.structs.replace(key, user=None, revoked=key.revoked or now()))
        return Touched(place=self.name, removed=_counts(revoked=len(bound)))

    def left(self, subject: Subject) -> int:
        """See :class:`Place`."""
        return len(self._bound(subject))

    def _bound(self, subject: Subject) -> list[ApiKey]:
        """Theirs as of the request: who is back as a user may have been given a new one."""
        keys = self._store.api_keys() if subject.pseudonyms else []
        known = [key for key in keys if microseconds(key.created) <= subject.asked]
        return [key for key in known if key.user is not None and key.user.pseudonym in subject.pseudonyms]


class RefusedPlace:
    """The quarantine, and parts of records that wait for others."""

    name = "quarantine and waiting parts"

    def __init__(self, store: HotStore) -> None:
        self._store = store

    def erase(self, subject: Subject) -> Touched:
        """See :class:`Place`."""
        refused, waiting = self._found(subject)
        with self._store.exclusive() as connection:
            for start in range(0, len(refused), _CHUNK):
                connection.execute(delete(quarantine).where(quarantine.c.id.in_(refused[start : start + _CHUNK])))
            for source, key, part in waiting:
                named = (pending.c.source == source) & (pending.c.key == key) & (pending.c.part == part)
                connection.execute(delete(pending).where(named))
        return Touched(place=self.name, removed=_counts(quarantined=len(refused), waiting=len(waiting)))

    def left(self, subject: Subject) -> int:
        """See :class:`Place`."""
        refused, waiting = self._found(subject)
        return len(refused) + len(waiting)

    def _found(self, subject: Subject) -> tuple[list[int], list[tuple[str, str, str]]]:
        unpack, take_off = zstandard.ZstdDecompressor().decompress, self._store.gateway.veil.take_off
        with reading(self._store.engine) as connection:
            refused = [
                row.id
                for row in connection.execute(select(quarantine))
                if subject.named_in((row.record or "").encode()) or _theirs(subject, take_off(unpack(bytes(row.raw))))
            ]
            waiting = [
                (row.source, row.key, row.part)
                for row in connection.execute(select(pending))
                if _theirs(subject, take_off(bytes(row.body)))
            ]
        return refused, waiting


def _theirs(subject: Subject, data: bytes) -> bool:
    return subject.owns_encoded(data) or subject.named_in(data) or _file_of(subject, data)


def _file_of(subject: Subject, data: bytes) -> bool:
    """Whether some bytes are a JSON file that was refused, and states that it is theirs."""
    try:
        return subject.owns_file(msgspec.json.decode(data))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False


class SpoolPlace:
    """What the SDK of processes on this machine has spooled, dead letters included."""

    name = "spool and dead letters"

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace

    def erase(self, subject: Subject) -> Touched:
        """See :class:`Place`. What a living process has yet to deliver is refused when it arrives."""
        found = scrub(self._workspace, subject.owns_encoded)
        letters = self._letters(subject)
        for path in letters:
            path.unlink(missing_ok=True)
        notes = [f"{found.waiting} in the spool of a living process: refused on delivery"] if found.waiting else []
        removed = _counts(frames=found.overwritten, dead_letters=len(letters))
        return Touched(place=self.name, removed=removed, notes=notes)

    def left(self, subject: Subject) -> int:
        """See :class:`Place`."""
        found = scrub(self._workspace, subject.owns_encoded, look_only=True)
        return found.overwritten + found.waiting + len(self._letters(subject))

    def _letters(self, subject: Subject) -> list[Path]:
        found = []
        folder = self._workspace / SPOOL / DEAD
        for path in folder.iterdir() if folder.is_dir() else ():
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            if path.suffix == ".json":
                with suppress(ValueError, KeyError, TypeError):  # no letter of ours: looked at as it is
                    data = base64.b64decode(json.loads(data)["record"])
            if _theirs(subject, data):
                found.append(path)
        return found


class FilesPlace:
    """JSON files of one record each (Lightspeed's, Gepeto's), and JSON lines (what imports rejected), under one root.

    ``take_off`` opens what rejected lines hold veiled.
    """

    def __init__(self, name: str, root: Path, take_off: Callable[[bytes], bytes] = bytes) -> None:
        self.name = name
        self._root = root
        self._take_off = take_off

    def erase(self, subject: Subject) -> Touched:
        """See :class:`Place`. Folders that end up empty go too."""
        files = lines = 0
        for path in self._files():
            if path.suffix == ".jsonl":
                lines += self._drop_lines(path, subject)
            elif self._is_theirs(path, subject):
                path.unlink(missing_ok=True)
                self._drop_empty(path.parent)
                files += 1
        return Touched(place=self.name, removed=_counts(files=files, lines=lines))

    def left(self, subject: Subject) -> int:
        """See :class:`Place`."""
        left = 0
        for path in self._files():
            if path.suffix == ".jsonl":
                left += sum(1 for line in _lines(path) if _line_is_theirs(line, subject, self._take_off))
            else:
                left += self._is_theirs(path, subject)
        return left

    def _files(self) -> Iterator[Path]:
        for folder, _, found in os.walk(self._root):  # follows no links
            for name in found:
                path = Path(folder) / name
                if not path.is_symlink() and (path.suffix in (".json", ".jsonl") or name.startswith(".")):
                    yield path

    def _is_theirs(self, path: Path, subject: Subject) -> bool:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return False
        try:
            plain = msgspec.json.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return subject.named_in(data)  # a draft that a kill left
        return subject.owns_file(plain) or subject.owns(plain) or _id_in(plain, subject)

    def _drop_lines(self, path: Path, subject: Subject) -> int:
        kept, gone = [], 0
        for line in _lines(path):
            if _line_is_theirs(line, subject, self._take_off):
                gone += 1
            else:
                kept.append(line)
        if gone:
            draft = path.with_name(f".{new_id()}.tmp")
            with draft.open("wb") as file:
                file.writelines(kept)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        return gone

    def _drop_empty(self, folder: Path) -> None:
        while folder != self._root and folder.is_relative_to(self._root):
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []


def _line_is_theirs(line: bytes, subject: Subject, take_off: Callable[[bytes], bytes]) -> bool:
    """Whether a line of a file of rejected entries is theirs: its ``raw`` is, or names them."""
    try:
        entry = msgspec.json.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return subject.named_in(line)
    raw = b""
    if isinstance(entry, dict):
        if isinstance(entry.get("raw"), str):
            raw = entry["raw"].encode("utf-8", "surrogatepass")
        elif isinstance(entry.get("raw_base64"), str):
            raw = take_off(base64.b64decode(entry["raw_base64"]))
    return subject.named_in(line) or _theirs(subject, raw)


def _id_in(plain: Any, subject: Subject) -> bool:
    """Whether a record id of theirs stands anywhere in some JSON."""
    return bool(subject.ids) and subject.named_in(msgspec.json.encode(plain))


class WorkPlace:
    """What work under way or cut off has written beside the workspace's data."""

    name = "work files"

    def __init__(self, folders: Callable[[], Sequence[Path]]) -> None:
        self._folders = folders

    def erase(self, subject: Subject) -> Touched:
        """See :class:`Place`. Such files can be made again, so all of them go."""
        del subject
        folders = list(self._folders())
        for path in folders:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return Touched(place=self.name, removed=_counts(paths=len(folders)))

    def left(self, subject: Subject) -> int:
        """See :class:`Place`."""
        del subject
        return len(list(self._folders()))


def _counts(**given: int) -> dict[str, int]:
    return {name: number for name, number in given.items() if number}
