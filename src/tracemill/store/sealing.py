"""Content sealed with a key of the person it belongs to, so that destroying the key also kills every backup of it.

AES-256-GCM (NIST SP 800-38D). Each person has a key of their own, wrapped by the master key; both lie apart from the data
(``subject_keys``, ``master_key``). What is sealed is everything of a record that is not a number, a name or a link; it is
bound to the record's id, so that it opens nowhere else. Sealed content shares nothing with other records: no
chains, no parts, no dictionary.

A sealed value is ``version 1 | form 1 | key 16 | nonce 12 | ciphertext``, numbers in bytes. Form 0 holds the fields that
were taken out, form 1 the whole record. Additional data: the version, the form, the record's id and the key's.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import zstandard

from tracemill.core.errors import SettingError, StoreError
from tracemill.core.ids import id_bytes, microseconds, now
from tracemill.core.keyfile import create_secret
from tracemill.core.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SEALED = "$sealed"
"""The field that stands for what was taken out. No record has one of this name: unknown fields go to ``extra``."""
DESTROYED = "$destroyed"
"""The key in ``extra`` of a record whose content is gone with its person's key."""
_CLEAR = frozenset(
    (
        *("record", "id", "time", "schema_version", "producer", "sequence", "platform", "session_id"),
        *("conversation_id", "interaction_id", "parent_id", "step_id", "trace_id", "turn", "index", "user", "model"),
        *("success", "kind", "annotator_kind", "rating", "score", "passed", "confidence", "finish_reason"),
        *("input_tokens", "output_tokens", "cost_usd", "duration_ms"),
    )
)
_VERSION, _FIELDS, _WHOLE = 1, 0, 1
_HEAD, _NONCE, _KEY = 18, 12, 32
_MOST_OPEN = 4096
_MOST_BYTES = 512 * 1024 * 1024
_TABLE = """CREATE TABLE IF NOT EXISTS subject_keys (
    id BLOB PRIMARY KEY, subject BLOB NOT NULL UNIQUE, wrapped BLOB NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID"""


@dataclass(frozen=True, slots=True)
class Sealing:
    """A record to seal, as plain values: whose it is, or the id of the key it was sealed with before."""

    plain: dict[str, Any]
    person: str | None = None
    key: bytes | None = None


def key_of(blob: bytes) -> bytes:
    """The id of the key a value is sealed with."""
    return blob[2:_HEAD]


def person_of(plain: dict[str, Any]) -> str | None:
    """The pseudonym a record names."""
    user = plain.get("user")
    return user["pseudonym"] if isinstance(user, dict) else None


