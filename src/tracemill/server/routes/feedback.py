"""What people say: feedback, validations, whether there is enough of it, and their right to have it removed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Annotated, Any

import anyio.to_thread
import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from tracemill.core.ids import now
from tracemill.core.records import AnyRecord, Interaction
from tracemill.feedback.submit import Submission, WorkflowSubmission
from tracemill.server.access import needs
from tracemill.server.bodies import decode_as, read_body
from tracemill.server.context import Context, Principal, context_of
from tracemill.server.errors import ApiError
from tracemill.server.reading import visible
from tracemill.workspace import Workspace

router = APIRouter(tags=["feedback"])
_ROWS_AT_ONCE = 200


def _body(kind: type[Any]) -> dict[str, Any]:
    """The OpenAPI description of a body."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
    inner = components.get(kind.__name__, schema)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inner}}}}


@router.post("/api/feedback/submit", summary="Say what an answer was worth", openapi_extra=_body(Submission))
async def submit(request: Request, principal: Annotated[Principal, needs("user", "ingest")]) -> dict[str, str]:
    """Thumbs, edits and reports of an interaction, also before the interaction itself has arrived.

    A person speaks of their own interactions only. Contradicting feedback is all kept.
    """
    context = context_of(request)
    said = decode_as(await read_body(request), Submission)
    if (problem := said.problem()) is not None:
        raise ApiError(422, "invalid", problem[1], param=problem[0])
    await _may_speak_of(context, principal, said.interaction_id)
    user = principal.user
    if user is None and said.user_id is not None:
        user = context.pseudonymizer.user(said.user_id)
    record = said.record(user, principal.project)
    await _stored(context, principal, record)
    return {"feedback_id": record.id, "status": "stored"}


@router.post("/api/workflow/validate", summary="Check a workflow", openapi_extra=_body(WorkflowSubmission))
async def validate(request: Request, principal: Annotated[Principal, needs("user", "ingest")]) -> Response:
    """Score from 0 to 100, errors, warnings, and what the user changed; kept as a Validation of the interaction."""
    context = context_of(request)
    asked = decode_as(await read_body(request), WorkflowSubmission)
    await _may_speak_of(context, principal, asked.interaction_id)
    record, checked = await context.run(asked.record, principal.project)
    await _stored(context, principal, record)
    answer = {
        "validation_id": record.id,
        "valid": checked.passed,
        "score": checked.score,
        "errors": checked.errors,
        "warnings": checked.warnings,
        "user_edited": record.user_edited,
        "diff": record.difference,
        "validation_time_ms": record.duration_ms,
    }
    return Response(msgspec.json.encode(answer), media_type="application/json")


async def _may_speak_of(context: Context, principal: Principal, interaction_id: str | None) -> None:
    """Raise ApiError (404) when a person names an interaction that is known and not theirs."""
    if interaction_id is None or principal.user is None or principal.sees_everything:
        return
    known = await context.run(context.workspace.store.known, [interaction_id])
    if known and await context.run(visible, context.workspace.store, principal, interaction_id) is None:
        raise ApiError(404, "not_found", "there is no such interaction, or it is not yours", param="interaction_id")


async def _stored(context: Context, principal: Principal, record: AnyRecord) -> None:
    result = await context.take([record], principal, source="feedback")
    if result.refused:
        raise ApiError(422, result.refused[0].reason, result.refused[0].message)


@router.get("/api/feedback/stats", summary="What is stored, what it costs, and whether it is enough")
async def stats(request: Request, principal: Annotated[Principal, needs("user")]) -> Response:
    """Sums over everybody, without content: overview, storage, costs, platforms, readiness, recommendations."""
    context = context_of(request)
    found = await context.run(context.workspace.storage_statistics, principal.project)
    return Response(msgspec.json.encode(found), media_type="application/json")


@router.get("/api/feedback/readiness/{platform}", summary="Whether a platform's records are enough to train on")
async def readiness(request: Request, platform: str, principal: Annotated[Principal, needs("user")]) -> dict[str, Any]:
    """Five gates, each with its value; docs/feedback.md has the formulas."""
    _only_own_project(principal, platform)
    context = context_of(request)
    found = await context.run(context.workspace.readiness, platform)
    return found.as_dict()


