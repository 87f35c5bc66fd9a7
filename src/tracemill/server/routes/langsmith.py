"""What LangSmith's clients ask for and send: runs and feedback, at the paths of its server and under ``/api/v1``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from tracemill.capture.langsmith.joining import feedback_of, receive
from tracemill.capture.langsmith.multipart import Body, Piece, canonical_id, read_multipart
from tracemill.core.codec import encode_json_plain
from tracemill.core.errors import RecordError
from tracemill.core.ids import EPOCH, derived_id, now
from tracemill.core.records import Feedback
from tracemill.server.access import needs
from tracemill.server.bodies import read_body, read_json
from tracemill.server.context import Context, Principal, context_of
from tracemill.server.errors import ApiError

router = APIRouter(tags=["LangSmith"])
Ingest = Annotated[Principal, needs("ingest")]
VERSION = "0.10.0"
"""The version of LangSmith's server that its clients are told to speak to."""
_JSON: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
}
_MULTIPART: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {"type": "object"}}}}
}


@router.get("/info", summary="What the server takes (LangSmith)")
@router.get("/api/v1/info", summary="What the server takes (LangSmith)")
async def info(request: Request, principal: Ingest) -> Response:
    """The clients ask this first, and send multipart bodies in batches of the sizes stated here, without zstd."""
    del principal
    batches = {
        "use_multipart_endpoint": True,
        "scale_up_qsize_trigger": 1000,
        "scale_up_nthreads_limit": 4,
        "scale_down_nempty_trigger": 4,
        "size_limit": 100,
        "size_limit_bytes": min(context_of(request).settings.body_max_bytes, 20 * 1024 * 1024),
    }
    return _json({"version": VERSION, "batch_ingest_config": batches, "instance_flags": {}})


@router.post("/runs/multipart", summary="Send runs and feedback (LangSmith)", openapi_extra=_MULTIPART)
@router.post("/api/v1/runs/multipart", summary="Send runs and feedback (LangSmith)", openapi_extra=_MULTIPART)
async def runs_multipart(request: Request, principal: Ingest) -> Response:
    """Parts `post.{id}` and `patch.{id}` with their fields, `attachment.{id}.{name}` and `feedback.{id}`.

    202 after the commit. A part that cannot be used is refused alone and counted under `rejected`.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise ApiError(415, "unsupported_media_type", "send multipart/form-data")
    context = context_of(request)
    raw = await read_body(request)
    try:
        body = await context.run(read_multipart, raw, content_type)
    except RecordError as error:
        status = 413 if error.reason == "too_large" else 400
        raise ApiError(status, error.reason, error.message) from None
    return await _taken(context, principal, body)


@router.post("/runs/batch", summary="Send runs in a batch (LangSmith)", openapi_extra=_JSON)
@router.post("/api/v1/runs/batch", summary="Send runs in a batch (LangSmith)", openapi_extra=_JSON)
async def runs_batch(request: Request, principal: Ingest) -> Response:
    """`{"post": […], "patch": […]}`: runs that begin, and runs that end. LiteLLM's callback sends this."""
    found = await read_json(request)
    if not isinstance(found, dict):
        raise ApiError(422, "invalid", "the body is an object with post and patch")
    body = Body()
    for operation in ("post", "patch"):
        entries = found.get(operation) or []
        if not isinstance(entries, list):
            raise ApiError(422, "invalid", f"{operation} is a list of runs", param=operation)
        for index, entry in enumerate(entries):
            _add_run(body, operation, entry, f"{operation} {index}")
    return await _taken(context_of(request), principal, body)


@router.post("/runs", summary="Begin a run (LangSmith)", openapi_extra=_JSON)
@router.post("/api/v1/runs", summary="Begin a run (LangSmith)", openapi_extra=_JSON)
async def run_begins(request: Request, principal: Ingest) -> Response:
    """One run, whole or only begun."""
    body = Body()
    _add_run(body, "post", await read_json(request), "run")
    return await _taken(context_of(request), principal, body)


@router.patch("/runs/{run_id}", summary="End or change a run (LangSmith)", openapi_extra=_JSON)
@router.patch("/api/v1/runs/{run_id}", summary="End or change a run (LangSmith)", openapi_extra=_JSON)
async def run_ends(request: Request, run_id: str, principal: Ingest) -> Response:
    """What is to be said of a run beside its beginning."""
    body = Body()
    entry = await read_json(request)
    _add_run(body, "patch", {**entry, "id": run_id} if isinstance(entry, dict) else entry, "run")
    return await _taken(context_of(request), principal, body)


