"""What clients of Langfuse, Phoenix, MLflow and LiteLLM send beside their traces. Traces themselves come as OTLP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from tracemill.capture.ingest import Reject
from tracemill.capture.peers.langfuse import read_score
from tracemill.capture.peers.litellm import read_call
from tracemill.capture.peers.mlflow import read_assessment, trace_hex, without_names
from tracemill.capture.peers.phoenix import About, read_annotation, read_note
from tracemill.core.codec import encode_json_plain, parse_json
from tracemill.core.errors import RecordError
from tracemill.core.foreign import trace_record_id
from tracemill.core.ids import derived_id, now
from tracemill.core.records import SCHEMA_VERSION, AnyRecord, Step
from tracemill.server.access import needs
from tracemill.server.bodies import read_body, read_json
from tracemill.server.context import Context, Principal, context_of
from tracemill.server.errors import ApiError
from tracemill.store.base import Refusal

router = APIRouter(tags=["clients of other tools"])
Ingest = Annotated[Principal, needs("ingest")]
_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": {}}}}}
PHOENIX_VERSION, MLFLOW_VERSION = "20.26.1", "3.17.2"
"""The servers of those tools that their clients are told to speak to; what was read of each is of these versions."""
_MLFLOW = "/api/3.0/mlflow/traces"


def _entries(
    entries: Sequence[Any], read: Callable[[Any], AnyRecord], place: str
) -> tuple[list[AnyRecord], list[Reject], list[str]]:
    """Each entry by itself: records, what was refused, and the sentence why."""
    records: list[AnyRecord] = []
    rejects: list[Reject] = []
    for index, entry in enumerate(entries):
        try:
            records.append(read(entry))
        except (msgspec.ValidationError, ValueError) as error:
            rejects.append(Reject(f"{place} {index}", "invalid", str(error), encode_json_plain(entry)))
    return records, rejects, [f"{reject.place}: {reject.message}" for reject in rejects]


async def _stored(
    context: Context, principal: Principal, records: Sequence[AnyRecord], rejects: Sequence[Reject], source: str
) -> tuple[Refusal, ...]:
    """Store records whose time may be that of their arrival: of two that say the same, the first one stays."""
    await context.quarantine(rejects, source)
    known = await context.run(context.workspace.store.known, [record.id for record in records]) if records else set()
    fresh = {record.id: record for record in reversed(records) if record.id not in known}
    if not fresh:
        return ()
    return (await context.take(list(fresh.values()), principal, source=source)).refused


def _all_or_422(records: Sequence[AnyRecord], reasons: Sequence[str]) -> None:
    if reasons and not records:
        raise ApiError(422, "invalid", reasons[0])


# -- Langfuse


@router.post("/api/public/scores", summary="Send scores (Langfuse)", openapi_extra=_BODY)
async def langfuse_scores(request: Request, principal: Ingest) -> Response:
    """A list of scores or one. 202 when all were taken, 207 with `accepted`, `rejected` and `errors` when some were."""
    context = context_of(request)
    body = await read_json(request)
    entries = body if isinstance(body, list) else [body]
    records, rejects, reasons = _entries(entries, lambda entry: read_score(entry, principal.project), "score")
    refused = await _stored(context, principal, records, rejects, "langfuse")
    reasons += [f"{refusal.reason}: {refusal.message}" for refusal in refused]
    if not isinstance(body, list):
        _all_or_422(records, reasons)
        return _json({"id": body.get("id") or records[0].id})
    if not reasons:
        return _json({"message": "Accepted"}, 202)
    answer = {"accepted": len(entries) - len(reasons), "rejected": len(reasons)}
    return _json({**answer, "errors": [{"message": reason} for reason in reasons]}, 207)


@router.get("/api/public/projects", summary="Which project a key belongs to (Langfuse)")
async def langfuse_projects(principal: Ingest) -> Response:
    """What Langfuse's client asks to check its key: the key's own project and nothing else."""
    name = principal.project or "default"
    project = {"id": name, "name": name, "metadata": {}, "organization": {"id": "tracemill", "name": "tracemill"}}
    return _json({"data": [project]})


@router.get("/api/public/health", summary="The server answers (Langfuse)")
async def langfuse_health(principal: Ingest) -> Response:
    """What Langfuse's client asks before it sends."""
    del principal
    return _json({"status": "OK", "version": "3"})


