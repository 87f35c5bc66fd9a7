"""The native way in and out: batches of records."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from tracemill.core.codec import encode_json
from tracemill.core.records import RECORD_TYPES, AnyRecord
from tracemill.server.access import needs
from tracemill.server.batches import MEDIA_TYPE, Batch, answer_of, read_batch
from tracemill.server.bodies import read_body
from tracemill.server.context import Context, Principal, context_of
from tracemill.server.errors import ApiError
from tracemill.server.privacy_signal import marked_items
from tracemill.server.reading import related, viewer_of, visible
from tracemill.store.base import Filter

router = APIRouter(tags=["records"])
_LARGE = 256 * 1024
_REQUEST_BODY = {
    "requestBody": {
        "required": True,
        "description": "Records as a JSON array, as lines of JSON, or as the SDK's MessagePack array.",
        "content": {
            "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
            "application/x-ndjson": {"schema": {"type": "string"}},
            MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.post("/v1/records", summary="Send records", openapi_extra=_REQUEST_BODY)
async def send_records(request: Request, principal: Annotated[Principal, needs("ingest")]) -> Response:
    """Store a batch of records; idempotent by their ids.

    Answers after the commit: 200 with `stored`, `duplicates` and `refused` (`index`, `id`, `reason`, `message`), also when
    some or all records were refused; those are in the quarantine. 413 when the batch is larger than the server takes. With
    the header `Sec-GPC: 1` the records are marked: they are neither trained on nor shared.
    """
    context = context_of(request)
    body = await read_body(request)
    content_type = request.headers.get("content-type", "")
    if len(body) > _LARGE:
        batch = await context.run(read_batch, body, content_type, principal.project)
    else:
        batch = read_batch(body, content_type, principal.project)
    if batch.size > context.settings.batch_max_records:
        raise ApiError(
            413,
            "too_many_records",
            f"{batch.size} records in one batch; the server takes {context.settings.batch_max_records}",
            hint="Send them in smaller batches.",
        )
    if not principal.private:
        return await _store(context, batch)
    batch.items, users = await context.run(marked_items, batch.items)
    answer = await _store(context, batch)
    await context.honour(principal, users)
    return answer


async def _store(context: Context, batch: Batch) -> Response:
    await context.quarantine(batch.rejects, "server")
    result = await context.committer.append(batch.items, "server") if batch.items else None
    stored, duplicates, refused = answer_of(batch, result)
    context.metrics.count("records", stored, duplicates, refused)
    answer = {"stored": stored, "duplicates": duplicates, "refused": refused}
    return Response(msgspec.json.encode(answer), media_type="application/json")


@router.get("/v1/records", summary="Read records")
async def read_records(
    request: Request,
    principal: Annotated[Principal, needs("user")],
    type: Annotated[list[str] | None, Query(description="Kinds of record; all by default.")] = None,  # noqa: A002
    platform: Annotated[str | None, Query()] = None,
    conversation_id: Annotated[str | None, Query()] = None,
    session_id: Annotated[str | None, Query()] = None,
    interaction_id: Annotated[str | None, Query(description="What belongs to one interaction.")] = None,
    model: Annotated[str | None, Query()] = None,
    success: Annotated[bool | None, Query()] = None,
    since: Annotated[datetime | None, Query(description="Inclusive, by the record's time.")] = None,
    until: Annotated[datetime | None, Query(description="Exclusive.")] = None,
    after: Annotated[int, Query(ge=0, le=2**62, description="`next` of the page before.")] = 0,
    limit: Annotated[int, Query(ge=1)] = 100,
) -> Response:
    """A page of records in the order of storing. A user sees what is their own, a reviewer or admin everything.

    `next` is the `after` of the following page, absent at the end.
    """
    _check_types(type)
    context = context_of(request)
    limit = min(limit, context.settings.page_max_records)
    where = Filter(
        types=tuple(type or ()),
        platforms=_platforms(principal, platform),
        conversation_id=conversation_id,
        session_id=session_id,
        interaction_id=_record_id(interaction_id),
        model=model,
        success=success,
        since=_aware(since),
        until=_aware(until),
        after=after,
        visible_to=viewer_of(principal),
    )
    found = await context.run(context.workspace.store.page, where, limit)
    following = found[-1][0] if len(found) == limit else None
    return _page([record for _, record in found], following)


@router.get("/v1/search", summary="Find records by what they say")
async def search(
    request: Request,
    principal: Annotated[Principal, needs("user")],
    text: Annotated[str, Query(min_length=1, max_length=1000, description="Upper and lower case are one.")],
    type: Annotated[list[str] | None, Query(description="Kinds of record; all by default.")] = None,  # noqa: A002
    platform: Annotated[str | None, Query()] = None,
    since: Annotated[datetime | None, Query(description="Inclusive, by the record's time.")] = None,
    until: Annotated[datetime | None, Query(description="Exclusive.")] = None,
    after: Annotated[int, Query(ge=0, le=2**62, description="`next` of the page before.")] = 0,
    limit: Annotated[int, Query(ge=1)] = 100,
) -> Response:
    """A page of records that hold a text, from the database and the archive, in the order of storing."""
    _check_types(type)
    context = context_of(request)
    limit = min(limit, context.settings.page_max_records)
    where = Filter(
        types=tuple(type or ()),
        platforms=_platforms(principal, platform),
        since=_aware(since),
        until=_aware(until),
        after=after,
        visible_to=viewer_of(principal),
    )
    found = await context.run(context.workspace.search, text, where, limit=limit)
    following = found[-1][0] if len(found) == limit else None
    return _page([record for _, record in found], following)


@router.get("/v1/records/{record_id}", summary="Read one record")
async def read_record(request: Request, record_id: str, principal: Annotated[Principal, needs("user")]) -> Response:
    """The record as it was written; 404 also for one that is somebody else's."""
    context = context_of(request)
    record = await context.run(visible, context.workspace.store, principal, record_id)
    if record is None:
        raise ApiError(404, "not_found", "there is no such record, or it is not yours")
    return Response(encode_json(record), media_type="application/json")