@router.post("/api/v1/feedback", summary="Say what a run was worth (LangSmith)", openapi_extra=_JSON)
async def feedback(request: Request, principal: Ingest) -> Response:
    """Feedback on a run: `key`, `score`, `value`, `comment`, `correction`. It may come before its run.

    LangSmith's own clients, which name themselves in `User-Agent`, may send it to `/feedback` too.
    """
    entry = await read_json(request)
    body = Body(feedback=[entry])
    await _taken(context_of(request), principal, body)
    return _json(entry)


class _FromClient(APIRoute):
    """A route for LangSmith's clients alone, at a path where others find another interface."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the path, the method and the sender fit."""
        agent = next((value for name, value in scope.get("headers", ()) if name == b"user-agent"), b"")
        if not agent.lower().startswith(b"langsmith"):
            return Match.NONE, {}
        return super().matches(scope)


router.add_api_route("/feedback", feedback, methods=["POST"], include_in_schema=False, route_class_override=_FromClient)


@router.get("/sessions", summary="The key's own project (LangSmith)")
@router.get("/api/v1/sessions", summary="The key's own project (LangSmith)")
async def projects(principal: Ingest, name: Annotated[str | None, Query(max_length=500)] = None) -> Response:
    """The project the key is bound to; a key that is bound to none is told back the name it asked for."""
    own = principal.project or name or "default"
    return _json([_project(own)] if name in (None, own) else [])


@router.post("/sessions", summary="Begin a project (LangSmith)", openapi_extra=_JSON)
@router.post("/api/v1/sessions", summary="Begin a project (LangSmith)", openapi_extra=_JSON)
async def begin_project(request: Request, principal: Ingest) -> Response:
    """Projects need not be made here: answers with the key's own, or the name it asked for, and stores nothing."""
    entry = await read_json(request)
    name = entry.get("name") if isinstance(entry, dict) else None
    return _json(_project(principal.project or (name if isinstance(name, str) and name else "default")))


def _project(name: str) -> dict[str, Any]:
    return {
        "id": derived_id("langsmith-project", name),
        "tenant_id": derived_id("langsmith-tenant"),
        "name": name,
        "start_time": EPOCH.isoformat(),
        "reference_dataset_id": None,
    }


def _add_run(body: Body, operation: str, entry: Any, place: str) -> None:
    try:
        if not isinstance(entry, dict):
            raise ValueError("a run is a JSON object")
        identity = canonical_id(entry.get("id"))
    except ValueError as error:
        body.refuse(place, str(error), encode_json_plain(entry))
        return
    body.pieces.append(Piece("post" if operation == "post" else "patch", identity, {**entry, "id": identity}))


async def _taken(context: Context, principal: Principal, body: Body) -> Response:
    """Store what is usable, keep the rest with the reasons. 422 when nothing was."""
    records = _feedback(context, principal, body)
    pseudonymize, store = context.pseudonymizer.user, context.workspace.store
    received = await context.run(
        receive, store, body.pieces, pseudonymize, principal.project, now(), private=principal.private
    )
    await context.quarantine(body.rejects, "langsmith")
    if received.parts:
        await context.run(store.pending_put, received.parts)
        await context.honour(principal, received.private_users)
    known = await context.run(store.known, [record.id for record in records]) if records else set()
    fresh = {record.id: record for record in records if record.id not in known}
    reasons = [f"{reject.place}: {reject.message}" for reject in body.rejects]
    if fresh or received.records:
        result = await context.take([*received.records, *fresh.values()], principal, source="langsmith")
        reasons += [f"{refusal.reason}: {refusal.message}" for refusal in result.refused]
    if reasons and not records and not body.pieces:
        raise ApiError(422, "invalid", reasons[0])
    return _json({"message": "accepted", "rejected": len(reasons), "errors": reasons[:20]}, 202)


def _feedback(context: Context, principal: Principal, body: Body) -> list[Feedback]:
    made: list[Feedback] = []
    for index, entry in enumerate(body.feedback):
        try:
            made.append(feedback_of(entry, context.pseudonymizer.user, principal.project))
        except (ValueError, RecordError) as error:
            body.refuse(f"feedback {index}", str(error), encode_json_plain(entry))
    return made


def _json(value: Any, status: int = 200) -> Response:
    return Response(encode_json_plain(value), status, media_type="application/json")
