"""The client towards the model's own API."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from tracemill.core.settings import Settings
from tracemill.server.errors import ApiError

_UP = frozenset(
    {"accept", "content-type", "idempotency-key", "openai-beta", "openai-organization", "openai-project", "traceparent",
     "tracestate", "user-agent"}
)  # fmt: skip
_DOWN = frozenset(
    {"content-type", "openai-model", "openai-organization", "openai-processing-ms", "openai-version", "retry-after",
     "retry-after-ms", "x-request-id", "x-should-retry", "cache-control"}
)  # fmt: skip


def open_client(settings: Settings) -> aiohttp.ClientSession:
    """A client that keeps connections, and neither follows redirects nor reads the environment."""
    timeout = aiohttp.ClientTimeout(total=None, connect=10.0, sock_read=settings.upstream_timeout_seconds)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    return aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False, auto_decompress=False)


def upstream_address(settings: Settings, path: str) -> str:
    """Where a path of the API is. Raises ApiError (503) when none is configured."""
    if not settings.upstream_url:
        raise ApiError(
            503,
            "not_configured",
            "no model is configured behind this server",
            hint="Set upstream_url (and upstream_api_key) to an OpenAI-compatible API, with its /v1.",
        )
    return settings.upstream_url.rstrip("/") + path


def headers_up(headers: Mapping[str, str], settings: Settings, *, pass_authorization: bool) -> dict[str, str]:
    """The headers the API is sent. Our clients' keys never are, unless this server has none of its own to ask for."""
    found = {name: value for name, value in headers.items() if name in _UP or name.startswith("x-stainless-")}
    found["accept-encoding"] = "identity"
    if settings.upstream_api_key:
        found["authorization"] = f"Bearer {settings.upstream_api_key}"
    elif pass_authorization and "authorization" in headers:
        found["authorization"] = headers["authorization"]
    return found


def headers_down(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of the API's answer that its client may need."""
    lower = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in lower.items() if name in _DOWN or name.startswith("x-ratelimit-")}


def unreachable(error: Exception) -> ApiError:
    """The answer when the API could not be asked."""
    if isinstance(error, TimeoutError):
        return ApiError(504, "upstream_timeout", "the model's API did not answer in time")
    return ApiError(502, "upstream_unreachable", f"the model's API cannot be reached ({type(error).__name__})")
