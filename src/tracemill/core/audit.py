"""One entry of the audit log: who did something privileged, to what, when. Never content.

Entries are numbered without gaps and chained: ``hash(i) = SHA-256(hash(i-1) || MessagePack(entry i))``, from 32 zero bytes
on. Whoever changes, removes or inserts one has to rewrite all that follow, and then no signed head agrees
(:mod:`tracemill.privacy.audit`).
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import Struct

BEGINNING = bytes(32)
_encode = msgspec.msgpack.Encoder(order="sorted").encode


class AuditEntry(Struct, frozen=True, kw_only=True):
    """What was done. ``time`` is in microseconds from the Unix epoch; ``target`` names a person by pseudonym at most.

    ``action`` is a stable word such as ``erase``, ``archive``, ``keys.create``. ``detail`` holds counts and hashes.
    """

    number: int
    time: int
    actor: str
    action: str
    target: str = ""
    detail: dict[str, Any] = {}


class AuditHead(Struct, frozen=True, kw_only=True):
    """The end of the log at some moment, signed by the workspace's key: hash and signature in hex."""

    number: int
    hash: str
    time: int
    key_id: str
    signature: str = ""

    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        return _encode([self.number, self.hash, self.time, self.key_id])


def canonical(entry: AuditEntry) -> bytes:
    """The bytes of an entry that its hash is over, and that are stored."""
    return _encode(entry)


def from_canonical(data: bytes) -> AuditEntry:
    """Inverse of :func:`canonical`. Raises msgspec.MsgspecError."""
    return msgspec.msgpack.decode(data, type=AuditEntry)


def chained(previous: bytes, entry: bytes) -> bytes:
    """The hash of an entry's bytes that follows on another hash."""
    return hashlib.sha256(previous + entry).digest()
