"""Who may do what: scopes and API keys.

An API key reads ``tm_<id>_<secret><checksum>``: a fixed prefix and a CRC-32 by which a secret scanner knows a leaked key from
any other text, the id under which it is stored, and 32 random bytes. Only the SHA-256 of the whole text is stored. A slow
hash is for guessable passwords; nobody guesses 256 bits.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from datetime import datetime
from typing import Literal, TypeAlias, get_args

from msgspec import Struct

from tracemill.core.records import Time, User

Scope: TypeAlias = Literal["ingest", "user", "reviewer", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""``ingest`` sends and reads nothing; ``user`` reads and deletes what is their own; ``reviewer`` reads everything and
gives feedback on it; ``admin`` may do all of that, delete anything, and manage.
"""
_PATTERN = re.compile(r"tm_([0-9a-f]{16})_([0-9a-f]{64})([0-9a-f]{8})")
LIVE_KEYS = 2
"""How many live keys may have one name: the old and the new one while keys are rotated."""


class ApiKey(Struct, frozen=True, kw_only=True):
    """A key as it is stored, without its secret. ``project`` is the ``platform`` of the records it is bound to (None: any);
    ``user`` is whose data a key of scope ``user`` may see.
    """

    id: str
    name: str
    digest: bytes
    scopes: tuple[Scope, ...]
    created: Time
    project: str | None = None
    user: User | None = None
    expires: Time | None = None
    last_used: Time | None = None
    revoked: Time | None = None

    def live(self, moment: datetime) -> bool:
        """Whether the key is valid at a moment."""
        return self.revoked is None and (self.expires is None or moment < self.expires)


def make_secret() -> tuple[str, str, bytes]:
    """A new key: its id, the whole text to give away once, and the digest to store."""
    identity, random = secrets.token_hex(8), secrets.token_hex(32)
    body = f"tm_{identity}_{random}"
    text = f"{body}{zlib.crc32(body.encode()):08x}"
    return identity, text, digest_of(text)


def digest_of(text: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def key_id_of(text: str) -> str | None:
    """The id of a key's text, or None when it is no key of ours or was mistyped: its checksum is wrong."""
    found = _PATTERN.fullmatch(text)
    if found is None or f"{zlib.crc32(text[:-8].encode()):08x}" != found[3]:
        return None
    return found[1]


def is_secret_of(text: str, key: ApiKey) -> bool:
    """Whether a text is this key, compared in constant time."""
    return hmac.compare_digest(digest_of(text), key.digest)