# -- Phoenix


@router.get("/arize_phoenix_version", summary="The version whose requests are understood (Phoenix)")
async def phoenix_version(principal: Ingest) -> Response:
    """Phoenix's client asks before it sends what older servers did not take."""
    del principal
    return Response(PHOENIX_VERSION, media_type="text/plain")


@router.post("/v1/span_annotations", summary="Annotate spans (Phoenix)", openapi_extra=_BODY)
async def phoenix_spans(request: Request, principal: Ingest, sync: Annotated[bool, Query()] = False) -> Response:
    """Annotations of spans, by the span's OpenTelemetry id. They may come before their span."""
    return await _phoenix(request, principal, "span", sync)


@router.post("/v1/trace_annotations", summary="Annotate traces (Phoenix)", openapi_extra=_BODY)
async def phoenix_traces(request: Request, principal: Ingest, sync: Annotated[bool, Query()] = False) -> Response:
    """Annotations of whole traces."""
    return await _phoenix(request, principal, "trace", sync)


@router.post("/v1/session_annotations", summary="Annotate sessions (Phoenix)", openapi_extra=_BODY)
async def phoenix_sessions(request: Request, principal: Ingest, sync: Annotated[bool, Query()] = False) -> Response:
    """Annotations of sessions: of the conversation as a whole."""
    return await _phoenix(request, principal, "session", sync)


@router.post("/v1/document_annotations", summary="Annotate retrieved documents (Phoenix)", openapi_extra=_BODY)
async def phoenix_documents(request: Request, principal: Ingest, sync: Annotated[bool, Query()] = False) -> Response:
    """Annotations of documents a span retrieved, by their position in `extra`."""
    return await _phoenix(request, principal, "document", sync)


@router.post("/v1/span_notes", summary="Note something on a span (Phoenix)", openapi_extra=_BODY)
async def phoenix_note(request: Request, principal: Ingest) -> Response:
    """A note is a comment."""
    body = await read_json(request)
    entry = body.get("data") if isinstance(body, dict) else None
    records, rejects, reasons = _entries([entry], lambda one: read_note(one, principal.project), "note")
    await _stored(context_of(request), principal, records, rejects, "phoenix")
    _all_or_422(records, reasons)
    return _json({"data": {"id": records[0].id}})


async def _phoenix(request: Request, principal: Principal, about: About, sync: bool) -> Response:
    body = await read_json(request)
    entries = body.get("data") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        raise ApiError(422, "invalid", "the body has a list of annotations under data", param="data")
    records, rejects, reasons = _entries(
        entries, lambda entry: read_annotation(entry, about, principal.project), "annotation"
    )
    await _stored(context_of(request), principal, records, rejects, "phoenix")
    if reasons:
        raise ApiError(422, "invalid", reasons[0], hint=f"{len(records)} of {len(entries)} annotations were stored.")
    return _json({"data": [{"id": record.id} for record in records] if sync else []})


# -- MLflow


@router.get("/version", summary="The version whose requests are understood (MLflow)")
async def mlflow_version(principal: Ingest) -> Response:
    """MLflow's client asks whether spans are taken as OTLP, which they are since 3.6."""
    del principal
    return Response(MLFLOW_VERSION, media_type="text/plain")


