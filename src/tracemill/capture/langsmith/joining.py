"""What of a request becomes records at once, and which runs wait for the rest of them.

A run is sent when it begins (``post``) and when it ends (``patch``), together or in two requests, in any order. One that is
whole in one post becomes a record at once. All others wait in the store until both sides are there and nothing has come
for a moment, or until they are too old to wait for more. What comes when the record exists already is kept as a Step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from tracemill.capture.annotations import annotation
from tracemill.capture.langsmith.multipart import Operation, Piece, canonical_id
from tracemill.capture.langsmith.runs import Pseudonymize, moment_of, record_of
from tracemill.core.codec import decode_plain, encode_plain
from tracemill.core.consent import marked, users_of
from tracemill.core.foreign import run_record_id
from tracemill.core.ids import derived_id
from tracemill.core.pending import PendingPart
from tracemill.core.records import (
    SCHEMA_VERSION,
    AnnotatorKind,
    AnyRecord,
    CompletionStatus,
    Feedback,
    Interaction,
    Step,
    User,
)
from tracemill.store.base import Appended

SOURCE = "langsmith"
LATE = "late_patch"
_AT_ONCE = 2_000
_PERSON = ("user_id", "user_name")


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
    """What to do for a request: records to store, and parts that wait. ``private_users`` are whom parts name that came with
    the signal Global Privacy Control.
    """

    records: list[AnyRecord] = field(default_factory=list)
    parts: list[PendingPart] = field(default_factory=list)
    private_users: list[User] = field(default_factory=list)


@dataclass(frozen=True)
class _Opened:
    """A part that waited. ``name`` is its digest: the same piece sent twice is the same part. ``private`` says that it came
    with the signal Global Privacy Control.
    """

    name: str
    platform: str | None
    operation: Operation
    run: dict[str, Any]
    time: datetime
    private: bool


def receive(
    store: PendingStore,
    pieces: Iterable[Piece],
    pseudonymize: Pseudonymize,
    platform: str | None,
    moment: datetime,
    *,
    private: bool = False,
) -> Received:
    """What the runs of a request become. ``moment`` is when it was received. Raises StoreError.

    ``private`` says that it came with the signal Global Privacy Control: the parts that wait keep that.
    """
    received = Received()
    by_run: dict[str, dict[str, Piece]] = {}
    for piece in pieces:
        by_run.setdefault(piece.run_id, {})[_digest(piece)] = piece
    whole = [run_id for run_id, found in by_run.items() if len(found) == 1 and _is_whole(*found.values())]
    waiting = store.pending_of(SOURCE, whole).keys() if whole else set()
    known = store.known([run_record_id(run_id) for run_id in whole]) if whole else set()
    at_once = {run_id for run_id in whole if run_id not in waiting and run_record_id(run_id) not in known}
    for run_id, found in by_run.items():
        for name, piece in found.items():
            if run_id in at_once:
                received.records.append(record_of(piece.run, [name], None, moment, pseudonymize, platform))
            else:
                body = encode_plain([platform, piece.operation, piece.run, *([True] if private else [])])
                received.parts.append(PendingPart(source=SOURCE, key=run_id, part=name, time=moment, body=body))
                if private:
                    begun = record_of(piece.run, [name], None, moment, pseudonymize, platform)
                    received.private_users += users_of([begun])
    return received


def _is_whole(piece: Piece) -> bool:
    return piece.operation == "post" and _has_ended(piece.run) and moment_of(piece.run.get("start_time")) is not None


def _has_ended(run: dict[str, Any]) -> bool:
    return bool(run.get("end_time") or run.get("error"))


def _digest(piece: Piece) -> str:
    return hashlib.blake2b(encode_plain([piece.operation, piece.run]), digest_size=16).hexdigest()


def settle(
    store: PendingStore,
    moment: datetime,
    pseudonymize: Pseudonymize,
    *,
    quiet_seconds: float,
    expire_seconds: float,
) -> int:
    """Make records of runs that are complete, or will not become so. Returns how many records. Raises StoreError."""
    expired = moment - timedelta(seconds=expire_seconds)
    keys = store.pending_idle(SOURCE, moment - timedelta(seconds=quiet_seconds), _AT_ONCE)
    done: list[PendingPart] = []
    records: list[AnyRecord] = []
    for run_id, parts in store.pending_of(SOURCE, keys).items():
        opened = sorted(map(_open, parts), key=_order)
        stored = store.get(run_record_id(run_id))
        if stored is not None:
            records.extend(_late(stored, opened))
            done.extend(parts)
            continue
        status = _status(opened)
        if status is None or max(part.time for part in opened) < expired:
            records.append(_joined(opened, status, pseudonymize))
            done.extend(parts)
    known = store.known([record.id for record in records]) if records else set()
    fresh = [record for record in records if record.id not in known]
    if fresh:
        store.append(fresh)
    store.pending_drop(done)
    return len(fresh)


def _open(part: PendingPart) -> _Opened:
    platform, operation, run, *private = decode_plain(part.body)
    return _Opened(part.part, platform, operation, run, part.time, bool(private))


def _order(part: _Opened) -> tuple[bool, float, str]:
    """Beginnings before changes, changes by the end they state: the same whatever came first."""
    ended = moment_of(part.run.get("end_time"))
    return part.operation == "patch", ended.timestamp() if ended else 0.0, part.name


def _status(parts: list[_Opened]) -> CompletionStatus | None:
    """None for a run of which beginning and end are known; what to call it if nothing more comes."""
    if not any(_has_ended(part.run) for part in parts):
        return "interrupted"
    return None if any(part.operation == "post" for part in parts) else "partial"


def _joined(parts: list[_Opened], status: CompletionStatus | None, pseudonymize: Pseudonymize) -> AnyRecord:
    """The record of a run: what its parts say, later ones over earlier ones, attachments by their name."""
    run: dict[str, Any] = {}
    attachments: dict[str, Any] = {}
    for part in parts:
        run.update({name: value for name, value in part.run.items() if value is not None})
        attachments.update(_attachments(part.run.get("attachments")))
    if attachments:
        run["attachments"] = list(attachments.values())
    platform = next((part.platform for part in parts if part.platform), None)
    first = min(part.time for part in parts)
    record = record_of(run, [part.name for part in parts], status, first, pseudonymize, platform)
    return marked(record) if any(part.private for part in parts) else record


def _attachments(value: Any) -> dict[str, Any]:
    entries = value if isinstance(value, list) else []
    return {entry["name"]: entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("name"), str)}


def _late(stored: AnyRecord, parts: list[_Opened]) -> list[AnyRecord]:
    """Steps of what a stored run was not made of. What is sent again changes nothing and leaves nothing."""
    seen = stored.extra.get("parts")
    made_of = set(seen) if isinstance(seen, list) else set()
    late = [(part, _late_step(stored, part)) for part in parts if part.name not in made_of]
    return [marked(step) if part.private else step for part, step in late]


def _late_step(stored: AnyRecord, part: _Opened) -> Step:
    whole = isinstance(stored, Interaction)
    return Step(
        id=derived_id("langsmith-late", stored.id, part.name),
        time=moment_of(part.run.get("end_time")) or moment_of(part.run.get("start_time")) or stored.time,
        schema_version=SCHEMA_VERSION,
        producer=SOURCE,
        sequence=0,
        interaction_id=stored.id if whole else getattr(stored, "interaction_id", None),
        parent_id=None if whole else stored.id,
        platform=getattr(stored, "platform", None),
        trace_id=getattr(stored, "trace_id", None),
        name=LATE,
        kind=LATE,
        outputs=part.run,
        extra={"run_id": stored.extra.get("run_id"), "operation": part.operation},
    )


def feedback_of(entry: Any, pseudonymize: Pseudonymize, platform: str | None) -> Feedback:
    """A record of LangSmith's feedback. Raises ValueError when it is none.

    It is about a run, else about the root run of a trace. A source of type ``model`` is an LLM; one that names the run of an
    evaluator is code; all else is a person.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("key"), str) or not entry["key"]:
        raise ValueError("feedback is an object with a key")
    about = next((entry[name] for name in ("run_id", "trace_id") if entry.get(name)), None)
    rest = {name: value for name, value in entry.items() if value is not None and name not in _SAID}
    source = entry["feedback_source"] if isinstance(entry.get("feedback_source"), dict) else {}
    metadata = source["metadata"] if isinstance(source.get("metadata"), dict) else {}
    kind: AnnotatorKind = "LLM" if source.get("type") == "model" else "CODE" if metadata.get("__run") else "HUMAN"
    person = source.get("user_id") or metadata.get("user_id")
    kept = {name: value for name, value in metadata.items() if name not in _PERSON}
    about_source = {name: value for name, value in source.items() if name not in (*_PERSON, "metadata") and value}
    rest["feedback_source"] = {**about_source, **({"metadata": kept} if kept else {})}
    score, value = entry.get("score"), entry.get("value")
    if score is None and isinstance(value, (int, float)):
        score = value
    elif value is not None and not isinstance(value, str):
        rest["value"] = value
    if score is not None and not isinstance(score, (int, float)):
        raise ValueError("the score of feedback is a number or a yes or no")
    return annotation(
        SOURCE,
        None if entry.get("id") is None else str(entry["id"]),
        name=entry["key"],
        score=score,
        label=value if isinstance(value, str) else None,
        comment=None if entry.get("comment") is None else str(entry["comment"]),
        correction=entry.get("correction"),
        annotator_kind=kind,
        run_id=None if about is None else canonical_id(about),
        time=moment_of(entry.get("created_at")),
        platform=platform,
        user=None if not person else pseudonymize(str(person)),
        extra=rest,
    )


_SAID = frozenset({"id", "run_id", "key", "score", "value", "comment", "correction", "created_at", "feedback_source"})
"""What of LangSmith's feedback stands in fields of a record."""
