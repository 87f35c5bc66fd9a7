"""Pseudonyms of users: HMAC-SHA256 of the raw id under the workspace's key.

An unkeyed hash of an e-mail address is reversed by trying addresses; with a key kept apart from the data it is not.
It stays personal data (EDPB guidelines 01/2025). The key lies in the workspace as ``keys/pseudonym.key``, readable by
its owner only; without it, the same person gets another pseudonym.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from tracemill.core.errors import SettingError
from tracemill.core.keyfile import create_secret
from tracemill.core.records import User

KEY_BYTES = 32


class Pseudonymizer:
    """Turns raw user ids into :class:`User` values under one key.

    ``key_id`` is the first eight hex digits of the key's SHA-256: it tells keys apart and reveals nothing of them.
    """

    def __init__(self, key: bytes, *, keep_raw: bool = False) -> None:
        if len(key) < KEY_BYTES:
            raise SettingError(f"a pseudonym key has at least {KEY_BYTES} bytes, this one {len(key)}")
        self._key = key
        self._keep_raw = keep_raw
        self.key_id = hashlib.sha256(key).hexdigest()[:8]

    def user(self, raw_id: str | int) -> User:
        """The user of a raw id. 7 and "7" are the same user."""
        raw = str(raw_id)
        pseudonym = hmac.new(self._key, raw.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return User(pseudonym=pseudonym, key_id=self.key_id, raw_id=raw if self._keep_raw else None)


def load_pseudonymizer(workspace: Path, *, keep_raw: bool = False) -> Pseudonymizer:
    """The pseudonymizer of a workspace; makes its key on first use. Two processes that race agree on one key.

    Raises SettingError when the key cannot be read or made.
    """
    path = workspace / "keys" / "pseudonym.key"
    try:
        if not path.exists():
            create_secret(path, secrets.token_hex(KEY_BYTES).encode())
        return Pseudonymizer(bytes.fromhex(path.read_text(encoding="ascii").strip()), keep_raw=keep_raw)
    except (OSError, ValueError) as error:
        raise SettingError(
            f"the pseudonym key {path} cannot be used: {error}",
            hint="Restore it from a backup: with a new key, known users get new pseudonyms.",
        ) from error
