"""Batches of bytes from outside as records, each judged by itself."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from tracemill.core.codec import decode_json, from_plain, parse_json
from tracemill.core.errors import RecordError
from tracemill.core.records import AnyRecord


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


def decode_batch(data: bytes) -> tuple[list[AnyRecord], list[Reject]]:
    """The records of a JSON array or of lines of JSON, and what was refused of it; no entry harms another.

    An array that cannot be parsed as a whole is refused whole, as one Reject.
    """
    if not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        lines = [(number, line) for number, line in enumerate(data.splitlines(), 1) if line.strip()]
        found = [decode_line(line, f"line {number}") for number, line in lines]
        return _sorted(found)
    try:
        entries = parse_json(data)
    except RecordError as error:
        return [], [Reject("batch", error.reason, error.message, data)]
    found = []
    for index, entry in enumerate(entries):
        try:
            found.append(from_plain(entry))
        except RecordError as error:
            raw = msgspec.json.encode(entry, enc_hook=repr) if entry is not None else b"null"
            found.append(Reject(f"entry {index}", error.reason, error.message, raw))
    return _sorted(found)


def _sorted(found: list[AnyRecord | Reject]) -> tuple[list[AnyRecord], list[Reject]]:
    records = [entry for entry in found if not isinstance(entry, Reject)]
    return records, [entry for entry in found if isinstance(entry, Reject)]
