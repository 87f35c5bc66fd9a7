"""Delivery over HTTP to a tracemill server.

The server is treated as hostile: what it answers is read up to a limit and a deadline, redirects are not followed, and the key
goes to the configured host alone. A batch is delivered only when the server says so in so many words; everything else means
that the spool keeps it. What can never be taken raises a DeliveryError with ``retry=False``, on which the spool halves the
batch until the record that is to blame stands alone.
"""

from __future__ import annotations

import email.utils
import gzip
import http.client
import ipaddress
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC
from urllib.parse import SplitResult, urlsplit

import msgspec

from tracemill.core.errors import DeliveryError, SettingError
from tracemill.core.ids import now
from tracemill.core.settings import Settings
from tracemill.sdk.delivery import Delivered, delivered

MEDIA_TYPE = "application/vnd.tracemill.records"
MAX_REPLY = 4 * 1024 * 1024
LONGEST_WAIT = 300.0
"""The longest pause a server may ask for with Retry-After, in seconds."""
_PATIENCE = 3
"""A whole request may take so many times the timeout of a single wait: a reply that drips in is given up."""
_WORTH_PACKING = 1024
_NEVER = frozenset({400, 409, 413, 415, 422})
"""Statuses by which a server says that these bytes cannot be taken, whoever sends them again."""


class _Refused(msgspec.Struct):
    index: int
    reason: str = ""


class _Reply(msgspec.Struct):
    stored: int
    duplicates: int = 0
    refused: list[_Refused] = []


class HttpDelivery:
    """Delivers batches to ``endpoint``; keeps one connection. Used by one thread (see :class:`Delivery`)."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingError for an endpoint that cannot be used, or would get the key over an open line."""
        self._target = check_endpoint(settings)
        self._timeout = settings.http_timeout_seconds
        self._path = f"{self._target.path.rstrip('/')}/v1/records"
        self._pack = not is_loopback(self._target.hostname or "")
        self._headers = {"Content-Type": MEDIA_TYPE, "Accept": "application/json", "User-Agent": "tracemill"}
        if settings.api_key:
            self._headers["Authorization"] = f"Bearer {settings.api_key}"
        self._connection: http.client.HTTPConnection | None = None

    def deliver(self, items: Sequence[bytes]) -> Delivered:
        """See :class:`tracemill.sdk.delivery.Delivery`."""
        body = msgspec.msgpack.encode([msgspec.Raw(item) for item in items])
        headers = dict(self._headers)
        if self._pack and len(body) >= _WORTH_PACKING:
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        status, fields, reply = self._ask(body, headers)
        if status != 200:
            raise _refusal(status, fields)
        try:
            found = msgspec.json.decode(reply, type=_Reply)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            self.close()
            raise DeliveryError("the server's answer to a batch is not one of tracemill's") from None
        if min(found.stored, found.duplicates) < 0 or found.stored + found.duplicates + len(found.refused) != len(
            items
        ):
            raise DeliveryError("the server's answer does not account for every record of the batch")
        return delivered(found.stored + found.duplicates, [one.reason for one in found.refused])

    def close(self) -> None:
        """Close the connection. It is opened anew when it is needed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _ask(self, body: bytes, headers: dict[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send a batch. A kept connection may have been closed meanwhile, so it is tried once more on a new one."""
        kept = self._connection is not None
        try:
            return self._once(body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            # Sending twice is harmless: records are known by their ids.
            if not kept or isinstance(error, TimeoutError):
                raise DeliveryError(f"the server cannot be reached ({_kind(error)})") from error
        try:
            return self._once(body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise DeliveryError(f"the server cannot be reached ({_kind(error)})") from error

    def _once(self, body: bytes, headers: dict[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        if self._connection is None:
            self._connection = self._connect()
        connection = self._connection
        if connection.sock is None:
            connection.connect()
        guard = _guard(connection.sock, self._timeout * _PATIENCE)
        try:
            connection.request("POST", self._path, body, headers)
            answer = connection.getresponse()
            with answer:  # else a reply that breaks off would hold the connection open
                reply = answer.read(MAX_REPLY + 1)
        finally:
            if guard is not None:
                guard.cancel()
        if len(reply) > MAX_REPLY or answer.will_close or answer.status != 200:
            self.close()  # more may follow, or it was not ours to understand
        if len(reply) > MAX_REPLY:
            raise DeliveryError("the server's answer is longer than any of tracemill's")
        return answer.status, answer.headers, reply

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._target.scheme == "https" else http.client.HTTPConnection
        return kind(self._target.hostname or "", self._target.port, timeout=self._timeout)


def check_endpoint(settings: Settings) -> SplitResult:
    """The endpoint's parts. Raises SettingError when it is none, or when the key would be readable on its way."""
    try:
        target = urlsplit(settings.endpoint)
        usable = (
            target.scheme in ("http", "https") and bool(target.hostname) and (target.port is None or target.port > 0)
        )
    except ValueError:
        usable = False
    if not usable or target.username or target.query:
        raise SettingError(
            "the setting 'endpoint' is no http or https URL of a server",
            hint="Write https://tracemill.example, and the key in api_key.",
        )
    if settings.api_key and target.scheme == "http" and not is_loopback(target.hostname or ""):
        raise SettingError(
            f"the API key would go to {target.hostname} over an unencrypted line",
            hint="Use https, or a tunnel that ends on this machine.",
        )
    return target


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _guard(connection: socket.socket, seconds: float) -> threading.Timer | None:
    """Shut a connection down after a while, whatever it is doing: a timeout of the socket ends single waits only."""

    def shut() -> None:
        with suppress(OSError):  # it is closed already
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut)
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError:  # the interpreter is ending and starts no more threads
        return None
    return timer


def _refusal(status: int, fields: http.client.HTTPMessage) -> DeliveryError:
    """What a status other than 200 means."""
    if status in _NEVER:
        return DeliveryError(f"the server does not take the batch (status {status})", retry=False)
    hint, message = "", f"the server answers with status {status}"
    if status in (401, 403):
        hint = "Check api_key: the server does not know it, or it may not ingest. Everything is kept until it may."
    elif status in (404, 405):
        hint = "Check endpoint: there is no tracemill server at this address."
    elif 300 <= status < 400:
        hint = "Check endpoint: redirects are not followed, so that the key goes nowhere else."
    error = DeliveryError(message, hint=hint)
    error.wait_seconds = retry_after(fields.get("Retry-After"))
    return error


def retry_after(value: str | None) -> float:
    """Seconds of a Retry-After header (RFC 9110, section 10.2.3): a number or a date."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        return min(LONGEST_WAIT, float(value.strip()[:9]))
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(LONGEST_WAIT, max(0.0, (moment - now()).total_seconds()))


def _kind(error: Exception) -> str:
    return type(error).__name__
