"""OTLP requests, protobuf and JSON, as plain spans and log events.

OTLP/JSON is protobuf's JSON with ids in hex instead of base64 (OTLP specification 1.x, "JSON Protobuf Encoding"), which
protobuf's own parser misreads; it is decoded here by hand. Each span is judged by itself: one that cannot be read is counted
and leaves the others alone. Attribute keys come from strangers and are only ever data.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tracemill.core.codec import parse_json
from tracemill.core.errors import RecordError
from tracemill.core.ids import from_microseconds

MAX_DEPTH = 30
"""Values nested deeper than this inside an attribute are cut off; instrumentations write JSON text instead of nesting."""
_LAST = 253_402_300_799_999_999  # the end of the year 9999 in microseconds
_ERROR_STATUS = 2


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a span."""

    name: str
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Span:
    """One span. Ids are lower-case hex, ``parent_id`` None for the root of a trace."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start: datetime
    duration_ms: float | None
    attributes: dict[str, Any]
    events: list[Event]
    failed: bool
    status: str
    resource: dict[str, Any]
    scope: str


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One log record; ``name`` is its event's name, the ids those of the span it was emitted in, where there was one.

    ``nanoseconds`` is the whole time it states: the messages of one call follow each other within a microsecond.
    """

    name: str
    trace_id: str | None
    span_id: str | None
    time: datetime
    nanoseconds: int
    attributes: dict[str, Any]
    body: Any
    resource: dict[str, Any]


@dataclass
class Parsed:
    """What a request holds, and how many of its spans or log records could not be read, with the first reason."""

    spans: list[Span] = field(default_factory=list)
    logs: list[LogEvent] = field(default_factory=list)
    rejected: int = 0
    reason: str = ""

    def reject(self, error: Exception) -> None:
        """Count one that cannot be read."""
        self.rejected += 1
        self.reason = self.reason or str(error)


def parse_traces(body: bytes, *, json: bool) -> Parsed:
    """The spans of an ExportTraceServiceRequest. Raises RecordError (``malformed``) when the body is none."""
    parsed = Parsed()
    groups = _json_groups(body, "resourceSpans", "scopeSpans", "spans") if json else _packed_spans(body)
    for raw, read, resource, scope in groups:
        try:
            parsed.spans.append(read(raw, resource, scope))
        except (ValueError, TypeError, OverflowError, KeyError, AttributeError) as error:
            parsed.reject(error)
    return parsed


def parse_logs(body: bytes, *, json: bool) -> Parsed:
    """The log records of an ExportLogsServiceRequest. Raises RecordError (``malformed``) when the body is none."""
    parsed = Parsed()
    groups = _json_groups(body, "resourceLogs", "scopeLogs", "logRecords") if json else _packed_logs(body)
    for raw, read, resource, scope in groups:
        try:
            parsed.logs.append(read(raw, resource, scope))
        except (ValueError, TypeError, OverflowError, KeyError, AttributeError) as error:
            parsed.reject(error)
    return parsed


Group = tuple[Any, Callable[[Any, dict[str, Any], str], Any], dict[str, Any], str]


def _packed_spans(body: bytes) -> Iterator[Group]:
    request = ExportTraceServiceRequest()
    _merge(request, body)
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield span, _span, resource, scope_spans.scope.name


def _packed_logs(body: bytes) -> Iterator[Group]:
    request = ExportLogsServiceRequest()
    _merge(request, body)
    for resource_logs in request.resource_logs:
        resource = _attributes(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                yield record, _log, resource, scope_logs.scope.name


def _merge(request: Any, body: bytes) -> None:
    try:
        request.ParseFromString(body)
    except (DecodeError, RecursionError) as error:
        raise RecordError("malformed", f"the body is no OTLP protobuf message: {error}") from None


def _span(span: Any, resource: dict[str, Any], scope: str) -> Span:
    end, start = span.end_time_unix_nano, span.start_time_unix_nano
    return Span(
        _identity(span.trace_id.hex(), 32),
        _identity(span.span_id.hex(), 16),
        _identity(span.parent_span_id.hex(), 16) if span.parent_span_id.strip(b"\0") else None,
        span.name,
        _moment(start),
        (end - start) / 1e6 if end >= start > 0 else None,
        _attributes(span.attributes),
        [Event(event.name, _attributes(event.attributes)) for event in span.events],
        span.status.code == _ERROR_STATUS,
        span.status.message,
        resource,
        scope,
    )


def _log(record: Any, resource: dict[str, Any], scope: str) -> LogEvent:
    del scope
    attributes = _attributes(record.attributes)
    name = getattr(record, "event_name", "") or attributes.pop("event.name", "")
    time = record.time_unix_nano or record.observed_time_unix_nano
    return LogEvent(
        str(name),
        record.trace_id.hex() or None,
        record.span_id.hex() or None,
        _moment(time),
        time,
        attributes,
        _value(record.body),
        resource,
    )


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any, depth: int = 0) -> Any:
    kind = value.WhichOneof("value")
    if kind is None or depth > MAX_DEPTH:
        return None
    if kind == "array_value":
        return [_value(item, depth + 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value, depth + 1) for pair in value.kvlist_value.values}
    return getattr(value, kind)


