"""Records to bytes and back, without loss.

Two encodings of the same records: MessagePack (spool, store) and JSON (files, wire). Both decoders are strict about
what a record may be and generous about where it comes from:

* A field that this version does not know (a newer producer) is kept under ``extra["$unknown"]``, never dropped.
* What the encoding cannot hold is written as a marked string and turned back on reading: integers beyond 64 bits,
  strings with lone surrogates, and in JSON also NaN, infinities and bytes. The mark is a NUL followed by ``tm:``; a
  string that really begins so is marked itself, so that nothing is ever misread.
* What cannot be kept raises :class:`RecordError` with a stable reason: ``malformed`` (not the encoding at all),
  ``too_deep``, ``too_large``, ``invalid`` (not a record: the message names the field), ``unencodable``.

The fast path is msgspec alone; the marks are looked for only where a substring search finds one.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NoReturn, TypeVar, cast

import msgspec

from tracemill.core.errors import RecordError
from tracemill.core.records import RECORD_TYPES, AnyRecord

T = TypeVar("T")

MAX_DEPTH = 200
"""Objects and arrays nested deeper than this are refused: no conversation needs it, and every reader recurses."""
MAX_BYTES = 256 * 1024 * 1024
"""Largest encoded record that is looked at at all."""
UNKNOWN = "$unknown"

_MARK = "\x00tm:"
_MARK_BYTES = _MARK.encode()
_MARK_JSON = b"\\u0000tm:"
_ODD_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_MAX_DIGITS = 100_000


def _no_extension(code: int, _data: memoryview) -> NoReturn:
    """MessagePack extensions are the store's own means of reference; a producer that sends one could read others' text."""
    raise msgspec.DecodeError(f"a record holds no MessagePack extension (code {code})")


_encoder = msgspec.msgpack.Encoder()
_sorted_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder: msgspec.msgpack.Decoder[AnyRecord] = msgspec.msgpack.Decoder(AnyRecord, ext_hook=_no_extension)
_json_encoder = msgspec.json.Encoder()
_json_decoder: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)


NOT_FAST = (OverflowError, UnicodeEncodeError, TypeError, ValueError, RecursionError)
"""What :func:`encode_fast` raises for a record that needs :func:`encode`."""


def encode_fast(record: AnyRecord) -> bytes:
    """As :func:`encode` for records that need no mark, a third of a microsecond each. Raises one of NOT_FAST."""
    data = _encoder.encode(record)
    if _MARK_BYTES in data:
        raise ValueError("a text begins like a mark")
    return data


def encode(record: AnyRecord) -> bytes:
    """The record as MessagePack. Raises RecordError (``too_deep``, ``unencodable``)."""
    try:
        return encode_fast(record)
    except NOT_FAST:
        return _guard_depth(lambda: _encoder.encode(_escape(_builtins(record), _for_msgpack)))


def decode(data: bytes | memoryview) -> AnyRecord:
    """The record of :func:`encode`'s bytes. Raises RecordError (``malformed``, ``too_deep``, ``too_large``, ``invalid``)."""
    _check_size(data)
    try:
        if _MARK_BYTES not in bytes(data):
            return _decoder.decode(data)
    except msgspec.ValidationError:
        pass  # an unknown field, or not a record: told apart below
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        _refuse(error)
    try:
        plain = msgspec.msgpack.decode(data, ext_hook=_no_extension)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        _refuse(error)
    return from_plain(_guard_depth(lambda: _unescape(plain)))


def canonical(data: bytes) -> bytes:
    """Bytes that are a record as they stand: ``data`` itself, or its record encoded anew where it has a field that is
    unknown here or misses the form of :func:`encode` otherwise. Raises what :func:`decode` raises.
    """
    if _MARK_BYTES not in data and len(data) <= MAX_BYTES:
        try:
            _decoder.decode(data)
            return data
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            pass  # decode says what it is
    return encode(decode(data))


def encode_plain(value: Any) -> bytes:
    """Any plain value as MessagePack with sorted keys, marked like :func:`encode`: equal values give equal bytes.

    Raises RecordError (``too_deep``, ``unencodable``). :func:`decode_plain` is its inverse.
    """
    try:
        data = _sorted_encoder.encode(value)
        if _MARK_BYTES not in data:
            return data
    except (OverflowError, UnicodeEncodeError, TypeError, ValueError, RecursionError):
        pass  # the marking encoder decides
    return _guard_depth(lambda: _sorted_encoder.encode(_escape(value, _for_msgpack)))


