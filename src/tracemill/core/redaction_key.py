"""The key of redaction: what is invented, hashed and sealed under it is the same wherever the key is.

It lies in the workspace as ``keys/redaction.key``, 64 hex digits, readable by its owner only. With another key the same person
becomes another invented one, and what was sealed before cannot be opened.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from tracemill.core.errors import SettingError
from tracemill.core.keyfile import create_secret

KEY_BYTES = 32


def load_redaction_key(workspace: Path) -> bytes:
    """The redaction key of a workspace, made on first use. Two processes that race agree on one.

    Raises SettingError when the key cannot be read or made, or is no key.
    """
    path = redaction_key_path(workspace)
    try:
        if not path.exists():
            create_secret(path, secrets.token_hex(KEY_BYTES).encode())
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
        if len(key) < KEY_BYTES:
            raise ValueError(f"it has {len(key)} bytes, not {KEY_BYTES}")
    except (OSError, ValueError) as error:
        raise SettingError(
            f"the redaction key {path} cannot be used: {error}",
            hint="Restore it from a backup: with a new key, the same people get new invented names.",
        ) from error
    return key


def redaction_key_path(workspace: Path) -> Path:
    """Where the key of a workspace lies."""
    return workspace / "keys" / "redaction.key"


def key_id(key: bytes) -> str:
    """Eight hex digits that tell keys apart and reveal nothing of them."""
    return hashlib.sha256(b"tracemill redaction key" + key).hexdigest()[:8]
