"""OpenTelemetry's protocol over HTTP: traces and logs, protobuf and JSON (OTLP specification 1.x)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from tracemill.capture.otlp.joining import Received, receive_logs, receive_spans
from tracemill.capture.otlp.parse import Parsed, parse_logs, parse_traces
from tracemill.core.errors import RecordError, TracemillError
from tracemill.core.ids import now
from tracemill.server.access import needs
from tracemill.server.bodies import read_body
from tracemill.server.context import Context, Principal, context_of
from tracemill.server.errors import ApiError, as_api_error
from tracemill.store.base import Refusal

router = APIRouter(tags=["OpenTelemetry"])
PROTOBUF, JSON = "application/x-protobuf", "application/json"
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
            JSON: {"schema": {"type": "object"}},
        },
    }
}
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 413: 8, 415: 3, 429: 8, 503: 14}
"""google.rpc codes by HTTP status."""


@router.post("/v1/traces", summary="Send spans (OTLP)", openapi_extra=_BODY)
@router.post("/api/public/otel/v1/traces", summary="Send spans (OTLP, Langfuse's path)", openapi_extra=_BODY)
async def traces(request: Request, principal: Annotated[Principal, needs("ingest")]) -> Response:
    """Spans of GenAI conventions, OpenInference, OpenLLMetry, Langfuse, MLflow and pydantic-ai become records.

    200 after the commit; spans that could not be read or were refused are counted in `partialSuccess`.
    """
    return await _answered(request, principal, logs=False)


@router.post("/v1/logs", summary="Send log events (OTLP)", openapi_extra=_BODY)
@router.post("/api/public/otel/v1/logs", summary="Send log events (OTLP, Langfuse's path)", openapi_extra=_BODY)
async def logs(request: Request, principal: Annotated[Principal, needs("ingest")]) -> Response:
    """Content of calls joins their spans, evaluations become feedback; other log records are passed over."""
    return await _answered(request, principal, logs=True)


async def _answered(request: Request, principal: Principal, *, logs: bool) -> Response:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind not in (PROTOBUF, JSON):
            raise ApiError(415, "unsupported_media_type", f"send {PROTOBUF} or {JSON}")
        rejected, reason = await _take(request, principal, logs=logs, json=kind == JSON)
    except TracemillError as error:
        if kind != PROTOBUF:
            raise
        answer = as_api_error(error)
        status = Status(code=_CODES.get(answer.status, 2), message=answer.message)
        return Response(status.SerializeToString(), answer.status, headers=answer.headers, media_type=PROTOBUF)
    return _success(rejected, reason, logs=logs, json=kind == JSON)


async def _take(request: Request, principal: Principal, *, logs: bool, json: bool) -> tuple[int, str]:
    """How many were rejected, and why."""
    context = context_of(request)
    body = await read_body(request)
    try:
        parsed = await context.run(parse_logs if logs else parse_traces, body, json=json)
    except RecordError as error:
        raise ApiError(400, "malformed", error.message) from None
    received = await context.run(_received, context, principal, parsed)
    if received.parts:
        await context.run(context.workspace.store.pending_put, received.parts)
    refused: tuple[Refusal, ...] = ()
    if received.records:
        result = await context.take(received.records, principal, source="otlp")
        refused = result.refused
    if received.done:
        await context.run(context.workspace.store.pending_drop, received.done)
    await context.honour(principal, received.private_users)
    context.metrics.ignored_spans.inc(received.ignored)
    reason = parsed.reason or (f"{refused[0].reason}: {refused[0].message}" if refused else "")
    return parsed.rejected + len(refused), reason


def _received(context: Context, principal: Principal, parsed: Parsed) -> Received:
    if parsed.logs:
        return receive_logs(parsed.logs, principal.project, now(), private=principal.private)
    pseudonymize, store = context.pseudonymizer.user, context.workspace.store
    return receive_spans(store, parsed.spans, pseudonymize, principal.project, now(), private=principal.private)


def _success(rejected: int, reason: str, *, logs: bool, json: bool) -> Response:
    if json:
        partial = {"rejectedLogRecords" if logs else "rejectedSpans": str(rejected), "errorMessage": reason}
        return Response(msgspec.json.encode({"partialSuccess": partial} if rejected else {}), media_type=JSON)
    if logs:
        partial_logs = ExportLogsPartialSuccess(rejected_log_records=rejected, error_message=reason)
        whole: Any = ExportLogsServiceResponse(partial_success=partial_logs if rejected else None)
    else:
        partial_spans = ExportTracePartialSuccess(rejected_spans=rejected, error_message=reason)
        whole = ExportTraceServiceResponse(partial_success=partial_spans if rejected else None)
    return Response(whole.SerializeToString(), media_type=PROTOBUF)