def decode_plain(data: bytes) -> Any:
    """The value of :func:`encode_plain`'s bytes. Raises RecordError (``malformed``, ``too_deep``)."""
    try:
        plain = msgspec.msgpack.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        _refuse(error)
    return _guard_depth(lambda: _unescape(plain)) if _MARK_BYTES in data else plain


def encode_json(record: AnyRecord) -> bytes:
    """The record as one line of JSON (no newline). Raises RecordError (``too_deep``, ``unencodable``)."""
    return _guard_depth(lambda: _json_encoder.encode(_escape(_builtins(record), _for_json)))


def encode_json_plain(value: Any) -> bytes:
    """Any plain value as one line of JSON, marked like :func:`encode_json`; :func:`parse_json` is its inverse.

    Raises RecordError (``too_deep``, ``unencodable``).
    """
    return _guard_depth(lambda: _json_encoder.encode(_escape(value, _for_json)))


def decode_json(data: bytes) -> AnyRecord:
    """The record of one JSON document, ours or another producer's.

    Takes what JSON forbids but programs write (NaN, Infinity, lone surrogates, integers of any length up to 100,000
    digits). Raises RecordError (``malformed``, ``too_deep``, ``too_large``, ``invalid``).
    """
    _check_size(data)
    if _MARK_JSON not in data and not _ODD_ESCAPE.search(data):
        try:
            return _json_decoder.decode(data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            pass  # the lenient parser decides
    return from_plain(parse_json(data))


def parse_json(data: bytes) -> Any:
    """Any JSON document as plain values, with the same leniency and the same errors as :func:`decode_json`."""
    _check_size(data)
    try:
        parsed = json.loads(data.decode("utf-8-sig"), parse_int=_parse_integer)
    except (ValueError, RecursionError) as error:
        _refuse(error)
    return _guard_depth(lambda: _unescape(parsed))


def from_plain(value: Any) -> AnyRecord:
    """A record from plain values (a parsed document). Raises RecordError ``invalid`` or ``too_deep``."""
    if not isinstance(value, dict):
        raise RecordError("invalid", f"a record is an object, not {type(value).__name__}")
    try:
        return msgspec.convert(value, cast("type[AnyRecord]", AnyRecord))
    except RecursionError as error:
        _refuse(error)
    except msgspec.ValidationError as error:
        record_type = RECORD_TYPES.get(value["record"]) if isinstance(value.get("record"), str) else None
        if record_type is None:
            raise RecordError("invalid", f"not a record: {error}", hint=_TAG_HINT) from None
    try:
        return msgspec.convert(_keep_unknown(value, record_type), record_type)
    except (msgspec.ValidationError, ValueError) as error:
        raise RecordError("invalid", f"{value['record']}: {error}") from None


_TAG_HINT = f"`record` must be one of: {', '.join(RECORD_TYPES)}."


def to_plain(record: AnyRecord) -> dict[str, Any]:
    """The record as plain values with its ``record`` tag; times are aware datetimes."""
    return cast("dict[str, Any]", _builtins(record))


def nesting(value: Any) -> int:
    """How deep objects and arrays are nested in a plain value (a scalar is 0). Does not recurse."""
    deepest, level = 0, [value]
    while level:
        level = [child for parent in level for child in _children(parent)]
        if level:
            deepest += 1
        if deepest > MAX_DEPTH:
            break
    return deepest


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (list, tuple)):
        yield from value


def _check_size(data: bytes | memoryview) -> None:
    if len(data) > MAX_BYTES:
        raise RecordError("too_large", f"{len(data):,} bytes; a record is at most {MAX_BYTES:,}")


def _refuse(error: BaseException) -> NoReturn:
    if isinstance(error, RecursionError):
        raise RecordError("too_deep", f"nested deeper than {MAX_DEPTH} levels") from None
    raise RecordError("malformed", f"cannot be parsed: {error}") from None


def _guard_depth(produce: Callable[[], T]) -> T:
    try:
        return produce()
    except RecursionError as error:
        _refuse(error)
    except (TypeError, ValueError, OverflowError) as error:
        raise RecordError("unencodable", f"cannot be encoded: {error}") from None


