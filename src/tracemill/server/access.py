"""Who is asking: API keys and bearer tokens, and what each route needs.

Where neither a key nor a token issuer is set up, everybody on the machine may do everything: the server then listens on
loopback only, and turns away requests that a browser sends for a page of somebody else's (by ``Origin`` and ``Host``).
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.params import Depends as Dependency

from tracemill.core.access import SCOPES, ApiKey, Scope, is_secret_of, key_id_of
from tracemill.core.consent import signalled
from tracemill.core.errors import StoreError
from tracemill.core.ids import monotonic, now
from tracemill.core.settings import Settings
from tracemill.server.context import Context, Principal, context_of
from tracemill.server.errors import ApiError
from tracemill.server.tokens import TokenError, TokenVerifier
from tracemill.store.hot import HotStore

logger = logging.getLogger("tracemill.server")
_REFRESH_SECONDS = 5.0
"""How long a key that was revoked in another process may go on: the keys are read anew after that."""
_USE_SECONDS = 60.0
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
LOCAL = Principal("local", frozenset(SCOPES))
"""Who asks where nothing is set up."""


class Access:
    """The keys and token issuer of a server process, and how often each key may ask."""

    def __init__(self, store: HotStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._keys: dict[str, ApiKey] = {}
        self._read_at = float("-inf")
        self._noted: dict[str, float] = {}
        self._allowance: dict[str, tuple[float, float]] = {}
        self.tokens = TokenVerifier(settings) if settings.jwt_issuer else None
        self.refresh()

    def refresh(self) -> None:
        """Read the keys anew. Raises StoreError."""
        self._keys = {key.id: key for key in self._store.api_keys()}
        self._read_at = monotonic()

    @property
    def required(self) -> bool:
        """Whether requests need a key or token. A workspace that ever had a key needs one for good."""
        return bool(self._keys) or self.tokens is not None

    async def principal(self, request: Request, context: Context) -> Principal:
        """Who sent a request. Raises ApiError (401, 429; 403 for a foreign page)."""
        if monotonic() - self._read_at > _REFRESH_SECONDS:
            self._read_at = monotonic()
            try:
                await context.run(self.refresh)
            except StoreError:
                logger.warning("keys_not_refreshed")
        if not self.required:
            _refuse_foreign_pages(request, self._settings)
            return LOCAL
        credential = _credential(request)
        if credential is None:
            raise _unauthenticated(request, "this route needs an API key or a bearer token")
        identity = key_id_of(credential)
        if identity is None:
            principal = await self._of_token(request, credential, context)
        else:
            principal = self._of_key(request, credential, identity)
            await self._note_use(identity, context)
        self._limit(principal.name)
        return principal

    def _of_key(self, request: Request, credential: str, identity: str) -> Principal:
        key = self._keys.get(identity)
        if key is None or not is_secret_of(credential, key) or not key.live(now()):
            raise _unauthenticated(request, "the API key is unknown, expired or revoked")
        return Principal(f"key:{key.id}", frozenset(key.scopes), key.project, key.user)

    async def _of_token(self, request: Request, credential: str, context: Context) -> Principal:
        if self.tokens is None:
            raise _unauthenticated(request, "the credential is no API key of this server")
        try:
            found = await context.run(self.tokens.verify, credential)
        except TokenError as error:
            raise _unauthenticated(request, f"the bearer token is not accepted: {error}") from None
        user = context.pseudonymizer.user(found.user)
        return Principal(f"token:{user.pseudonym[:12]}", found.scopes, found.project, user)

    async def _note_use(self, identity: str, context: Context) -> None:
        if monotonic() - self._noted.get(identity, float("-inf")) < _USE_SECONDS:
            return
        self._noted[identity] = monotonic()
        try:
            await context.run(self._store.note_api_key_use, identity, now())
        except StoreError:
            self._noted.pop(identity, None)  # the next request notes it

    def _limit(self, name: str) -> None:
        """A bucket that fills at the limit's rate and holds ten seconds of it."""
        rate = self._settings.rate_limit_per_minute / 60
        if not rate:
            return
        most, moment = max(1.0, rate * 10), monotonic()
        left, then = self._allowance.get(name, (most, moment))
        left = min(most, left + (moment - then) * rate) - 1
        if left < 0:
            wait = max(1, round(-left / rate))
            raise ApiError(
                429,
                "rate_limited",
                f"more than {self._settings.rate_limit_per_minute} requests a minute with this key",
                headers={"Retry-After": str(wait)},
            )
        self._allowance[name] = (left, moment)


def needs(*scopes: Scope) -> Any:
    """A dependency that gives the principal of a request, who has one of the scopes. Raises ApiError (401, 403, 429)."""

    async def check(request: Request) -> Principal:
        principal = await principal_of(request)
        if not any(principal.can(scope) for scope in scopes):
            raise ApiError(
                403,
                "forbidden",
                f"this needs the scope {' or '.join(scopes)}",
                hint="Make a key that has it with `tracemill keys create --scope`.",
            )
        return principal

    check.__dict__["scopes"] = scopes
    return Depends(check)


def scopes_of(dependency: Callable[..., Any] | Dependency | None) -> tuple[Scope, ...] | None:
    """The scopes a dependency made by :func:`needs` asks for; None for any other."""
    return getattr(dependency, "scopes", None)


async def principal_of(request: Request) -> Principal:
    """Who sent a request, and whether with the signal Global Privacy Control; asked once for each."""
    known: Principal | None = request.scope.get("tracemill_principal")
    if known is None:
        access: Access = request.app.state.access
        context = context_of(request)
        found = await access.principal(request, context)
        known = replace(found, private=signalled(request.headers))
        request.scope["tracemill_principal"] = known
    return known


PrincipalOf = Callable[[Request], Awaitable[Principal]]


def _credential(request: Request) -> str | None:
    """The key or token of a request, wherever the clients we know put theirs."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer" and value:
        return value
    if scheme.lower() == "basic" and value:
        try:
            name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return next((text for text in (password, name) if key_id_of(text)), password or name or None)
    return request.headers.get("x-api-key") or request.headers.get("api-key") or None


def _unauthenticated(request: Request, message: str) -> ApiError:
    page = "text/html" in request.headers.get("accept", "")  # lets a person look at /docs with a key as the password
    challenge = 'Basic realm="tracemill"' if page else 'Bearer realm="tracemill"'
    return ApiError(
        401,
        "unauthenticated",
        message,
        hint="Send `Authorization: Bearer <key>`; `tracemill keys create` makes one.",
        headers={"WWW-Authenticate": challenge},
    )


def _refuse_foreign_pages(request: Request, settings: Settings) -> None:
    """Without keys, a page from elsewhere must not reach a server on this machine through its reader's browser."""
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    origin = request.headers.get("origin")
    allowed = {entry.strip() for entry in settings.cors_origins.split(",") if entry.strip()}
    foreign = origin is not None and origin not in allowed and (urlsplit(origin).hostname or "") not in _LOOPBACK
    if foreign or host not in _LOOPBACK:
        raise ApiError(
            403,
            "foreign_page",
            "a server without API keys answers programs on its own machine only",
            hint="Make a key with `tracemill keys create`, or name the page's origin in cors_origins.",
        )
