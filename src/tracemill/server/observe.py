"""Around every request: an id, a log line, metrics, security headers, and an answer even to what nobody foresaw.

Log lines are JSON and hold the method, the route's template, the status, the time and who asked by the key's id: never a
path's values, a query, a header, a body or an error's own words.
"""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracemill.core.ids import monotonic, new_id, now
from tracemill.server.errors import error_response
from tracemill.server.metrics import Metrics

logger = logging.getLogger("tracemill.server")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


class Observe:
    """ASGI middleware that streams through: it looks at the first message of an answer only."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection's scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = monotonic(), 0
        request_id = scope["tracemill_request_id"] = new_id()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode()), *_HEADERS]
                message = {**message, "headers": headers}
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, answer)
        except Exception as error:  # noqa: BLE001
            # The process boundary: one request's failure is answered and logged by its place, not by its words.
            logger.error("request_failed", extra={"fields": {"request_id": request_id, "place": place_of(error)}})
            if not status:
                status = 500
                await error_response(error, request_id)(scope, receive, answer)
        finally:
            self._metrics.in_flight.dec()
            self._note(scope, request_id, status, monotonic() - began)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "(none)")
        self._metrics.requests.labels(scope["method"], route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if logger.isEnabledFor(logging.INFO):
            principal = scope.get("tracemill_principal")
            fields = {
                "request_id": request_id,
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 2),
                "principal": getattr(principal, "name", None),
            }
            logger.info("request", extra={"fields": fields})


def place_of(error: BaseException) -> str:
    """The kind of an error and the lines it came through, without its message, which may quote content."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return f"{type(error).__name__} at " + " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames)
    )


class JsonLines(logging.Formatter):
    """Log records as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields: dict[str, Any] = {
            "time": now().isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            fields["place"] = place_of(record.exc_info[1])
        return json.dumps(fields, default=str)
