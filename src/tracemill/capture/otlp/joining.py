"""What of a request becomes records at once, and what waits for something that comes in another request.

Two things wait. A call of a model without its messages waits for log events, which carry them in the older generation of the
conventions; events wait for their span. And the root of a trace that says nothing of a model (a web server's, most often)
becomes the trace's Interaction only where some other span of the trace does. Parts that wait are stored before the request
is answered; :func:`settle` makes records of them, the same whatever came first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from tracemill.capture.annotations import annotation
from tracemill.capture.otlp.assemble import (
    Pseudonymize,
    awaits_content,
    read_span,
    record_id_of,
    records_of,
    service_of,
)
from tracemill.capture.otlp.found import Attributes, Found
from tracemill.capture.otlp.genai import read_genai
from tracemill.capture.otlp.parse import LogEvent, Span
from tracemill.core.codec import decode_plain, encode_plain
from tracemill.core.consent import marked, users_of
from tracemill.core.foreign import span_record_id, trace_record_id
from tracemill.core.ids import derived_id
from tracemill.core.pending import PendingPart
from tracemill.core.records import SCHEMA_VERSION, AnyRecord, Feedback, Interaction, Message, Step, User
from tracemill.store.base import Appended

SPANS, TRACES = "otlp-span", "otlp-trace"
_PATIENCE = 15
"""A call is given so many times the quiet time for its events: exporters of logs and of spans send at their own pace."""
_AT_ONCE = 10_000
_DETAILS = "gen_ai.client.inference.operation.details"
_EVALUATION = "gen_ai.evaluation.result"
T = TypeVar("T")


class PendingStore(Protocol):
    """What this needs of a store."""

    def append(self, records: Sequence[AnyRecord]) -> Appended:
        """Store records."""

    def get(self, record_id: str) -> AnyRecord | None:
        """One record."""

    def known(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are stored."""

    def pending_of(self, source: str, keys: Sequence[str]) -> dict[str, list[PendingPart]]:
        """The parts of each key."""

    def pending_idle(self, source: str, older_than: datetime, limit: int) -> list[str]:
        """Keys of which nothing came since a moment."""

    def pending_drop(self, parts: Sequence[PendingPart]) -> None:
        """Remove parts."""


@dataclass
class Received:
    """What to do for a request: records and parts to store, parts that are done, spans that say nothing to us.

    ``private_users`` are whom parts name that came with the signal Global Privacy Control.
    """

    records: list[AnyRecord] = field(default_factory=list)
    parts: list[PendingPart] = field(default_factory=list)
    private_users: list[User] = field(default_factory=list)
    done: list[PendingPart] = field(default_factory=list)
    ignored: int = 0


@dataclass(frozen=True)
class _Opened(Generic[T]):
    """A part that waited: the name its sender is bound to, what it holds, and whether it came with the signal."""

    platform: str | None
    value: T
    private: bool


@dataclass(frozen=True)
class _Sender:
    """What is known of a request beside its spans."""

    pseudonymize: Pseudonymize
    platform: str | None
    moment: datetime
    private: bool

    def keep(self, received: Received, source: str, key: str, name: str, span: Span) -> None:
        """Have a span wait for what belongs to it."""
        body = _packed(self.platform, span, private=self.private)
        received.parts.append(PendingPart(source=source, key=key, part=name, time=self.moment, body=body))
        if self.private:
            made = records_of(span, read_span(span), self.pseudonymize, self.platform)
            received.private_users += users_of(made)


def receive_spans(
    store: PendingStore,
    spans: Iterable[Span],
    pseudonymize: Pseudonymize,
    platform: str | None,
    moment: datetime,
    *,
    private: bool = False,
) -> Received:
    """What the spans of a request become. ``moment`` is when it was received. Raises StoreError.

    ``private`` says that it came with the signal Global Privacy Control: the parts that wait keep that.
    """
    received, sender = Received(), _Sender(pseudonymize, platform, moment, private)
    speaking: set[str] = set()
    rooted: set[str] = set()
    silent_roots: dict[str, Span] = {}
    for span in spans:
        found = read_span(span)
        if found.operation is None:
            if span.parent_id is None:
                silent_roots[span.trace_id] = span
            else:
                received.ignored += 1
            continue
        speaking.add(span.trace_id)
        if span.parent_id is None:
            rooted.add(span.trace_id)
        if awaits_content(span, found):
            sender.keep(received, SPANS, span.span_id, "span", span)
        else:
            received.records.extend(records_of(span, found, pseudonymize, platform))
    _roots(store, received, speaking - rooted, silent_roots, sender)
    return received