def _moment(nanoseconds: int) -> datetime:
    if not 0 <= nanoseconds // 1000 <= _LAST:
        raise ValueError("a time beyond the year 9999")
    return from_microseconds(nanoseconds // 1000)


def _identity(text: str, length: int) -> str:
    found = text.lower()
    if len(found) != length or not found.strip("0") or not set(found) <= set("0123456789abcdef"):
        raise ValueError(f"an id of {length} hex digits is missing or malformed")
    return found


def _json_groups(body: bytes, outer: str, middle: str, inner: str) -> Iterator[Group]:
    request = parse_json(body)
    if not isinstance(request, dict):
        raise RecordError("malformed", "the body is no OTLP/JSON object")
    read = _json_span if inner == "spans" else _json_log
    for group in _objects(request.get(outer)):
        resource = _json_attributes((group.get("resource") or {}).get("attributes"))
        for scoped in _objects(group.get(middle)):
            scope = scoped.get("scope")
            name = str(scope.get("name", "")) if isinstance(scope, dict) else ""
            entries = scoped.get(inner)
            for entry in entries if isinstance(entries, list) else ():
                yield entry, read, resource, name


def _objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _json_span(span: dict[str, Any], resource: dict[str, Any], scope: str) -> Span:
    start, end = _integer(span.get("startTimeUnixNano")), _integer(span.get("endTimeUnixNano"))
    parent = str(span.get("parentSpanId") or "")
    status = span.get("status")
    status = status if isinstance(status, dict) else {}
    return Span(
        _identity(str(span.get("traceId", "")), 32),
        _identity(str(span.get("spanId", "")), 16),
        _identity(parent, 16) if parent.strip("0") else None,
        str(span.get("name", "")),
        _moment(start),
        (end - start) / 1e6 if end >= start > 0 else None,
        _json_attributes(span.get("attributes")),
        [
            Event(str(event.get("name", "")), _json_attributes(event.get("attributes")))
            for event in _objects(span.get("events"))
        ],
        status.get("code") in (_ERROR_STATUS, "STATUS_CODE_ERROR"),
        str(status.get("message", "")),
        resource,
        scope,
    )


def _json_log(record: dict[str, Any], resource: dict[str, Any], scope: str) -> LogEvent:
    del scope
    attributes = _json_attributes(record.get("attributes"))
    name = record.get("eventName") or attributes.pop("event.name", "")
    time = _integer(record.get("timeUnixNano")) or _integer(record.get("observedTimeUnixNano"))
    return LogEvent(
        str(name),
        str(record["traceId"]).lower() if record.get("traceId") else None,
        str(record["spanId"]).lower() if record.get("spanId") else None,
        _moment(time),
        time,
        attributes,
        _json_value(record.get("body")),
        resource,
    )


def _json_attributes(pairs: Any) -> dict[str, Any]:
    return {str(pair.get("key")): _json_value(pair.get("value")) for pair in _objects(pairs)}


def _json_value(value: Any, depth: int = 0) -> Any:
    """An AnyValue: an object with one of seven names, of which integers may be text and bytes are base64."""
    if not isinstance(value, dict) or depth > MAX_DEPTH:
        return None
    for name, content in value.items():
        match name:
            case "intValue":
                return _integer(content)
            case "bytesValue":
                return _bytes(content)
            case "arrayValue":
                items = content.get("values") if isinstance(content, dict) else None
                return [_json_value(item, depth + 1) for item in items or ()]
            case "kvlistValue":
                pairs = content.get("values") if isinstance(content, dict) else None
                return {str(pair.get("key")): _json_value(pair.get("value"), depth + 1) for pair in _objects(pairs)}
            case "stringValue" | "boolValue" | "doubleValue":
                return content
    return None


def _integer(value: Any) -> int:
    if value is None:
        return 0
    text = str(value)
    if len(text) > 20:
        raise ValueError("an integer beyond 64 bits")
    return int(text)


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(str(value), validate=True)
    except binascii.Error as error:
        raise ValueError("bytes that are no base64") from error
