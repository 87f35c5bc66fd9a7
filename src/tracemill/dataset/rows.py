"""Examples as lines of JSON and back, without loss."""

from __future__ import annotations

import msgspec

from tracemill.core.codec import encode_json_plain, parse_json
from tracemill.core.errors import DatasetError, RecordError
from tracemill.core.examples import Example

_MARK = b"\\u0000tm:"
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Example] = msgspec.json.Decoder(Example)


def encode_line(example: Example) -> bytes:
    """The example as one line of JSON, without the newline. What was written is read back and compared.

    What JSON cannot hold (NaN, infinities, lone surrogates, bytes) is marked as in :mod:`tracemill.core.codec`. Raises
    RecordError (``too_deep``, ``unencodable``).
    """
    try:
        line = _encoder.encode(example)
        if _MARK not in line and _decoder.decode(line) == example:
            return line
    except (msgspec.MsgspecError, UnicodeEncodeError, OverflowError, RecursionError, TypeError, ValueError):
        pass  # the marking encoder decides
    return encode_json_plain(msgspec.to_builtins(example, builtin_types=(bytes, bytearray, memoryview)))


def decode_line(line: bytes) -> Example:
    """The example of one line. Raises DatasetError when it is none."""
    try:
        if _MARK not in line:
            return _decoder.decode(line)
        return msgspec.convert(parse_json(line), Example)  # type: ignore[no-any-return]
    except (msgspec.MsgspecError, RecordError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(f"a line is no example: {error}", hint="Build the version again.") from error
