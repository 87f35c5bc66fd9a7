"""Calls of an OpenAI-compatible API for judging: within a budget and a rate, tried again when that may help."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from tracemill.core.errors import SettingError
from tracemill.core.ids import monotonic
from tracemill.core.network import Answer, Target, check_target, request
from tracemill.core.settings import Settings

ATTEMPTS = 4
LONGEST_WAIT = 60.0
"""Seconds that a server's Retry-After is obeyed up to."""
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_REFUSES_KEY = (401, 403)


class BudgetSpentError(Exception):
    """As many calls were made as were allowed. What was judged before is kept."""


@dataclass
class Pace:
    """Calls a minute at most, over all threads, and calls at all; 0 is no limit of the first, None of the second."""

    per_minute: float = 0.0
    most: int | None = None
    calls: int = 0
    sleep: Callable[[float], None] = time.sleep
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _next: float = 0.0

    def take(self) -> None:
        """Wait for one's turn. Raises BudgetSpentError."""
        with self._lock:
            if self.most is not None and self.calls >= self.most:
                raise BudgetSpentError
            self.calls += 1
            moment = monotonic()
            wait = max(0.0, self._next - moment)
            if self.per_minute > 0:
                self._next = max(self._next, moment) + 60 / self.per_minute
        if wait:
            self.sleep(wait)


class JudgeClient:
    """One API and model. Safe to use from several threads.

    The address is checked once: https, or http on this machine; names that stand for private addresses are allowed, since
    the owner of the settings names them. Raises SettingError where no judge is set up, TargetError for an address that
    nothing may be sent to.
    """

    def __init__(self, settings: Settings, pace: Pace) -> None:
        if not settings.judge_url or not settings.judge_model:
            raise SettingError(
                "no judge is set up: judge_url and judge_model are empty",
                hint="docs/quality.md says how to set one up.",
            )
        self.model = settings.judge_model
        self.pace = pace
        self._target: Target = check_target(
            settings.judge_url.rstrip("/") + "/chat/completions", allow_private=True, allow_loopback=True
        )
        self._key, self._timeout = settings.judge_key, settings.judge_timeout_seconds
        self._structured = True

    @property
    def host(self) -> str:
        """Where questions go."""
        return self._target.host

    def ask(self, body: dict[str, Any]) -> tuple[Any, str]:
        """The reply to a question as plain values, and why there is none as a stable word, of which one is empty.

        ``http_<status>``, ``unreachable`` or ``wrong_shape``. Raises BudgetSpentError, and SettingError when the key or the
        model is refused: no other question would fare better.
        """
        waited, reason = 0.0, "unreachable"
        for attempt in range(ATTEMPTS):
            if attempt:
                self.pace.sleep(waited or 0.5 * 2**attempt)
            self.pace.take()
            try:
                answer = self._send(body)
            except (OSError, HTTPException):
                reason, waited = "unreachable", 0.0
                continue
            if answer.status == 200 and not answer.cut:
                return _decoded(answer.body)
            reason = f"http_{answer.status}"
            if answer.status in _REFUSES_KEY or answer.status == 404:
                raise SettingError(
                    f"{self.host} answers {answer.status} to the judge's question",
                    hint="Check judge_url, judge_model and judge_key.",
                )
            if answer.status in (400, 422) and self._structured:
                self._structured, waited = (
                    False,
                    0.01,
                )  # a server that knows no JSON schema: the answer is checked anyway
                continue
            if answer.status not in _AGAIN:
                break
            waited = _retry_after(answer)
        return None, reason

    def _send(self, body: dict[str, Any]) -> Answer:
        asked = {"model": self.model, **body}
        if not self._structured:
            asked.pop("response_format", None)
        data = json.dumps(asked).encode()
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **({"Authorization": f"Bearer {self._key}"} if self._key else {}),
        }
        return request(self._target, "POST", headers, [data], timeout=self._timeout)


def _decoded(body: bytes) -> tuple[Any, str]:
    try:
        return json.loads(body), ""
    except (ValueError, RecursionError):
        return None, "wrong_shape"


def _retry_after(answer: Answer) -> float:
    try:
        return min(LONGEST_WAIT, max(0.0, float(answer.headers.get("Retry-After", "0"))))
    except ValueError:
        return 0.0
