"""The Gepeto tree of JSON files: written so that any reader of it can use it, read back to the same records.

    chat_contexts/1.0/context_<session>_<timestamp>.json     what the model was given
    predictions/1.0/prediction_<session>_<timestamp>.json    what it answered and did
    metadata/session_<session>.json                          which files belong to a session

The files have the layout's own fields; what these cannot hold stands beside them under ``tracemill``. Files that others wrote
are read too, with ids made of their content. Names of files are made of session ids without trusting them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from tracemill.capture.ingest import Reject
from tracemill.core.codec import decode_json, encode_json, encode_plain
from tracemill.core.errors import RecordError
from tracemill.core.ids import derived_id, new_id, now
from tracemill.core.records import (
    SCHEMA_VERSION,
    Action,
    AnyRecord,
    Channel,
    Failure,
    Interaction,
    Model,
    Step,
)

VERSION = "1.0"
CONTEXTS, PREDICTIONS, METADATA, OTHERS = "chat_contexts", "predictions", "metadata", "records"
_KEPT = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_LONGEST = 80


def safe_name(text: str) -> str:
    """A file name part for any text: different texts give different names on every file system.

    Lower-case letters, digits and ``-`` stand for themselves, every other byte of the UTF-8 form is ``~`` and its two hex
    digits; a long name ends in the SHA-256 of the text. The empty text is ``~``.
    """
    raw = text.encode("utf-8", "surrogatepass")
    name = "".join(chr(byte) if chr(byte) in _KEPT else f"~{byte:02x}" for byte in raw) or "~"
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 20]}~_{hashlib.sha256(raw).hexdigest()[:32]}"


def write_tree(records: Iterable[AnyRecord], root: Path) -> int:
    """Write records as a tree; returns how many. Writing the same record again gives the same files.

    Steps are written beside their interaction's prediction where both are in the same call, by themselves otherwise.
    Raises OSError.
    """
    count = 0
    for record in records:
        count += 1
        if isinstance(record, Interaction):
            _write_interaction(record, root)
        else:
            _write(root / OTHERS / VERSION / f"{record.id}.json", {"version": VERSION, "tracemill": _plain(record)})
    return count


def _plain(record: AnyRecord) -> Any:
    return json.loads(encode_json(record))


def _write_interaction(record: Interaction, root: Path) -> None:
    session = record.session_id if record.session_id is not None else record.id
    name = f"{safe_name(session)}_{record.time:%Y%m%dT%H%M%S%f}-{record.id[-12:]}"
    context, prediction = f"context_{name}.json", f"prediction_{name}.json"
    plain = _plain(record)
    stamp = record.time.isoformat().replace("+00:00", "Z")
    channel = plain.get("channel", {})
    model = plain.get("model", {})
    _write(
        root / CONTEXTS / VERSION / context,
        {
            "version": VERSION,
            "timestamp": stamp,
            "session_id": plain.get("session_id"),
            "events": plain.get("messages", []),
            "chat_id": channel.get("id"),
            "chat_name": channel.get("name"),
            "chat_type": channel.get("type"),
            "model_name": model.get("name"),
            "model_config": model.get("configuration", {}),
            "user_count": channel.get("user_count"),
            "message_count": channel.get("message_count"),
            "contains_images": channel.get("contains_images"),
            "tracemill": {key: value for key, value in plain.items() if key != "messages"},
        },
    )
    _write(
        root / PREDICTIONS / VERSION / prediction,
        {
            "version": VERSION,
            "timestamp": stamp,
            "session_id": plain.get("session_id"),
            "interaction_id": record.id,
            "trajectory": [plain["response"]] if "response" in plain else [],
            "reasoning": plain.get("reasoning"),
            "execution_time_ms": plain.get("duration_ms"),
            "success": plain.get("success"),
            "tools_used": plain.get("tools_used", []),
            "tool_call_count": plain.get("tool_call_count"),
            "error": plain.get("error"),
        },
    )
    _link(root / METADATA / f"session_{safe_name(session)}.json", session, context, prediction, stamp)


def _link(path: Path, session: str, context: str, prediction: str, stamp: str) -> None:
    entry = {
        "context": f"{CONTEXTS}/{VERSION}/{context}",
        "prediction": f"{PREDICTIONS}/{VERSION}/{prediction}",
        "timestamp": stamp,
    }
    known: Any = {}
    with suppress(OSError, ValueError):  # not there yet, or torn: the files themselves say what belongs together
        known = json.loads(path.read_bytes())
    entries = known.get("interactions", []) if isinstance(known, dict) else []
    if entry not in entries:
        entries = sorted([*entries, entry], key=lambda item: str(item.get("context")))
        escaped = session.encode("utf-8", "backslashreplace").decode()
        _write(path, {"version": VERSION, "session_id": escaped, "interactions": entries})


def _write(path: Path, document: dict[str, Any]) -> None:
    """Write a file whole or not at all, and be sure of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{new_id()}.tmp")
    with draft.open("wb") as file:
        file.write(json.dumps(document, ensure_ascii=True, indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_tree(root: Path) -> Iterator[AnyRecord | Reject]:
    """The records of a tree, ours or another's; what cannot be read is a Reject with its file's name."""
    predictions = {
        path.name.removeprefix("prediction_"): path for path in sorted(root.glob(f"{PREDICTIONS}/*/prediction_*.json"))
    }
    for path in sorted(root.glob(f"{CONTEXTS}/*/context_*.json")):
        prediction = predictions.pop(path.name.removeprefix("context_"), None)
        yield from _read_pair(path, prediction, root)
    for path in predictions.values():
        yield Reject(str(path.relative_to(root)), "invalid", "a prediction without its chat context", _head(path))
    for path in sorted(root.glob(f"{OTHERS}/*/*.json")):
        document = _read(path, root)
        yield document if isinstance(document, Reject) else _own(document, path, root)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(100_000)
    except OSError:
        return b""


def _read(path: Path, root: Path) -> dict[str, Any] | Reject:
    place = str(path.relative_to(root))
    try:
        document = json.loads(path.read_bytes())  # the codec's marks stay as they are until the record is decoded
    except (ValueError, RecursionError, OSError) as error:
        return Reject(place, "malformed", str(error), b"")
    if not isinstance(document, dict):
        return Reject(place, "invalid", "a file of the tree holds an object", _head(path))
    return document


def _own(document: dict[str, Any], path: Path, root: Path) -> AnyRecord | Reject:
    try:
        return decode_json(json.dumps(document.get("tracemill")).encode())
    except RecordError as error:
        return Reject(str(path.relative_to(root)), error.reason, error.message, _head(path))


def _read_pair(path: Path, prediction_path: Path | None, root: Path) -> Iterator[AnyRecord | Reject]:
    context = _read(path, root)
    if isinstance(context, Reject):
        yield context
        return
    if isinstance(context.get("tracemill"), dict):
        events = context.get("events")
        whole = {**context["tracemill"], **({"messages": events} if events else {})}
        yield _own({"tracemill": whole}, path, root)
        return
    prediction: dict[str, Any] | Reject = {} if prediction_path is None else _read(prediction_path, root)
    if isinstance(prediction, Reject):
        yield prediction
        prediction = {}
    try:
        yield from _foreign(context, prediction)
    except (msgspec.MsgspecError, RecordError, TypeError, ValueError) as error:
        yield Reject(str(path.relative_to(root)), "invalid", str(error), _head(path))


def _foreign(context: dict[str, Any], prediction: dict[str, Any]) -> Iterator[AnyRecord]:
    """The records of files that another program wrote."""
    time = _moment(context.get("timestamp"))
    identity = derived_id("gepeto", hashlib.sha256(encode_plain([context, prediction])).hexdigest(), moment=time)
    left, done = dict(context), dict(prediction)
    for known in ("version", "timestamp"):
        left.pop(known, None)
        done.pop(known, None)
    done.pop("session_id", None)
    session = left.pop("session_id", None)
    trajectory = done.pop("trajectory", None)
    fields: dict[str, Any] = {
        "reasoning": done.pop("reasoning", None),
        "duration_ms": done.pop("execution_time_ms", None),
        "success": done.pop("success", None),
        "tools_used": done.pop("tools_used", None) or [],
        "tool_call_count": done.pop("tool_call_count", None),
    }
    error = done.pop("error", None)
    yield _checked(
        Interaction(
            id=identity,
            time=time or now(),
            schema_version=SCHEMA_VERSION,
            producer="import:gepeto",
            sequence=0,
            platform="gepeto",
            kind="agent",
            session_id=None if session is None else str(session),
            messages=[_message(event) for event in left.pop("events", None) or []],
            channel=Channel(
                id=left.pop("chat_id", None),
                name=left.pop("chat_name", None),
                type=left.pop("chat_type", None),
                user_count=left.pop("user_count", None),
                message_count=left.pop("message_count", None),
                contains_images=left.pop("contains_images", None),
            ),
            model=Model(name=left.pop("model_name", None), configuration=left.pop("model_config", None) or {}),
            error=None
            if error is None
            else Failure(message=str(error), detail=error if isinstance(error, dict) else None),
            extra={**({"context": left} if left else {}), **({"prediction": done} if done else {})},
            **fields,
        )
    )
    steps = trajectory if isinstance(trajectory, list) else [trajectory] if trajectory else []
    for index, step in enumerate(steps):
        yield _checked(_step(step, index, identity, time or now()))


def _step(step: Any, index: int, interaction_id: str, time: datetime) -> Step:
    fields = step if isinstance(step, dict) else {"outputs": step}
    tool = fields.get("tool") or fields.get("tool_name")
    action = Action(
        tool=str(tool), parameters=fields.get("args", fields.get("tool_args")), result=fields.get("observation")
    )
    thought = fields.get("thought") or fields.get("reasoning")
    return Step(
        id=derived_id("gepeto-step", interaction_id, index),
        time=time,
        schema_version=SCHEMA_VERSION,
        producer="import:gepeto",
        sequence=index + 1,
        interaction_id=interaction_id,
        platform="gepeto",
        index=index,
        kind="react",
        reasoning=thought if isinstance(thought, str) else None,
        actions=[action] if tool else [],
        outputs=step,
    )


def _checked(record: AnyRecord) -> AnyRecord:
    """The record, decoded once: what another program wrote into a field may be of the wrong type."""
    return decode_json(encode_json(record))


def _message(event: Any) -> dict[str, Any]:
    if not isinstance(event, dict):
        return {"role": "user", "content": event if isinstance(event, str) else json.dumps(event, default=repr)}
    if isinstance(event.get("role"), str):
        return event
    content = next((event[key] for key in ("content", "text", "message") if isinstance(event.get(key), str)), None)
    return {"role": "user", "content": content, "event": event}


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return None if moment is None else (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
