"""Files that hold a secret: made once, readable by their owner only; processes that race agree on one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def create_secret(path: Path, secret: bytes) -> bool:
    """Write a secret under a name nobody has taken; False when another process was first, and its secret holds.

    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.stem}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, secret)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True