@router.post(_MLFLOW, summary="Begin a trace (MLflow)", openapi_extra=_BODY)
async def mlflow_trace(request: Request, principal: Ingest) -> Response:
    """What MLflow says of a trace beside its spans (tags, metadata, previews) is kept as a step of it."""
    body = await read_json(request)
    trace = body.get("trace") if isinstance(body, dict) else None
    info = trace.get("trace_info") if isinstance(trace, dict) else None
    if not isinstance(info, dict) or not isinstance(info.get("trace_id"), str):
        raise ApiError(422, "invalid", "the body has trace.trace_info.trace_id", param="trace")
    trace_id = trace_hex(info["trace_id"])
    kept = without_names(info, context_of(request).pseudonymizer.user)
    step = Step(
        id=derived_id("mlflow-info", trace_id, encode_json_plain(kept).hex()),
        time=now(),
        schema_version=SCHEMA_VERSION,
        producer="mlflow",
        sequence=0,
        interaction_id=trace_record_id(trace_id),
        trace_id=trace_id,
        kind="trace_info",
        name="mlflow",
        outputs=kept,
    )
    await _stored(context_of(request), principal, [step], [], "mlflow")
    # Tells the client that spans come here as OTLP, so that it uploads no artifact.
    tags = {**(info.get("tags") or {}), "mlflow.trace.spansLocation": "TRACKING_STORE"}
    return _json({"trace": {"trace_info": {**info, "tags": tags}}})


@router.post(_MLFLOW + "/{trace_id}/assessments", summary="Assess a trace or span (MLflow)", openapi_extra=_BODY)
async def mlflow_assess(request: Request, trace_id: str, principal: Ingest) -> Response:
    """Feedback and issues; an expectation is a correction."""
    return await _assessed(request, principal, trace_id, None)


@router.patch(
    _MLFLOW + "/{trace_id}/assessments/{assessment_id}", summary="Change an assessment (MLflow)", openapi_extra=_BODY
)
async def mlflow_reassess(request: Request, trace_id: str, assessment_id: str, principal: Ingest) -> Response:
    """The new one is kept beside the old one, under the same `foreign_id`."""
    return await _assessed(request, principal, trace_id, assessment_id)


async def _assessed(request: Request, principal: Principal, trace_id: str, assessment_id: str | None) -> Response:
    body = await read_json(request)
    entry = body.get("assessment") if isinstance(body, dict) else None
    if not isinstance(entry, dict):
        raise ApiError(422, "invalid", "the body has an assessment", param="assessment")
    identity = assessment_id or entry.get("assessment_id")
    entry = {**entry, **({"assessment_id": identity} if identity else {})}
    if assessment_id is not None:
        entry.setdefault("assessment_name", "assessment")
    records, rejects, reasons = _entries([entry], lambda one: read_assessment(one, trace_id, principal.project), "")
    await _stored(context_of(request), principal, records, rejects, "mlflow")
    _all_or_422(records, reasons)
    return _json({"assessment": {**entry, "assessment_id": identity or records[0].id, "trace_id": trace_id}})


# -- LiteLLM


@router.post("/litellm/v1/logs", summary="Send logged calls (LiteLLM's generic_api)", openapi_extra=_BODY)
async def litellm_logs(request: Request, principal: Ingest) -> Response:
    """A JSON array, lines of JSON, or one call: each a StandardLoggingPayload. Each is judged by itself."""
    context = context_of(request)
    entries = _calls(await read_body(request))
    pseudonymize = context.pseudonymizer.user
    records, rejects, reasons = _entries(entries, lambda e: read_call(e, pseudonymize, principal.project), "call")
    refused = await _stored(context, principal, records, rejects, "litellm")
    reasons += [f"{refusal.reason}: {refusal.message}" for refusal in refused]
    return _json({"accepted": len(entries) - len(reasons), "rejected": len(reasons), "errors": reasons[:20]})


def _calls(body: bytes) -> list[Any]:
    try:
        found = parse_json(body)
    except RecordError:
        try:
            return [parse_json(line) for line in body.splitlines() if line.strip()]
        except RecordError as error:
            raise ApiError(
                400, "malformed_json", f"the body is neither JSON nor lines of it: {error.message}"
            ) from None
    return found if isinstance(found, list) else [found]


def _json(value: Any, status: int = 200) -> Response:
    return Response(encode_json_plain(value), status, media_type="application/json")
