"""The workspace's signing key (Ed25519, RFC 8032): what receipts, audit heads and certificates are signed with.

The private key lies in the workspace as ``keys/signing.pem``, readable by its owner only; ``keys/signing.pub.pem`` is for
whoever checks a signature without us: ``openssl pkeyutl -verify -pubin -inkey signing.pub.pem -rawin``.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tracemill.core.errors import SettingError
from tracemill.core.keyfile import create_secret

_RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
_PEM = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


class Signer:
    """Signs and checks under one key. ``key_id`` is the first 16 hex digits of the public key's SHA-256."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes(*_RAW)
        self.key_id = hashlib.sha256(self.public).hexdigest()[:16]

    def sign(self, data: bytes) -> str:
        """The signature of some bytes, in hex."""
        return self._key.sign(data).hex()

    def holds(self, data: bytes, signature: str) -> bool:
        """Whether a signature of this key is over these bytes."""
        return signature_holds(self.public, data, signature)


def signature_holds(public: bytes, data: bytes, signature: str) -> bool:
    """Whether a signature, in hex, is over these bytes under a raw public key of 32 bytes."""
    with suppress(InvalidSignature, ValueError):
        Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(signature), data)
        return True
    return False


def load_signer(workspace: Path) -> Signer:
    """The signer of a workspace; makes its key on first use. Two processes that race agree on one key.

    Raises SettingError when the key cannot be read or made.
    """
    path = workspace / "keys" / "signing.pem"
    try:
        if not path.exists():
            _create(path)
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise SettingError(
            f"the signing key {path} cannot be used: {error}",
            hint="Restore it from a backup: signatures of a new key do not fit what the old one signed.",
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingError(f"the signing key {path} is no Ed25519 key")
    return Signer(key)


def _create(path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    if create_secret(path, private):
        path.with_name("signing.pub.pem").write_bytes(key.public_key().public_bytes(*_PEM))
