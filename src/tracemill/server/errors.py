"""One JSON shape for every error the server answers.

    {"error": {"type", "message", "hint", "param", "code", "request_id"}, "detail": {"response", "cause"}}

``error`` is what clients of OpenAI's API read, ``detail`` repeats it for Lightspeed's. ``type`` is a stable snake_case word.
Nothing of a request's body is repeated, and an unexpected error says no more than its request id: the log has its place.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from tracemill.core.errors import (
    DatasetError,
    ProposalError,
    RecordError,
    SettingError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    TracemillError,
)

logger = logging.getLogger("tracemill.server")
_TYPES = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    429: "rate_limited",
    503: "unavailable",
}


class ApiError(TracemillError):
    """An answer with a status of 400 or more. ``param`` is the field or parameter that is wrong."""

    def __init__(
        self,
        status: int,
        type: str,  # noqa: A002 - its name in the shape
        message: str,
        *,
        hint: str = "",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.type = type
        self.param = param
        self.code = code
        self.headers = dict(headers or {})


def error_body(error: ApiError, request_id: str) -> dict[str, Any]:
    """The shape, filled in."""
    return {
        "error": {
            "type": error.type,
            "message": error.message,
            "hint": error.hint,
            "param": error.param,
            "code": error.code,
            "request_id": request_id,
        },
        "detail": {"response": error.message, "cause": error.hint},
    }


def as_api_error(error: Exception) -> ApiError:
    """What to answer for an error of any kind."""
    match error:
        case ApiError():
            return error
        case StoreBusyError() | StoreFullError():
            return ApiError(503, "unavailable", error.message, hint=error.hint, headers={"Retry-After": "1"})
        case StoreError():
            return ApiError(
                503, "unavailable", "the store failed", hint="Try again; the server's log says why.",
                headers={"Retry-After": "5"},
            )  # fmt: skip
        case RecordError():
            return ApiError(422, error.reason, error.message, hint=error.hint)
        case ProposalError():
            return ApiError(409, "conflict", error.message, hint=error.hint)
        case DatasetError():
            return ApiError(404, "not_found", error.message, hint=error.hint)
        case SettingError():
            return ApiError(503, "not_configured", error.message, hint=error.hint)
        case TracemillError():
            return ApiError(400, "bad_request", error.message, hint=error.hint)
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            word = _TYPES.get(error.status_code, "error")
            return ApiError(error.status_code, word, str(error.detail), headers=error.headers)
    return ApiError(500, "internal_error", "the server failed", hint="Its log has the place under the request id.")


def _invalid(error: RequestValidationError) -> ApiError:
    first: dict[str, Any] = next(iter(error.errors()), {})
    place = ".".join(str(part) for part in first.get("loc", ()) if part not in ("query", "path", "header"))
    return ApiError(
        422, "invalid", f"{place or 'the request'}: {first.get('msg', 'is not valid')}", param=place or None
    )


def error_response(error: Exception, request_id: str) -> Response:
    """The answer for an error."""
    answer = as_api_error(error)
    return Response(
        msgspec.json.encode(error_body(answer, request_id)),
        answer.status,
        headers=answer.headers,
        media_type="application/json",
    )


def install(app: FastAPI) -> None:
    """Answer every error an application raises in the one shape. Unexpected ones are the observer's (observe.py)."""

    async def handle(request: Request, error: Exception) -> Response:
        answer = as_api_error(error)
        if isinstance(error, StoreError):
            # A database's own words may quote values, so only their kind is told.
            logger.error("store_failed", extra={"fields": {"kind": type(error).__name__, "request_id": _id(request)}})
        return error_response(answer, _id(request))

    for kind in (TracemillError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handle)


def _id(request: Request) -> str:
    return str(request.scope.get("tracemill_request_id", ""))
