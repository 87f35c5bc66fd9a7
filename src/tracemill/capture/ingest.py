"""Batches of bytes from outside as records, each judged by itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from tracemill.core.codec import decode_json
from tracemill.core.errors import RecordError
from tracemill.core.records import AnyRecord

WHOLE = "batch"
"""The place of a Reject that is a whole array."""
_array = msgspec.json.Decoder(list[msgspec.Raw])
_scanner = json.JSONDecoder(parse_int=str)  # only where an element ends matters, and int() refuses long numbers
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},"]', re.DOTALL)
"""A whole text, a bracket, a comma, or the quote of a text that does not end."""


@dataclass(frozen=True, slots=True)
class Reject:
    """An entry that is no record: where it stood, why (as RecordError has it), and its bytes."""

    place: str
    reason: str
    message: str
    raw: bytes


def decode_line(line: bytes, place: str) -> AnyRecord | Reject:
    """One record from one JSON document, or why it is none."""
    try:
        return decode_json(line)
    except RecordError as error:
        return Reject(place, error.reason, error.message, line)


def decode_entries(data: bytes) -> list[AnyRecord | Reject]:
    """The elements of a JSON array or of lines of JSON, in their order; no entry harms another.

    An array that cannot be parsed as a whole (torn, or with something after it) is refused whole, as one Reject.
    """
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        try:
            entries = [(f"entry {index}", entry) for index, entry in enumerate(array_entries(data))]
        except RecordError as error:
            return [Reject(WHOLE, error.reason, error.message, data)]
    else:
        lines = enumerate(data.replace(b"\r\n", b"\n").split(b"\n"), 1)
        entries = [(f"line {number}", line) for number, line in lines if line.strip()]
    return [decode_line(entry, place) for place, entry in entries]


def decode_batch(data: bytes) -> tuple[list[AnyRecord], list[Reject]]:
    """The same, told apart: the records, and what was refused."""
    found = decode_entries(data)
    records = [entry for entry in found if not isinstance(entry, Reject)]
    return records, [entry for entry in found if isinstance(entry, Reject)]


def array_entries(data: bytes) -> list[bytes]:
    """The elements of a JSON array as they stand there, so that one that cannot be decoded leaves the others alone.

    Raises RecordError (``malformed``, ``too_deep``) for what is no array as a whole.
    """
    try:
        return [bytes(entry) for entry in _array.decode(data)]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass  # a BOM, NaN, or no JSON: the lenient scanner decides
    try:
        return list(_scanned(data.decode("utf-8-sig")))
    except RecursionError:
        return _split(data)
    except ValueError as error:
        raise RecordError("malformed", f"cannot be parsed: {error}") from None


def _split(data: bytes) -> list[bytes]:
    """The elements of an array of which some are nested too deeply for any parser: found by its brackets alone."""
    entries, depth, start = [], 0, 0
    for token in _TOKEN.finditer(data):
        mark = token[0]
        if mark in b"[{":
            depth += 1
            if depth == 1:
                start = token.end()
        elif mark in b"]}":
            depth -= 1
        if (mark == b"," and depth == 1) or (mark == b"]" and depth == 0):
            entries.append(data[start : token.start()].strip())
            start = token.end()
        if depth == 0 or mark == b'"':
            break
    if depth != 0 or data[start:].strip():
        raise RecordError("too_deep", "an array nested too deeply to be read, and torn or followed by something")
    return entries


def _scanned(text: str) -> Iterator[bytes]:
    position = _after_space(text, 0)
    if text[position : position + 1] != "[":
        raise ValueError("not an array")
    position = _after_space(text, position + 1)
    if text[position : position + 1] == "]":
        position += 1
    else:
        while True:
            _, end = _scanner.raw_decode(text, position)
            yield text[position:end].encode()
            position = _after_space(text, end)
            mark, position = text[position : position + 1], position + 1
            if mark == "]":
                break
            if mark != ",":
                raise ValueError(f"expected , or ] at character {position - 1}")
            position = _after_space(text, position)
    if _after_space(text, position) != len(text):
        raise ValueError(f"something follows the array at character {position}")


def _after_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