@router.get("/v1/interactions/{interaction_id}", summary="Read an interaction with all that belongs to it")
async def read_interaction(
    request: Request, interaction_id: str, principal: Annotated[Principal, needs("user")]
) -> Response:
    """The interaction with its steps, decisions, validations and feedback."""
    context = context_of(request)
    found = await context.run(related, context.workspace.store, principal, interaction_id)
    if found is None:
        raise ApiError(404, "not_found", "there is no such interaction, or it is not yours")
    whole = {name: [msgspec.Raw(encode_json(record)) for record in group] for name, group in found.items()}
    interaction = whole.pop("interaction")[0]
    return Response(msgspec.json.encode({"interaction": interaction, **whole}), media_type="application/json")


@router.get("/v1/quarantine", summary="Read what was refused")
async def read_quarantine(
    request: Request,
    principal: Annotated[Principal, needs("admin")],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """The newest refused items with their reasons, without their bytes (`tracemill quarantine --raw` shows those)."""
    del principal
    context = context_of(request)
    items = await context.run(context.workspace.quarantined, limit)
    rows: list[dict[str, Any]] = [
        {"time": item.time, "reason": item.reason, "message": item.message, "source": item.source, "id": item.id,
         "bytes": len(item.raw)}
        for item in items
    ]  # fmt: skip
    return Response(msgspec.json.encode({"data": rows}), media_type="application/json")


def _check_types(names: list[str] | None) -> None:
    if set(names or ()) - RECORD_TYPES.keys():
        raise ApiError(422, "invalid", f"no such type of record; there are {', '.join(RECORD_TYPES)}", param="type")


def _page(records: list[AnyRecord], following: int | None) -> Response:
    answer: dict[str, Any] = {"data": [msgspec.Raw(encode_json(record)) for record in records]}
    if following is not None:
        answer["next"] = following
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _platforms(principal: Principal, platform: str | None) -> tuple[str, ...]:
    if principal.project is None:
        return () if platform is None else (platform,)
    if platform not in (None, principal.project):
        raise ApiError(403, "wrong_project", "the key is bound to another project", param="platform")
    return (principal.project,)


def _record_id(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        bytes_of = bytes.fromhex(value.replace("-", ""))
    except ValueError:
        bytes_of = b""
    if len(bytes_of) != 16:
        raise ApiError(422, "invalid", "interaction_id is no UUID", param="interaction_id")
    return value


def _aware(moment: datetime | None) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        raise ApiError(422, "invalid", "a time needs its offset, such as 2026-01-31T12:00:00Z", param="since")
    return moment
