"""Reading a request's body: bounded as it arrives, bounded as it is unpacked, and parsed strictly.

A gzip member unpacks to a thousand times its size and a zstd frame to thirty thousand times, so both the size and the ratio
of what comes out are watched while it comes out. Lengths that a request states are never trusted.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
import zstandard
from fastapi import Request

from tracemill.core.codec import parse_json
from tracemill.core.errors import RecordError
from tracemill.server.context import context_of
from tracemill.server.errors import ApiError

T = TypeVar("T")
_STEP = 256 * 1024
_FREE = 1024 * 1024
"""Up to here the ratio does not matter: small texts of one letter compress a thousandfold."""
_GZIP, _DEFLATE = zlib.MAX_WBITS | 16, zlib.MAX_WBITS


async def read_body(request: Request) -> bytes:
    """The body, decompressed as ``Content-Encoding`` says.

    Raises ApiError: 413 beyond ``body_max_bytes`` or ``decompression_max_ratio``, 415 for an unknown encoding, 400 for a body
    that is not what it says, 408 when it does not arrive in ``request_timeout_seconds``.
    """
    settings = context_of(request).settings
    encodings = [
        name.strip().lower() for name in request.headers.get("content-encoding", "").split(",") if name.strip()
    ]
    encodings = [name for name in encodings if name != "identity"]
    if len(encodings) > 1 or (encodings and encodings[0] not in ("gzip", "x-gzip", "deflate", "zstd")):
        raise ApiError(
            415,
            "unsupported_media_type",
            "this Content-Encoding is not taken",
            hint="Send gzip, deflate, zstd, or no encoding; one of them, once.",
            headers={"Accept-Encoding": "gzip, deflate, zstd"},
        )
    try:
        async with asyncio.timeout(settings.request_timeout_seconds):
            raw = await _received(request, settings.body_max_bytes)
    except TimeoutError:
        raise ApiError(408, "timeout", "the body did not arrive in time", headers={"Connection": "close"}) from None
    if not encodings:
        return raw
    limit, ratio = settings.body_max_bytes, settings.decompression_max_ratio
    if len(raw) > _STEP:
        return await context_of(request).run(unpack, raw, encodings[0], limit, ratio)
    return unpack(raw, encodings[0], limit, ratio)


async def _received(request: Request, limit: int) -> bytes:
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated[:20]) > limit:
        raise _too_large(limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413,
        "too_large",
        f"the body is larger than {limit} bytes",
        hint="Send it in smaller batches, or raise body_max_bytes.",
    )


def unpack(raw: bytes, encoding: str, limit: int, ratio: int) -> bytes:
    """Decompress within a size and a ratio. Raises ApiError (413, 400)."""
    allowed = min(limit, max(_FREE, len(raw) * ratio))
    chunks, size = [], 0
    try:
        for chunk in _zstd(raw) if encoding == "zstd" else _zlib(raw, encoding):
            size += len(chunk)
            if size > allowed:
                if size > limit:
                    raise _too_large(limit)
                raise ApiError(413, "too_large", f"the body unpacks to more than {ratio} times its size")
            chunks.append(chunk)
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise ApiError(400, "bad_request", f"the body is not valid {encoding}: {error}") from None
    return b"".join(chunks)


def _zstd(raw: bytes) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(raw, read_across_frames=True) as reader:
        while chunk := reader.read(_STEP):
            yield chunk


def _zlib(raw: bytes, encoding: str) -> Iterator[bytes]:
    """The members of a gzip file one after another, or one deflate stream with or without its header."""
    window = _GZIP
    if encoding == "deflate":
        window = _DEFLATE if raw[:1] and raw[0] & 0x0F == 8 and int.from_bytes(raw[:2]) % 31 == 0 else -_DEFLATE
    rest = raw
    while rest:
        unpacker = zlib.decompressobj(window)
        while not unpacker.eof:
            chunk = unpacker.decompress(rest, _STEP)
            rest = unpacker.unconsumed_tail
            if chunk:
                yield chunk
            elif not rest and not unpacker.eof:
                raise EOFError("it ends too early")
        rest = unpacker.unused_data


async def read_json(request: Request) -> Any:
    """The body as JSON. Raises ApiError as :func:`read_body` does, and 400 when it is none or nested too deeply."""
    return parsed(await read_body(request))


def parsed(body: bytes) -> Any:
    """JSON, strictly: no NaN, no half surrogate pairs lost, bounded depth. Raises ApiError (400)."""
    try:
        return parse_json(body)
    except RecordError as error:
        raise ApiError(400, "malformed_json", f"the body is not usable JSON: {error.message}") from None


def decode_as(body: bytes, kind: type[T]) -> T:
    """The body as a msgspec Struct. Raises ApiError: 400 when it is no JSON, 422 when a field is wrong, which it names."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        message = str(error)
        raise ApiError(422, "invalid", message, param=_param(message)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ApiError(400, "malformed_json", f"the body is not usable JSON: {error}") from None


def _param(message: str) -> str | None:
    """The field that msgspec's message is about: where it says a path, or the field that is missing or too much."""
    _, found, place = message.rpartition(" - at `$")
    if found:
        return place.rstrip("`").lstrip(".") or None
    _, found, name = message.partition(" field `")
    return name.rstrip("`") or None if found else None