class Sealer:
    """Seals and opens content under the keys of one workspace. Safe for use by several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.on = settings.subject_encryption
        self._folder = Path(settings.workspace) / "keys"
        self._path = Path(settings.subject_keys) if settings.subject_keys else self._folder / "subjects.db"
        self._made = self._folder / "subjects.made"  # says that there is a file of keys to be found
        self._lock = threading.Lock()
        self._known: dict[bytes, bytes] = {}
        self._wrapping: AESGCM | None = None
        if self.on and settings.keep_raw_user_ids:
            raise SettingError("subject_encryption and keep_raw_user_ids exclude each other", hint="Switch one off.")
        if self.on and settings.archive_format != "parquet":
            raise SettingError("subject_encryption needs archive_format parquet", hint="JSON lines cannot hold it.")

    # -- content

    def seal(self, items: Sequence[Sealing]) -> list[dict[str, Any]]:
        """Records as plain values, with the content of those that belong to a person sealed.

        While it is switched off only what was sealed already is sealed again, under the same key.
        """
        people = {item.person for item in items if self.on and item.person is not None and item.key is None}
        keys = self._for_sealing(people)
        return [self._sealed(item, keys) for item in items]

    def _sealed(self, item: Sealing, keys: dict[str, tuple[bytes, bytes]]) -> dict[str, Any]:
        plain = item.plain
        content = {name: value for name, value in plain.items() if name not in _CLEAR}
        key = self._key_of(item, keys)
        if key is None or not content:
            return plain
        kept = {name: value for name, value in plain.items() if name in _CLEAR}
        blob = _lock_up(key, id_bytes(plain["id"]), _FIELDS, msgspec.msgpack.encode(content))
        return {**kept, SEALED: blob}

    def _key_of(self, item: Sealing, keys: dict[str, tuple[bytes, bytes]]) -> tuple[bytes, bytes] | None:
        if item.key is not None:
            secret = self._for_opening(item.key)
            return None if secret is None else (item.key, secret)
        return keys.get(item.person) if item.person is not None else None

    def seal_whole(self, blob: bytes, identity: str, encoded: bytes) -> bytes:
        """A record's encoded bytes under the key of another sealed value of it: for what columns cannot say exactly."""
        key_id = key_of(blob)
        secret = self._for_opening(key_id)
        assert secret is not None  # it has just sealed that value
        return _lock_up((key_id, secret), id_bytes(identity), _WHOLE, encoded)

    def open(self, identity: bytes, blob: bytes) -> dict[str, Any] | bytes:
        """The fields that were taken out of a record (16 bytes of id), or the whole record, encoded.

        Where its key was destroyed, an ``extra`` that says so. Raises StoreError when it is damaged or another record's.
        """
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - only where something is sealed

        version, form, key_id = blob[0], blob[1], key_of(blob)
        if version != _VERSION:
            raise StoreError("a record is sealed in a form this tracemill does not know", hint="Upgrade tracemill.")
        key = self._for_opening(key_id)
        if key is None:
            return {"extra": {DESTROYED: "the key of this person was destroyed"}}
        nonce, locked = blob[_HEAD : _HEAD + _NONCE], blob[_HEAD + _NONCE :]
        try:
            packed = _cipher(key).decrypt(nonce, locked, _bound(form, identity, key_id))
            content = zstandard.ZstdDecompressor().decompress(packed, max_output_size=_MOST_BYTES)
        except (InvalidTag, zstandard.ZstdError) as error:
            raise StoreError(
                f"the sealed content of record {identity.hex()} is damaged, or is another record's",
                hint="Restore it from a backup.",
            ) from error
        if form == _WHOLE:
            return content
        fields: dict[str, Any] = msgspec.msgpack.decode(content)
        return fields

    # -- keys

    def destroy(self, people: Iterable[str]) -> int:
        """Destroy the keys of some pseudonyms, and overwrite their room; how many there were. Raises StoreError."""
        subjects = [_digest(person) for person in people]
        if not subjects or not self._there():
            return 0
        gone = 0
        with self._connected() as connection:
            for subject in subjects:
                gone += connection.execute("DELETE FROM subject_keys WHERE subject = ?", (subject,)).rowcount
        with self._lock:
            self._known.clear()
        return gone

    def has_keys(self, people: Iterable[str]) -> int:
        """How many of some pseudonyms have a key."""
        if not self._there():
            return 0
        with self._connected() as connection:
            return len(_found(connection, [_digest(person) for person in people]))

    def _for_sealing(self, people: set[str]) -> dict[str, tuple[bytes, bytes]]:
        """Id and key of each person, made where there is none; looked up anew, since one may have been destroyed."""
        if not people:
            return {}
        subjects = {_digest(person): person for person in people}
        with self._connected() as connection:
            found = _found(connection, list(subjects))
            if len(found) < len(subjects):
                missing = [subject for subject in subjects if subject not in found]
                self._make(connection, missing)
                found |= _found(connection, missing)
        keys = {}
        for subject, (key_id, wrapped) in found.items():
            key = self._known.get(key_id) or self._unwrapped(key_id, subject, wrapped)
            keys[subjects[subject]] = (key_id, key)
        return keys

    def _make(self, connection: sqlite3.Connection, subjects: list[bytes]) -> None:
        rows = []
        for subject in subjects:
            key_id, nonce = secrets.token_bytes(16), secrets.token_bytes(_NONCE)
            wrapped = nonce + self._master().encrypt(nonce, secrets.token_bytes(_KEY), key_id + subject)
            rows.append((key_id, subject, wrapped, microseconds(now())))
        connection.executemany("INSERT OR IGNORE INTO subject_keys VALUES (?, ?, ?, ?)", rows)

    def _for_opening(self, key_id: bytes) -> bytes | None:
        known = self._known.get(key_id)
        if known is not None:
            return known
        if not self._path.exists():
            raise self._missing()
        with self._connected() as connection:
            row = connection.execute("SELECT subject, wrapped FROM subject_keys WHERE id = ?", (key_id,)).fetchone()
        return None if row is None else self._unwrapped(key_id, *row)

    def _unwrapped(self, key_id: bytes, subject: bytes, wrapped: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - only where something is sealed

        try:
            key = self._master().decrypt(wrapped[:_NONCE], wrapped[_NONCE:], key_id + subject)
        except InvalidTag as error:
            raise StoreError(
                f"the keys in {self._path} are not wrapped by this master key",
                hint="Set master_key, or restore keys/master.key, as it was when they were made.",
            ) from error
        with self._lock:
            if len(self._known) >= _MOST_OPEN:
                self._known.clear()
            self._known[key_id] = key
        return key

    def _master(self) -> AESGCM:
        if self._wrapping is None:
            text = self._settings.master_key
            path = self._folder / "master.key"
            try:
                if not text:
                    if not path.exists():
                        create_secret(path, secrets.token_hex(_KEY).encode())
                    text = path.read_text(encoding="ascii")
                key = bytes.fromhex(text.strip())
            except (OSError, ValueError) as error:
                raise SettingError(f"the master key cannot be used: {error}", hint="It is 64 hex digits.") from error
            if len(key) != _KEY:
                raise SettingError("the master key is not 32 bytes", hint="It is 64 hex digits.")
            self._wrapping = _cipher(key)
        return self._wrapping

    def _there(self) -> bool:
        """Whether there is a file of keys. Raises StoreError when there was one: it may be on a device that is not there."""
        found = self._path.exists()
        if not found and self._made.exists():
            raise self._missing()
        return found

    def _missing(self) -> StoreError:
        return StoreError(
            f"the file of keys {self._path} is not there",
            hint=f"Bring it back, or set subject_keys. To go on without what is sealed with it, remove {self._made}.",
        )

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A transaction over the file of keys, on the device when it ends."""
        try:
            if not self._there():
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._path.touch(mode=0o600)
            if not self._made.exists():
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._made.touch(mode=0o600)
            with closing(sqlite3.connect(self._path, timeout=30, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")  # no log that a destroyed key could stay in
                connection.execute("PRAGMA secure_delete=ON")
                connection.execute("PRAGMA synchronous=EXTRA")
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_TABLE)
                yield connection
                connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the keys in {self._path} cannot be used: {error}", hint="Set subject_keys.") from error


def _found(connection: sqlite3.Connection, subjects: list[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
    found = {}
    for subject in subjects:
        row = connection.execute("SELECT id, wrapped FROM subject_keys WHERE subject = ?", (subject,)).fetchone()
        if row is not None:
            found[subject] = (bytes(row[0]), bytes(row[1]))
    return found


def _digest(person: str) -> bytes:
    """What the file of keys knows a person by."""
    return hashlib.blake2b(person.encode("utf-8", "surrogatepass"), digest_size=16, person=b"subject").digest()


def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - only where something is sealed

    return AESGCM(key)


def _bound(form: int, identity: bytes, key_id: bytes) -> bytes:
    return b"tracemill sealed" + bytes([_VERSION, form]) + identity + key_id


def _lock_up(key: tuple[bytes, bytes], identity: bytes, form: int, content: bytes) -> bytes:
    key_id, secret = key
    nonce = secrets.token_bytes(_NONCE)
    packed = zstandard.ZstdCompressor(level=3).compress(content)
    locked = _cipher(secret).encrypt(nonce, packed, _bound(form, identity, key_id))
    return bytes([_VERSION, form]) + key_id + nonce + locked
