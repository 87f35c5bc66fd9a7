"""Packages of files from Lightspeed's exporter and from ``tracemill ship``, at the path of Red Hat's ingress."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Request
from fastapi.responses import Response

from tracemill.capture.importers import ImportContext
from tracemill.capture.importers.package import Entry, check_package, package_entries
from tracemill.capture.ingest import Reject
from tracemill.capture.packages import PackageLimits
from tracemill.core.codec import encode_json, encode_json_plain
from tracemill.core.errors import RecordError
from tracemill.core.records import AnyRecord
from tracemill.core.settings import Settings
from tracemill.server.access import needs
from tracemill.server.context import Context, Principal, context_of
from tracemill.server.errors import ApiError
from tracemill.server.observe import place_of
from tracemill.server.uploads import received_file
from tracemill.store.base import Refusal
from tracemill.store.hot import HotStore

logger = logging.getLogger("tracemill.server")
router = APIRouter(tags=["Lightspeed"])
SOURCE = "ingress"
FIELD = "file"
_CONTENT_TYPE = re.compile(
    r"application/(?:vnd\.redhat\.[a-z0-9][a-z0-9._-]{0,99}\+(?:tar|tgz)|gzip|x-gzip|x-tar|x-gtar|x-compressed-tar)"
)
_IDENTITY = re.compile(r"(?:^|\s)cluster/([A-Za-z0-9][A-Za-z0-9._:-]{0,127})(?:\s|$)")
"""What a cluster's id looks like. A person's address does not, and is not kept."""
_RECORDS, _BYTES = 500, 2 * 1024 * 1024
_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A tar, mostly in gzip, in the field `file`.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "string", "format": "binary"}},
                },
                "encoding": {FIELD: {"contentType": "application/vnd.redhat.lightspeed.periodic+tar"}},
            }
        },
    }
}


@router.post("/api/ingress/v1/upload", summary="Send a package of files (Lightspeed)", openapi_extra=_REQUEST_BODY)
async def upload(request: Request, principal: Annotated[Principal, needs("ingest")]) -> Response:
    """Store what a package holds: transcripts, feedback, parts of a Gepeto tree, our own records. Idempotent.

    202 after the commit, with `request_id` and, under `upload`, `files`, `stored`, `duplicates` and `rejected`. A file or
    record that cannot be used is kept in the quarantine and counted as rejected. A package that is torn (400) or larger
    than the server takes (413) is refused whole, before anything of it is stored.
    """
    context = context_of(request)
    limits = _limits(context.settings)
    identity = _identity(request.headers.get("user-agent", ""))
    about = ImportContext(pseudonymize=context.pseudonymizer.user, platform=principal.project)
    try:
        async with received_file(request, FIELD, limits.bytes_total, _is_package) as received:
            files = await _checked(context, received.file, limits)
            entries = package_entries(received.file, limits, about, identity)
            try:
                counts = await _stored(context, principal, entries)
            finally:
                await context.run(entries.close)
    except OSError as error:
        logger.error("package_not_kept", extra={"fields": {"place": place_of(error)}})
        raise ApiError(
            503, "unavailable", "the server has no room to unpack it", headers={"Retry-After": "60"}
        ) from None
    answer = {
        "request_id": request.scope["tracemill_request_id"],
        "upload": {
            "files": files,
            "stored": counts.stored,
            "duplicates": counts.duplicates,
            "rejected": counts.rejected,
        },
    }
    return Response(encode_json_plain(answer), 202, media_type="application/json")


async def _checked(context: Context, file: BinaryIO, limits: PackageLimits) -> int:
    """How many files a package has, once it is known to be whole. Raises ApiError (400, 413, 422)."""
    try:
        files = await context.run(check_package, file, limits)
    except RecordError as error:
        status = 400 if error.reason == "malformed" else 413
        raise ApiError(status, error.reason, error.message, hint="Nothing of it was stored.") from None
    if not files:
        raise ApiError(422, "invalid", "the package holds no file", param=FIELD)
    file.seek(0)
    return files


def _limits(settings: Settings) -> PackageLimits:
    return PackageLimits(
        bytes_total=settings.package_max_bytes,
        files=settings.package_max_files,
        file_bytes=settings.package_file_max_bytes,
        ratio=settings.decompression_max_ratio,
    )


def _is_package(content_type: str) -> bool:
    return _CONTENT_TYPE.fullmatch(content_type) is not None


def _identity(user_agent: str) -> str | None:
    found = _IDENTITY.search(user_agent)
    return None if found is None else found[1]


@dataclass
class _Counts:
    stored: int = 0
    duplicates: int = 0
    rejected: int = 0


@dataclass
class _Batch:
    """A part of a package: records to store, how many of them are stored already, and what is none."""

    read: int = 0
    records: list[AnyRecord] = field(default_factory=list)
    duplicates: int = 0
    rejects: list[Reject] = field(default_factory=list)


async def _stored(context: Context, principal: Principal, entries: Generator[Entry]) -> _Counts:
    """Store everything, part by part. Sent again after a failure, what is stored already is passed over."""
    counts = _Counts()
    while True:
        batch = await context.run(_next_batch, entries, context.workspace.store)
        if not batch.read:
            return counts
        refused = [Refusal(0, None, reject.reason, reject.message) for reject in batch.rejects]
        if batch.records:
            result = await context.take(batch.records, principal, source=SOURCE)
            counts.stored += result.stored
            counts.duplicates += result.duplicates
            counts.rejected += len(result.refused)
            foreign = [refusal for refusal in result.refused if refusal.reason == "wrong_project"]
            batch.rejects += [_kept(batch.records[refusal.index], refusal) for refusal in foreign]
        await context.quarantine(batch.rejects, SOURCE)
        context.metrics.count(SOURCE, 0, batch.duplicates, refused)
        counts.duplicates += batch.duplicates
        counts.rejected += len(refused)


def _next_batch(entries: Generator[Entry], store: HotStore) -> _Batch:
    """The next entries, up to a number and a size. Runs in a thread."""
    batch, size = _Batch(), 0
    made: list[AnyRecord] = []
    for entry in islice(entries, _RECORDS):
        batch.read += 1
        size += entry.size
        if isinstance(entry.record, Reject):
            batch.rejects.append(_named(entry.record))
        elif entry.record is not None:
            (batch.records if entry.stated_id else made).append(entry.record)
        if size >= _BYTES:
            break
    # Looked up first: the same file is the same record whoever sends it, and whenever where it states no time.
    known = store.known([record.id for record in made]) if made else set()
    batch.records += [record for record in made if record.id not in known]
    batch.duplicates = sum(record.id in known for record in made)
    return batch


def _named(reject: Reject) -> Reject:
    """A reject whose message says which file it was."""
    return Reject(reject.place, reject.reason, f"{reject.place}: {reject.message}", reject.raw)


def _kept(record: AnyRecord, refusal: Refusal) -> Reject:
    """A record that the key may not write. Its sender forgets it when it is answered, so it is kept here."""
    return Reject(str(record.id), refusal.reason, refusal.message, encode_json(record))
