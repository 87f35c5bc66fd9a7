"""Files of the Gepeto layout that another program wrote, as records with ids made of their content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tracemill.core.codec import decode_json, encode_json, encode_plain
from tracemill.core.ids import derived_id, now
from tracemill.core.records import SCHEMA_VERSION, Action, AnyRecord, Channel, Failure, Interaction, Model, Step

PRODUCER = "import:gepeto"
_REACT_KEY = re.compile(r"(thought|tool_name|tool_args|observation)_(\d{1,6})\Z")


def foreign_records(context: dict[str, Any], prediction: dict[str, Any], platform: str) -> Iterator[AnyRecord]:
    """The interaction and the steps of a chat context and its prediction; either may be empty.

    A field that is missing or of another type than the layout's is absent, and what stands there goes to ``extra``.
    Raises RecordError where a record cannot be made.
    """
    stated = moment(context.get("timestamp")) or moment(prediction.get("timestamp"))
    digest = hashlib.sha256(encode_plain([context, prediction])).hexdigest()
    identity, time = derived_id("gepeto", digest, moment=stated), stated or now()
    left = {key: value for key, value in context.items() if key != "version"}
    done = {key: value for key, value in prediction.items() if key != "version"}
    fields = {**_context_fields(left), **_prediction_fields(done)}
    session = _session(left, done)
    trajectory = done.pop("trajectory", None)
    for document in (left, done):
        if moment(document.get("timestamp")) is not None:
            document.pop("timestamp")
    yield _checked(
        Interaction(
            id=identity,
            time=time,
            schema_version=SCHEMA_VERSION,
            producer=PRODUCER,
            sequence=0,
            platform=platform,
            kind="agent",
            session_id=session,
            extra={**({"context": left} if left else {}), **({"prediction": done} if done else {})},
            **fields,
        )
    )
    for index, step in enumerate(_steps(trajectory)):
        base = {"id": derived_id("gepeto-step", identity, index), "time": time, "schema_version": SCHEMA_VERSION}
        links = {"producer": PRODUCER, "sequence": index + 1, "interaction_id": identity, "platform": platform}
        yield _checked(Step(**{**step, **base, **links, "index": index}))


def moment(value: Any) -> datetime | None:
    """An ISO 8601 time as the aware UTC moment it states (UTC where it names no zone), or None when it is none."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
        return None if found is None else (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _take(document: dict[str, Any], name: str, *types: type) -> Any:
    """Take a field out of a document if it is of one of the types; anything else but null stays where it is."""
    value = document.get(name)
    if value is None or (isinstance(value, types) and (bool in types or not isinstance(value, bool))):
        return document.pop(name, None)
    return None


def _context_fields(left: dict[str, Any]) -> dict[str, Any]:
    events = left.pop("events", None)
    listed = events if isinstance(events, list) else [] if events is None else [events]
    channel = Channel(
        id=_take(left, "chat_id", str, int),
        name=_take(left, "chat_name", str),
        type=_take(left, "chat_type", str),
        user_count=_take(left, "user_count", int),
        message_count=_take(left, "message_count", int),
        contains_images=_take(left, "contains_images", bool),
    )
    model = Model(name=_take(left, "model_name", str), configuration=_take(left, "model_config", dict) or {})
    return {
        "messages": [_message(event) for event in listed],
        "channel": None if channel == Channel() else channel,
        "model": None if model == Model() else model,
    }


def _prediction_fields(done: dict[str, Any]) -> dict[str, Any]:
    error = done.pop("error", None)
    tools, count = done.get("tools_used"), done.get("tool_call_count")
    named = isinstance(tools, list) and all(isinstance(tool, str) for tool in tools)
    counted = isinstance(count, int) and count >= 0
    message = error if isinstance(error, str) else json.dumps(error)
    return {
        "reasoning": done.pop("reasoning", None),
        "duration_ms": _take(done, "execution_time_ms", int, float),
        "success": _take(done, "success", bool),
        "tools_used": (_take(done, "tools_used", list) or []) if named or tools is None else [],
        "tool_call_count": _take(done, "tool_call_count", int) if counted or count is None else None,
        "error": None if not error else Failure(message=message, detail=None if error == message else error),
    }


def _session(left: dict[str, Any], done: dict[str, Any]) -> str | None:
    stated = left.pop("session_id", None)
    answered = done.get("session_id")
    session = answered if stated is None else stated
    if answered == session:
        done.pop("session_id", None)
    return session if isinstance(session, str) or session is None else json.dumps(session)


def _message(event: Any) -> dict[str, Any]:
    """An event as a message: text is a user's; what already has a role is kept; the rest is kept beside its text."""
    if not isinstance(event, dict):
        return {"role": "user", "content": event if isinstance(event, str) else json.dumps(event)}
    if isinstance(event.get("role"), str):
        return event
    texts = (event[key] for key in ("content", "text", "message") if isinstance(event.get(key), str))
    authors = (event[key] for key in ("author", "user", "username") if isinstance(event.get(key), str))
    message: dict[str, Any] = {"role": "user", "content": next(texts, None) or json.dumps(event)}
    name = next(authors, None)
    return {**message, **({} if name is None else {"name": name}), "event": event}


def _steps(trajectory: Any) -> list[dict[str, Any]]:
    """The fields of a trajectory's steps: a list of them, or DSPy's flat keys (``thought_0``, ``tool_name_0``…)."""
    keys = [_REACT_KEY.match(key) for key in trajectory] if isinstance(trajectory, dict) else []
    rounds: dict[int, dict[str, Any]] = {}
    for key in keys:
        if key is not None:
            rounds.setdefault(int(key[2]), {})[key[1]] = trajectory[key[0]]
    if rounds and all(keys):
        return [_step(rounds[number]) for number in sorted(rounds)]
    listed = trajectory if isinstance(trajectory, list) else [trajectory] if trajectory else []
    return [_step(step) for step in listed]


def _step(step: Any) -> dict[str, Any]:
    fields = step if isinstance(step, dict) else {}
    tool = fields.get("tool") or fields.get("tool_name")
    thought = fields.get("thought") or fields.get("reasoning")
    parameters = fields.get("args", fields.get("tool_args"))
    return {
        "kind": "react",
        "reasoning": thought if isinstance(thought, str) else None,
        "actions": [Action(tool=tool, parameters=parameters, result=fields.get("observation"))]
        if isinstance(tool, str)
        else [],
        "outputs": step,
    }


def _checked(record: AnyRecord) -> AnyRecord:
    """The record, decoded once: what another program wrote may still break a rule of the field it went to."""
    return decode_json(encode_json(record))
