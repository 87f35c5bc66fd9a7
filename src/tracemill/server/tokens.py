"""Bearer tokens of an OpenID Connect issuer (RFC 7519, RFC 7517; OpenID Connect Discovery 1.0)."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from tracemill.core.access import SCOPES, Scope
from tracemill.core.errors import SettingError
from tracemill.core.ids import monotonic
from tracemill.core.settings import Settings

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures only: a token "signed" with a shared secret, or not at all, proves nothing of its issuer."""
_KEYS_SECONDS = 300.0
_UNKNOWN_KEY_SECONDS = 10.0
_MAX_BYTES = 1024 * 1024
_LEEWAY_SECONDS = 30


class TokenError(Exception):
    """A token is not accepted; the message says why without repeating it."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a token says: the user's id as the issuer has it, scopes, and the project where it names one."""

    user: str
    scopes: frozenset[Scope]
    project: str | None


class TokenVerifier:
    """Checks tokens against the issuer's published keys, which are read at first use and when an unknown one appears."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._read_at = float("-inf")

    def verify(self, token: str) -> Verified:
        """The claims of a token, checked: signature, issuer, audience, expiry. Raises TokenError."""
        settings = self._settings
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                raise TokenError("its algorithm is not one an issuer signs with")
            key = self._key(header.get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=settings.jwt_audience,
                issuer=settings.jwt_issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise TokenError(type(error).__name__.removesuffix("Error")) from None
        user = claims.get(settings.jwt_user_claim)
        if not isinstance(user, (str, int)) or user == "":
            raise TokenError(f"it has no claim {settings.jwt_user_claim!r}")
        project = claims.get("project")
        return Verified(str(user), _scopes(claims, settings.jwt_scope_claim), project or None)

    def _key(self, identity: str | None) -> jwt.PyJWK:
        with self._lock:
            age = monotonic() - self._read_at
            if age > _KEYS_SECONDS or (identity not in self._keys and age > _UNKNOWN_KEY_SECONDS):
                self._keys = self._read()
                self._read_at = monotonic()
            found = self._keys.get(identity)
            if found is None and identity is None and len(self._keys) == 1:
                found = next(iter(self._keys.values()))
        if found is None:
            raise TokenError("it is signed with a key the issuer does not publish")
        return found

    def _read(self) -> dict[str | None, jwt.PyJWK]:
        try:
            found = jwt.PyJWKSet.from_dict(_document(self._address()))
        except (OSError, ValueError, jwt.PyJWTError, urllib.error.URLError) as error:
            raise TokenError(f"the issuer's keys cannot be read ({type(error).__name__})") from error
        return {key.key_id: key for key in found.keys}

    def _address(self) -> str:
        if self._settings.jwt_jwks:
            return self._settings.jwt_jwks
        document = _document(self._settings.jwt_issuer.rstrip("/") + "/.well-known/openid-configuration")
        address = document.get("jwks_uri")
        if not isinstance(address, str):
            raise TokenError("the issuer's configuration names no keys")
        return address


def _scopes(claims: Mapping[str, Any], claim: str) -> frozenset[Scope]:
    """The scopes a token grants; one that names none of ours may do what a user may."""
    value = claims.get(claim)
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    named = {str(word).removeprefix("tracemill:") for word in words}
    return frozenset(scope for scope in SCOPES if scope in named) or frozenset({"user"})


def _document(address: str) -> dict[str, Any]:
    """A JSON document of a file, or of a URL; over plain HTTP on loopback only."""
    if "://" not in address:
        content = Path(address).read_bytes()
    else:
        check_address(address)
        with urllib.request.urlopen(address, timeout=5) as reply:  # noqa: S310 - the scheme is checked above
            content = reply.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError("too large")
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def check_address(address: str) -> None:
    """Raise SettingError for an issuer's address that anybody on the way could answer for."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")):
        return
    raise SettingError(
        f"the address of the token issuer's keys is not https: {parts.scheme}://{parts.hostname}",
        hint="Set jwt_jwks and jwt_issuer to https addresses, or jwt_jwks to a file.",
    )