@router.post("/api/feedback/archive", summary="Move old records to cold storage")
async def archive(
    request: Request,
    principal: Annotated[Principal, needs("admin")],
    days_old: Annotated[
        int | None,
        Query(ge=0, le=36500, description="Records older than so many days; by default as the settings say."),
    ] = None,
    dry_run: Annotated[bool, Query(description="Only say what would be moved.")] = False,
) -> dict[str, Any]:
    """Answers when it is done, with the numbers of records before and after. Stopped midway, what is archived stays so; ask
    again for the rest.

    A key that is bound to a project archives that project's records only.
    """
    context = context_of(request)
    platforms = () if principal.project is None else (principal.project,)
    before = await context.run(_overview, context.workspace, principal.project)
    report = await context.run(
        context.workspace.archive, days_old=days_old, platforms=platforms, dry_run=dry_run, actor=principal.name
    )
    after = before if dry_run else await context.run(_overview, context.workspace, principal.project)
    archived = 0 if dry_run else report.records
    return {"days_old": days_old, "archived": archived, "before": before, "after": after, **report.to_plain()}


def _overview(workspace: Workspace, platform: str | None) -> dict[str, Any]:
    """How many records there are, in the database and in the archive."""
    overview = workspace.storage_statistics(platform)["overview"]
    return {name: overview[name] for name in ("total_records", "active_records", "archived_records")}


@router.get("/api/feedback/export/{platform}", summary="Download training data (OpenAI chat JSONL)")
async def export(
    request: Request,
    platform: str,
    principal: Annotated[Principal, needs("admin")],
    success_only: Annotated[bool, Query(description="Leave out what did not succeed.")] = True,
    with_feedback_only: Annotated[bool, Query(description="Leave out what nobody said anything of.")] = False,
) -> StreamingResponse:
    """One conversation a line, streamed. Interactions without an answer, or that the format cannot hold, are left out."""
    _only_own_project(principal, platform)
    context = context_of(request)
    detail = {"success_only": success_only, "with_feedback_only": with_feedback_only}
    await context.run(
        partial(context.workspace.audit, "training_data.download", platform, actor=principal.name, **detail)
    )
    rows = context.workspace.openai_rows(platform, success_only=success_only, with_feedback_only=with_feedback_only)
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", platform)[:80] or "platform"
    name = f"training_data_{safe}_{now():%Y%m%d}.jsonl"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_in_chunks(rows), media_type="application/jsonl", headers=headers)


async def _in_chunks(rows: Iterator[bytes]) -> AsyncIterator[bytes]:
    def some() -> bytes:
        return b"".join(row for row, _ in zip(rows, range(_ROWS_AT_ONCE), strict=False))

    while chunk := await anyio.to_thread.run_sync(some):
        yield chunk


@router.delete("/api/feedback/data/{interaction_id}", summary="Remove an interaction and all that belongs to it")
async def remove(
    request: Request,
    response: Response,
    interaction_id: str,
    principal: Annotated[Principal, needs("user")],
    reason: Annotated[str, Query(max_length=500, description="Why, for the receipt and the audit log.")] = "",
) -> dict[str, Any]:
    """By its owner or an admin, from every store; the answer holds the signed receipt.

    Steps, decisions, validations, feedback and calls inside it go with it. 202 when a legal hold defers it.
    """
    context = context_of(request)
    record = await context.run(visible, context.workspace.store, principal, interaction_id)
    own = principal.user is not None and isinstance(record, Interaction) and record.user is not None
    owner = own and record.user.pseudonym == principal.user.pseudonym  # type: ignore[union-attr]
    if not isinstance(record, Interaction) or not (owner or principal.can("admin")):
        raise ApiError(404, "not_found", "there is no such interaction, or it is not yours")
    receipt = await context.run(
        partial(context.workspace.erase, "interaction", interaction_id, reason=reason, actor=principal.name)
    )
    if receipt.status == "deferred":
        response.status_code = 202
    return {
        "interaction_id": interaction_id,
        "status": receipt.status,
        "deleted": sum(receipt.records.values()) if receipt.complete else 0,
        "records": receipt.records,
        "receipt": msgspec.to_builtins(receipt),
    }


def _only_own_project(principal: Principal, platform: str) -> None:
    if principal.project is not None and principal.project != platform:
        raise ApiError(403, "wrong_project", "the key is bound to another project", param="platform")
