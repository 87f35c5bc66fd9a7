"""A request's body as a batch of encoded records, each judged by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from tracemill.capture.ingest import WHOLE, Reject, decode_entries, decode_line
from tracemill.core.codec import decode, encode
from tracemill.core.errors import RecordError
from tracemill.core.records import AnyRecord
from tracemill.server.context import in_project
from tracemill.server.errors import ApiError
from tracemill.store.base import Appended, Refusal

MEDIA_TYPE = "application/vnd.tracemill.records"
"""A MessagePack array of records as :func:`tracemill.core.codec.encode` writes them; what the SDK sends."""
_elements = msgspec.msgpack.Decoder(list[msgspec.Raw])


@dataclass
class Batch:
    """What a body holds: encoded records with their places in it, and what of it is no record."""

    items: list[bytes] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    size: int = 0


def read_batch(body: bytes, content_type: str, project: str | None) -> Batch:
    """The records of a body. Raises ApiError (400) when it is no batch at all."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == MEDIA_TYPE:
        return _packed(body, project)
    batch = Batch()
    pretty = kind == "application/json" and body.lstrip()[:1] == b"{"  # one record, on as many lines as it likes
    found = [decode_line(body, "the body")] if pretty else _entries(body)
    batch.size = len(found)
    for index, entry in enumerate(found):
        if isinstance(entry, Reject):
            batch.rejects.append(entry)
            batch.refused.append(Refusal(index, None, entry.reason, entry.message))
        else:
            _add(batch, index, entry, project)
    return batch


def _entries(body: bytes) -> Sequence[AnyRecord | Reject]:
    found = decode_entries(body)
    first = found[0] if found else None
    if isinstance(first, Reject) and first.place == WHOLE:
        raise ApiError(400, "malformed_batch", f"the body is no batch of records: {first.message}")
    return found


def _packed(body: bytes, project: str | None) -> Batch:
    """The SDK's own form: taken as it is, since the store judges each record by itself."""
    try:
        elements = _elements.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ApiError(400, "malformed_batch", f"the body is no MessagePack array of records: {error}") from None
    batch = Batch(size=len(elements))
    if project is None:
        batch.items = [bytes(element) for element in elements]
        batch.indexes = list(range(len(elements)))
        return batch
    for index, element in enumerate(elements):
        try:
            record = decode(bytes(element))
        except RecordError as error:
            batch.rejects.append(Reject(f"entry {index}", error.reason, error.message, bytes(element)))
            batch.refused.append(Refusal(index, None, error.reason, error.message))
        else:
            _add(batch, index, record, project)
    return batch


def _add(batch: Batch, index: int, record: AnyRecord, project: str | None) -> None:
    bound = in_project(record, project)
    if isinstance(bound, str):
        batch.refused.append(Refusal(index, record.id, "wrong_project", bound))
        return
    batch.items.append(encode(bound))
    batch.indexes.append(index)


def answer_of(batch: Batch, result: Appended | None) -> tuple[int, int, list[Refusal]]:
    """Stored, duplicates, and every refusal at its place in the body."""
    refused = list(batch.refused)
    if result is not None:
        refused += [Refusal(batch.indexes[r.index], r.id, r.reason, r.message) for r in result.refused]
    refused.sort(key=lambda refusal: refusal.index)
    return (result.stored, result.duplicates, refused) if result is not None else (0, 0, refused)
