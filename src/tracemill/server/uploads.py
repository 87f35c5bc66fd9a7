"""Receiving one file of a multipart form: bounded as it arrives, in memory while it is small, else in an unnamed file."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from tracemill.server.context import context_of
from tracemill.server.errors import ApiError

_IN_MEMORY = 8 * 1024 * 1024
_AT_ONCE = 1024 * 1024
_OTHER_BYTES = 64 * 1024
"""Bytes of all other fields of a form together; they are passed over."""
_MAX_PARTS = 16


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that arrived, to be read from its beginning."""

    file: BinaryIO
    content_type: str
    size: int


@asynccontextmanager
async def received_file(
    request: Request, field: str, limit: int, accepts: Callable[[str], bool]
) -> AsyncIterator[Upload]:
    """The file in a field of a form; gone when the context ends. Its stated file name is not looked at.

    Raises ApiError: 415 when the body is no form or ``accepts`` does not take the file's content type, 413 beyond ``limit``
    bytes, 400 for a form that is torn or malformed, 422 when the field is not there or there twice, 408 when the body does not
    arrive in ``request_timeout_seconds``.
    """
    context = context_of(request)
    boundary = _boundary(request)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        receiver = _Receiver(field.encode(), cast("BinaryIO", file), limit, accepts)
        callbacks: Any = {name: getattr(receiver, name) for name in dir(receiver) if name.startswith("on_")}
        try:
            parser = MultipartParser(boundary, callbacks)
            async with asyncio.timeout(context.settings.request_timeout_seconds):
                async for chunk in _chunks(request, limit + _OTHER_BYTES):
                    await context.run(parser.write, chunk)
        except FormParserError as error:
            raise ApiError(400, "malformed", f"the body is not usable multipart: {error}") from None
        except TimeoutError:
            raise ApiError(408, "timeout", "the body did not arrive in time", headers={"Connection": "close"}) from None
        if not receiver.ended:
            raise ApiError(400, "malformed", "the multipart body ends too early", hint="Send it again.")
        if receiver.content_type is None:
            raise ApiError(422, "invalid", f"the form has no file in its field {field!r}", param=field)
        file.seek(0)
        yield Upload(cast("BinaryIO", file), receiver.content_type, receiver.size)


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind.lower() != b"multipart/form-data":
        raise ApiError(415, "unsupported_media_type", "send multipart/form-data")
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise ApiError(
            415, "unsupported_media_type", "this Content-Encoding is not taken", hint="A package is compressed itself."
        )
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046, section 5.1.1
        raise ApiError(400, "malformed", "the Content-Type names no boundary of 1 to 70 characters")
    return boundary


async def _chunks(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body in pieces that are worth a thread's turn."""
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated[:20]) > limit:
        raise _too_large(limit)
    waiting, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        waiting += chunk
        if len(waiting) >= _AT_ONCE:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413,
        "too_large",
        f"the upload is larger than {limit} bytes",
        hint="Send it in smaller packages, or raise package_max_bytes.",
    )


class _Receiver:
    """The callbacks of the parser: they write the one file and pass over the rest."""

    def __init__(self, field: bytes, file: BinaryIO, limit: int, accepts: Callable[[str], bool]) -> None:
        self._field = field
        self._file = file
        self._limit = limit
        self._accepts = accepts
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._parts = self._other = 0
        self._is_file = False
        self.content_type: str | None = None
        self.size = 0
        self.ended = False

    def on_part_begin(self) -> None:
        self._headers, self._is_file = {}, False
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise ApiError(413, "too_large", f"the form has more than {_MAX_PARTS} fields")

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if options.get(b"name") != self._field:
            return
        if self.content_type is not None:
            raise ApiError(422, "invalid", "the form has two files; send one", param=self._field.decode())
        kind = self._headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        if not self._accepts(kind):
            raise ApiError(
                415, "unsupported_media_type", "this content type of the file is not taken", param=self._field.decode()
            )
        self.content_type, self._is_file = kind, True

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.size += end - start
            if self.size > self._limit:
                raise _too_large(self._limit)
            self._file.write(data[start:end])
            return
        self._other += end - start
        if self._other > _OTHER_BYTES:
            raise ApiError(413, "too_large", f"the form's other fields have more than {_OTHER_BYTES} bytes")

    def on_end(self) -> None:
        self.ended = True
