"""What stands before the store: every record passes it before the first write, and what is kept of others is veiled.

The store knows nothing of personal data. Whoever opens it for a workspace that redacts gives it a :class:`Gate`; a store whose
settings ask for redaction and that was given none takes nothing at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec
from sqlalchemy import Connection, select

from tracemill.core.codec import canonical
from tracemill.core.errors import RecordError, StoreError
from tracemill.core.ids import id_bytes, id_text
from tracemill.core.redaction_key import load_redaction_key, redaction_key_path
from tracemill.core.settings import Settings
from tracemill.store.base import Refusal
from tracemill.store.names import CHUNK, Names
from tracemill.store.tables import records
from tracemill.store.writer import Rejected

Belonging: TypeAlias = Callable[[Sequence[str]], Mapping[str, str]]
"""Gives, for ids of interactions, the conversation (else the session) of each that is stored and has one."""
_VEILED = b"\x00tm:veil:1"
_NONCE = 12
_UNSAID = "why is not shown: it quotes what cannot be redacted"
_BOUND = b"tracemill veil 1"


class Gate(Protocol):
    """Makes of records what may be stored. Used by several threads."""

    def clean(self, items: Sequence[bytes], belonging: Belonging) -> list[bytes | RecordError]:
        """Encoded records as they may be stored, or why one may not; bytes that are no record come back as they are."""

    def readable(self, raw: bytes) -> bytes | None:
        """Bytes that were refused as they may be kept; None when nobody can read what they hold, or erasure whose they are."""

    def same(self, known: bytes, new: bytes) -> bool:
        """Whether two encoded records of one id were the same before they passed, by this gate or another of the key."""


class Veil:
    """AES-256-GCM (NIST SP 800-38D) over what must be kept as it came: parts that wait for others, and what nobody can read.

    The key is derived from the workspace's redaction key. The nonce is a keyed digest of the content, so that equal contents
    look equal and are kept once; nothing else shows. What is not veiled opens as itself.
    """

    def __init__(self, settings: Settings) -> None:
        self._workspace = Path(settings.workspace)
        self._key: bytes | None = None

    def put_on(self, content: bytes) -> bytes:
        """Veiled content. Raises SettingError when the key cannot be used."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - only where something is veiled

        key = self._load()
        nonce = hashlib.blake2b(content, key=key, digest_size=_NONCE, person=b"tm-veil-nonce").digest()
        return _VEILED + nonce + AESGCM(key).encrypt(nonce, content, _BOUND)

    def take_off(self, content: bytes) -> bytes:
        """What was veiled, or the bytes themselves where they are not, or where the key is gone."""
        if not content.startswith(_VEILED) or not redaction_key_path(self._workspace).exists():
            return content
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - only where something is veiled
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        start = len(_VEILED) + _NONCE
        try:
            return AESGCM(self._load()).decrypt(content[len(_VEILED) : start], content[start:], _BOUND)
        except (InvalidTag, ValueError):  # somebody sent bytes that begin so, or the key is another one
            return content

    def _load(self) -> bytes:
        if self._key is None:
            key = load_redaction_key(self._workspace)
            self._key = hashlib.blake2b(key, digest_size=32, person=b"tm-veil").digest()
        return self._key


class Gateway:
    """The gate of one store and its veil. Without a gate everything passes as it is, unless the settings ask for redaction."""

    def __init__(self, settings: Settings) -> None:
        self.veil = Veil(settings)
        self.gate: Gate | None = None
        self._asked = bool(settings.redaction)

    def passed(
        self, items: Sequence[bytes], indexes: Sequence[int], belonging: Belonging
    ) -> tuple[Sequence[bytes], Sequence[int], list[Rejected]]:
        """What may be stored with its places in the batch, and what may not. Raises StoreError where a gate is missing."""
        gate = self._gate()
        if gate is None:
            return items, indexes, []
        kept: list[bytes] = []
        places: list[int] = []
        rejected: list[Rejected] = []
        for index, item, new in zip(indexes, items, gate.clean(items, belonging), strict=True):
            if isinstance(new, RecordError):
                plain = _plain(item)
                refusal = Refusal(index, plain["id"], new.reason, new.message)
                rejected.append(Rejected(refusal, self.veil.put_on(item), plain))
            else:
                kept.append(new)
                places.append(index)
        return kept, places, rejected

    def hidden(self, raw: bytes) -> bytes:
        """Refused bytes as they may be kept: redacted where they can be read, else veiled. Raises StoreError, SettingError."""
        gate = self._gate()
        if gate is None or not raw:
            return raw
        readable = gate.readable(raw)
        return self.veil.put_on(raw) if readable is None else readable

    def hide(self, rejected: Sequence[Rejected]) -> None:
        """The same for what is no record: its bytes, and the message, which may quote them."""
        gate = self._gate()
        if gate is None:
            return
        for entry in rejected:
            entry.raw = self.hidden(entry.raw)
            old = entry.refusal
            readable = gate.readable(old.message.encode("utf-8", "backslashreplace"))
            message = _UNSAID if readable is None else readable.decode("utf-8", "backslashreplace")
            entry.refusal = Refusal(old.index, old.id, old.reason, message)

    def waiting(self, content: bytes) -> bytes:
        """A part that waits for others as it may be kept. Raises SettingError."""
        return self.veil.put_on(content) if self._asked and content else content

    def same(self, known: bytes, new: bytes) -> bool:
        """Whether two encoded records of one id were the same before they passed."""
        gate = self._gate()
        return gate is not None and gate.same(known, new)

    def _gate(self) -> Gate | None:
        if self._asked and self.gate is None:
            raise StoreError(
                "the settings ask for redaction, and this store was opened without it",
                hint="Open it as a Workspace.",
            )
        return self.gate


def conversations(connection: Connection, names: Names, ids: Sequence[str]) -> dict[str, str]:
    """The conversation (else the session) of each interaction that has one."""
    wanted = [id_bytes(identity) for identity in ids]
    found: dict[str, int] = {}
    for start in range(0, len(wanted), CHUNK):
        columns = (records.c.id, records.c.conversation, records.c.session)
        condition = records.c.id.in_(wanted[start : start + CHUNK])
        for identity, conversation, session in connection.execute(select(*columns).where(condition)):
            number = conversation if conversation is not None else session
            if number is not None:
                found[id_text(bytes(identity))] = number
    values = names.values(connection, found.values())
    return {identity: values[number] for identity, number in found.items() if number in values}


def _plain(item: bytes) -> dict[str, Any]:
    """The record that some bytes are, as plain values: the gate has read it."""
    plain: dict[str, Any] = msgspec.msgpack.decode(canonical(item))
    return plain