def _roots(
    store: PendingStore, received: Received, rootless: set[str], silent_roots: dict[str, Span], sender: _Sender
) -> None:
    """Bring together roots that say nothing and traces that say something, also across requests."""
    apart = sorted((rootless | silent_roots.keys()) - (rootless & silent_roots.keys()))
    waiting = store.pending_of(TRACES, apart) if apart else {}
    for trace in sorted(rootless | silent_roots.keys()):
        root = silent_roots.get(trace)
        parts = waiting.get(trace, [])
        if root is not None and (trace in rootless or any(part.part != "root" for part in parts)):
            received.records.extend(records_of(root, read_span(root), sender.pseudonymize, sender.platform))
            received.done.extend(parts)
        elif root is not None:
            sender.keep(received, TRACES, trace, "root", root)
        elif stored := next((part for part in parts if part.part == "root"), None):
            received.records.extend(_of_root(_opened(stored, Span), sender.pseudonymize))
            received.done.extend(parts)
        else:  # once a minute at most, so that a long trace's mark stays young
            name = f"mark:{sender.moment:%Y%m%d%H%M}"
            received.parts.append(PendingPart(source=TRACES, key=trace, part=name, time=sender.moment, body=b""))


def _of_root(root: _Opened[Span], pseudonymize: Pseudonymize) -> list[AnyRecord]:
    records = records_of(root.value, read_span(root.value), pseudonymize, root.platform)
    return [marked(record) if root.private else record for record in records]


def receive_logs(
    events: Iterable[LogEvent], platform: str | None, moment: datetime, *, private: bool = False
) -> Received:
    """What the log records of a request become: evaluations are feedback, content waits for its span.

    ``private`` as in :func:`receive_spans`.
    """
    received = Received()
    for event in events:
        if event.name == _EVALUATION:
            made = _evaluation(event, platform)
            if made is not None:
                received.records.append(made)
                continue
        elif event.name.startswith("gen_ai.") and event.span_id:
            digest = hashlib.blake2b(_packed(platform, event), digest_size=8).hexdigest()
            name = f"event:{event.nanoseconds:020d}:{digest}"
            body = _packed(platform, event, private=private)
            received.parts.append(PendingPart(source=SPANS, key=event.span_id, part=name, time=moment, body=body))
            continue
        received.ignored += 1
    return received


def settle(
    store: PendingStore,
    moment: datetime,
    pseudonymize: Pseudonymize,
    *,
    quiet_seconds: float,
    expire_seconds: float,
) -> int:
    """Make records of what is complete, or will not become so. Returns how many records. Raises StoreError."""
    quiet = moment - timedelta(seconds=quiet_seconds)
    patient = moment - timedelta(seconds=min(quiet_seconds * _PATIENCE, expire_seconds))
    expired = moment - timedelta(seconds=expire_seconds)
    made = 0
    for source, turn in ((TRACES, _settled_trace), (SPANS, _settled_span)):
        keys = store.pending_idle(source, quiet, _AT_ONCE)
        done: list[PendingPart] = []
        records: list[AnyRecord] = []
        for key, parts in store.pending_of(source, keys).items():
            found = turn(store, key, parts, pseudonymize, patient, expired)
            if found is not None:
                records.extend(found)
                done.extend(parts)
        known = store.known([record.id for record in records]) if records else set()
        store.append([record for record in records if record.id not in known])
        store.pending_drop(done)
        made += len(records)
    return made


def _settled_trace(
    store: PendingStore,
    key: str,
    parts: list[PendingPart],
    pseudonymize: Pseudonymize,
    patient: datetime,
    expired: datetime,
) -> list[AnyRecord] | None:
    """The root that two requests brought without seeing each other; nothing when time is up; None to wait on."""
    del store, key, patient
    root = next((part for part in parts if part.part == "root"), None)
    if root is not None and len(parts) > 1:
        return _of_root(_opened(root, Span), pseudonymize)
    return [] if max(part.time for part in parts) < expired else None


def _settled_span(
    store: PendingStore,
    key: str,
    parts: list[PendingPart],
    pseudonymize: Pseudonymize,
    patient: datetime,
    expired: datetime,
) -> list[AnyRecord] | None:
    """A call with its events, events that came too late, or None to wait on."""
    newest = max(part.time for part in parts)
    stored = next((part for part in parts if part.part == "span"), None)
    events = [_opened(part, LogEvent) for part in parts if part.part != "span"]
    if stored is None:
        return _late(store, key, events, orphaned=newest < expired) if newest < patient else None
    opened = _opened(stored, Span)
    span = opened.value
    if store.known([record_id_of(span)]):
        return _late(store, key, events, orphaned=True) or []
    complete = any(event.value.name in ("gen_ai.choice", _DETAILS) for event in events)
    if not complete and newest >= patient:
        return None
    found = read_span(span)
    _add_content([event.value for event in events], found)
    private = opened.private or any(event.private for event in events)
    records = records_of(span, found, pseudonymize, opened.platform)
    return [marked(record) if private else record for record in records]