def _builtins(record: AnyRecord) -> Any:
    return msgspec.to_builtins(record, builtin_types=(bytes, bytearray, memoryview, datetime))


def _parse_integer(digits: str) -> int:
    if len(digits) <= 4000:
        return int(digits)
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits):,} digits; at most {_MAX_DIGITS:,} are kept")
    sign, digits = (-1, digits[1:]) if digits[0] == "-" else (1, digits)
    value = 0  # in pieces: int() refuses more than 4,300 digits, since that takes quadratic time
    for start in range(0, len(digits), 4000):
        piece = digits[start : start + 4000]
        value = value * 10 ** len(piece) + int(piece)
    return sign * value


def _mark(kind: str, payload: str) -> str:
    return f"{_MARK}{kind}:{payload}"


def marked_text(value: str) -> str:
    """A text as it stands in an encoded record: itself, or marked where UTF-8 cannot hold it."""
    if value.startswith(_MARK):
        return _mark("surrogates", base64.b64encode(value.encode("utf-8", "surrogatepass")).decode())
    try:
        value.encode()
    except UnicodeEncodeError:
        return _mark("surrogates", base64.b64encode(value.encode("utf-8", "surrogatepass")).decode())
    return value


def _for_msgpack(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and not _INT_MIN <= value <= _INT_MAX:
        return _mark("int", f"{value:x}")
    return value


def _for_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return _mark("float", repr(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _mark("bytes", base64.b64encode(value).decode())
    return _for_msgpack(value)


def _escape(value: Any, scalar: Callable[[Any], Any], depth: int = 0) -> Any:
    if isinstance(value, str):
        return marked_text(value)
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, dict):
        return {
            marked_text(key) if isinstance(key, str) else key: _escape(child, scalar, depth + 1)
            for key, child in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_escape(child, scalar, depth + 1) for child in value]
    return scalar(value)


def _unescape(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return _unescape_text(value) if value.startswith(_MARK) else value
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, dict):
        return {
            _unescape_text(key) if isinstance(key, str) and key.startswith(_MARK) else key: _unescape(child, depth + 1)
            for key, child in value.items()
        }
    if isinstance(value, list):
        return [_unescape(child, depth + 1) for child in value]
    return value


def _unescape_text(value: str) -> Any:
    kind, _, payload = value[len(_MARK) :].partition(":")
    try:
        if kind == "int":
            return int(payload, 16)
        if kind == "float":
            return float(payload)
        if kind == "surrogates":
            return base64.b64decode(payload, validate=True).decode("utf-8", "surrogatepass")
        if kind == "bytes":
            return base64.b64decode(payload, validate=True)
    except ValueError:
        return value
    return value  # a mark of nobody's: the text as it stands


def _keep_unknown(value: dict[str, Any], record_type: type[AnyRecord]) -> dict[str, Any]:
    """Move fields no Struct names to ``extra["$unknown"]``, keyed by their dotted path."""
    unknown: dict[str, Any] = {}
    kept = _prune(value, msgspec.inspect.type_info(record_type), "", unknown)
    if unknown:
        extra = kept.get("extra")
        if extra is not None and not isinstance(extra, dict):
            raise ValueError("Expected `object` - at `$.extra`")
        kept["extra"] = {**(extra or {}), UNKNOWN: {**(extra or {}).get(UNKNOWN, {}), **unknown}}
    return cast("dict[str, Any]", kept)


def _prune(value: Any, info: msgspec.inspect.Type, path: str, unknown: dict[str, Any]) -> Any:
    if isinstance(info, msgspec.inspect.Metadata):
        return _prune(value, info.type, path, unknown)
    if isinstance(info, msgspec.inspect.UnionType):
        for member in info.types:
            value = _prune(value, member, path, unknown)
        return value
    if isinstance(info, msgspec.inspect.ListType) and isinstance(value, list):
        return [_prune(child, info.item_type, f"{path}{index}.", unknown) for index, child in enumerate(value)]
    if not isinstance(info, msgspec.inspect.StructType) or not isinstance(value, dict):
        return value
    fields = {field.encode_name: field.type for field in info.fields}
    kept = {}
    for key, child in value.items():
        if key in fields:
            kept[key] = _prune(child, fields[key], f"{path}{key}.", unknown)
        elif key == info.tag_field:
            kept[key] = child
        else:
            unknown[f"{path}{key}"] = child
    return kept
