"""One upload: the request that `lightspeed-to-dataverse-exporter` makes, byte for byte, and what the answer to it means.

A package has arrived when, and only when, the answer is 202 with a ``request_id`` in its JSON.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tracemill.core.errors import TargetError
from tracemill.core.network import Answer, check_target, request
from tracemill.sdk.http import retry_after
from tracemill.ship.packing import Package

FILE_NAME = "lightspeed-assistant.tgz"
USER_AGENT = "openshift-lightspeed-operator/user-data-collection cluster/{identity_id}"
CONTENT_TYPE = "application/vnd.redhat.{service_id}.periodic+tar"
MAX_REPLY = 1024 * 1024
TOO_LARGE = 413
_LONGEST_REQUEST_ID = 200
_PIECE = 64 * 1024
_NEVER = frozenset({400, 409, 415, 422})
"""Statuses that are about these bytes: other packages may fare better."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where packages go, and how. ``timeout`` is for each wait, in seconds; ``ca_file`` holds the authorities to trust."""

    url: str
    service_id: str
    timeout: float
    allow_private: bool = False
    ca_file: str = ""
    idempotency_key: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an upload. ``request_id`` is set when it arrived; else ``problem`` says why not.

    ``status`` is that of the answer, 0 when there was none; ``wait_seconds`` is the pause the receiver asked for.
    """

    status: int = 0
    request_id: str = ""
    problem: str = ""
    wait_seconds: float = 0.0

    @property
    def unauthorized(self) -> bool:
        """Whether another token may help."""
        return self.status in (401, 403)

    @property
    def only_this_one(self) -> bool:
        """Whether the answer is about the package rather than the receiver or the way to it."""
        return self.status in _NEVER or self.status == TOO_LARGE


class _Accepted(msgspec.Struct):
    request_id: str


def upload(receiver: Receiver, path: Path, package: Package, token: str, identity_id: str) -> Outcome:
    """Send a package and say what became of it. Raises OSError only when the package's own file cannot be read."""
    boundary = package.sha256[:32]  # not random, so that a retry sends the same bytes
    content_type = CONTENT_TYPE.format(service_id=receiver.service_id)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{FILE_NAME}"\r\n'
        f"Content-Type: {content_type}\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "User-Agent": USER_AGENT.format(identity_id=identity_id),
        "Authorization": f"Bearer {token}",
        "Content-Length": str(len(head) + package.size + len(tail)),
        "Content-Type": f"multipart/form-data; boundary={boundary}",
    }
    if receiver.idempotency_key:
        headers["Idempotency-Key"] = package.sha256

    def body() -> Iterator[bytes]:
        yield head
        left = package.size
        while left and (piece := file.read(min(_PIECE, left))):
            left -= len(piece)
            yield piece
        yield tail

    with path.open("rb") as file:
        try:
            target = check_target(receiver.url, allow_private=receiver.allow_private)
            context = ssl.create_default_context(cafile=receiver.ca_file or None) if target.scheme == "https" else None
            answer = request(
                target, "POST", headers, body(), timeout=receiver.timeout, limit=MAX_REPLY, context=context
            )
        except TargetError as error:
            return Outcome(problem=error.message)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Outcome(problem=_broken(error))
    return _meaning(answer)


def _broken(error: Exception) -> str:
    """What stopped a request, without anything of the request in it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the receiver's certificate is not trusted ({error.verify_message})"
    if isinstance(error, ValueError):  # http.client's word for a header that no header may be
        return "a header would hold characters that no header has: look at the token, service_id and identity_id"
    return f"the receiver cannot be reached, or broke off ({type(error).__name__})"


def _meaning(answer: Answer) -> Outcome:
    wait = retry_after(answer.headers.get("Retry-After"))
    if answer.status == 202:
        try:
            accepted = msgspec.json.decode(answer.body, type=_Accepted) if not answer.cut else _Accepted("")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            accepted = _Accepted("")
        request_id = accepted.request_id
        if request_id.isprintable() and 0 < len(request_id) <= _LONGEST_REQUEST_ID:
            return Outcome(202, request_id)
        return Outcome(202, problem="the receiver says 202 without a request_id, which acknowledges nothing")
    problem = f"the receiver answers with status {answer.status}"
    if 300 <= answer.status < 400:
        problem += ": a redirect, which is not followed, so that the token goes nowhere else"
    elif answer.status == TOO_LARGE:
        problem += ": the package is too large for it"
    return Outcome(answer.status, problem=problem, wait_seconds=wait)