def _add_content(events: list[LogEvent], found: Found) -> None:
    """What was said, as log events told it, in the order they happened."""
    messages: list[Message] = []
    choices: list[Message] = []
    for event in sorted(events, key=lambda event: (event.nanoseconds, event.name)):
        if event.name == _DETAILS:
            inner = Attributes({**event.attributes, **(event.body if isinstance(event.body, dict) else {})})
            read_genai(inner, found)
        elif event.name == "gen_ai.choice":
            body = event.body if isinstance(event.body, dict) else {}
            inner_message = body.get("message")
            choices.append(_message(inner_message if isinstance(inner_message, dict) else body, "assistant"))
            found.set("finish_reason", body.get("finish_reason"))
        else:
            role = event.name.removeprefix("gen_ai.").removesuffix(".message")
            messages.append(_message(event.body if isinstance(event.body, dict) else {"content": event.body}, role))
    if any(_says_something(message) for message in (*messages, *choices)):
        found.set("messages", messages or None)
        found.set("response", choices[0] if choices else None)
        found.set("choices", choices[1:] or None)


def _message(body: dict[str, Any], role: str) -> Message:
    message: Message = {"role": str(body.get("role") or role), "content": body.get("content")}
    if body.get("tool_calls"):
        message["tool_calls"] = body["tool_calls"]
    if message["role"] == "tool" and body.get("id"):
        message["tool_call_id"] = body["id"]
    return message


def _says_something(message: Message) -> bool:
    return bool(message.get("content") or message.get("tool_calls"))


def _late(store: PendingStore, key: str, events: list[_Opened[LogEvent]], *, orphaned: bool) -> list[AnyRecord] | None:
    """Steps of events whose call is a record already, or whose span never came (``orphaned``); None to wait on."""
    trace = next((event.value.trace_id for event in events if event.value.trace_id), None)
    candidates = [span_record_id(key), *([trace_record_id(trace)] if trace else [])]
    target = next((record.id for one in candidates if _is_of(record := store.get(one), key)), None)  # type: ignore[union-attr]
    if target is None and not orphaned:
        return None
    return [_event_step(event, target or span_record_id(key)) for event in events]


def _is_of(record: AnyRecord | None, span_id: str) -> bool:
    return isinstance(record, Interaction) and record.extra.get("span_id") == span_id


def _event_step(opened: _Opened[LogEvent], interaction_id: str) -> Step:
    event = opened.value
    digest = hashlib.blake2b(_packed(None, event), digest_size=16).hexdigest()
    step = Step(
        id=derived_id("otlp-event", event.span_id or "", digest),
        time=event.time,
        schema_version=SCHEMA_VERSION,
        producer=f"otlp:{service_of(event.resource) or 'unknown'}",
        sequence=0,
        interaction_id=interaction_id,
        platform=opened.platform or service_of(event.resource),
        trace_id=event.trace_id,
        name=event.name,
        kind="message",
        outputs=event.body,
        extra={"span_id": event.span_id, "attributes": event.attributes},
    )
    return marked(step) if opened.private else step


def _evaluation(event: LogEvent, platform: str | None) -> Feedback | None:
    """``gen_ai.evaluation.result``: a judgement of the span it was emitted in, or of a response by its id."""
    values = dict(event.attributes)
    name = values.pop("gen_ai.evaluation.name", None)
    score = values.pop("gen_ai.evaluation.score.value", None)
    label = values.pop("gen_ai.evaluation.score.label", None)
    comment = values.pop("gen_ai.evaluation.explanation", None)
    if not isinstance(name, str):
        return None
    return annotation(
        "otlp",
        f"{event.span_id or ''}:{name}:{event.nanoseconds}",
        name=name,
        score=score if isinstance(score, (int, float)) else None,
        label=None if label is None else str(label),
        comment=None if comment is None else str(comment),
        annotator_kind="LLM",
        span_id=event.span_id,
        trace_id=event.trace_id,
        time=event.time,
        platform=platform or service_of(event.resource),
        extra=values,
    )


def _packed(platform: str | None, value: Span | LogEvent, *, private: bool = False) -> bytes:
    return encode_plain([platform, msgspec.to_builtins(value, builtin_types=(bytes,)), *([True] if private else [])])


def _opened(part: PendingPart, kind: type[T]) -> _Opened[T]:
    platform, value, *private = decode_plain(part.body)
    return _Opened(platform, msgspec.convert(value, kind), bool(private))
