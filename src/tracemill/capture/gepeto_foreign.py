"""Files of the Gepeto layout that another program wrote, as records with ids made of their content.

What a field of the layout holds is read as the collector reads it from an application; what does not fit is kept under
``extra["context"]`` and ``extra["prediction"]``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from tracemill.core.codec import decode_json, encode_json, encode_plain
from tracemill.core.ids import derived_id, now
from tracemill.core.records import SCHEMA_VERSION, AnyRecord, Channel, Interaction, Model, Step, User
from tracemill.sdk.events import read_events
from tracemill.sdk.fit import fit, fit_part
from tracemill.sdk.prediction import Prediction, read_prediction

PRODUCER = "import:gepeto"
_CHANNEL = {
    "chat_id": "id",
    "chat_name": "name",
    "chat_type": "type",
    "user_count": "user_count",
    "message_count": "message_count",
    "contains_images": "contains_images",
}


def foreign_records(
    context: dict[str, Any],
    prediction: dict[str, Any],
    platform: str,
    pseudonymize: Callable[[str | int], User] | None = None,
) -> Iterator[AnyRecord]:
    """The interaction and the steps of a chat context and its prediction; either may be empty.

    Ids of people are made pseudonyms where ``pseudonymize`` is given. Raises RecordError where a record cannot be made.
    """
    stated = moment(context.get("timestamp")) or moment(prediction.get("timestamp"))
    digest = hashlib.sha256(encode_plain([context, prediction])).hexdigest()
    identity, time = derived_id("gepeto", digest, moment=stated), stated or now()
    left = {key: value for key, value in context.items() if key != "version" and value is not None}
    done = {key: value for key, value in prediction.items() if key != "version" and value is not None}
    session = _session(left, done)
    for document in (left, done):
        if moment(document.get("timestamp")) is not None:
            document.pop("timestamp")
    read = read_prediction(done) if done else Prediction()
    aside = read.fields.pop("extra", {}).get("prediction", {})
    answered = fit(Interaction, read.fields)
    aside = {**aside, **answered.pop("extra", {})}
    given = _context_fields(left, pseudonymize)
    extra = {**({"context": left} if left else {}), **({"prediction": aside} if aside else {})}
    base = {"time": time, "schema_version": SCHEMA_VERSION, "producer": PRODUCER, "platform": platform}
    given["extra"] = {**given.pop("extra", {}), **extra}
    ids = {"id": identity, "sequence": 0, "session_id": session}
    yield _checked(Interaction(**{"kind": "agent", **answered, **given, **base, **ids}))
    for number, step in enumerate(read.steps):
        links = {"id": derived_id("gepeto-step", identity, number), "sequence": number + 1, "interaction_id": identity}
        yield _checked(Step(**{**fit(Step, step), **base, **links}))


def moment(value: Any) -> datetime | None:
    """An ISO 8601 time as the aware UTC moment it states (UTC where it names no zone), or None when it is none."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
        return None if found is None else (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _context_fields(left: dict[str, Any], pseudonymize: Callable[[str | int], User] | None) -> dict[str, Any]:
    """The fields of an Interaction that a chat context gives, taken out of it; what does not fit stays."""

    def identify(raw: str | int) -> str:
        user = pseudonymize(raw) if pseudonymize is not None else None
        return str(raw) if user is None else user.raw_id or user.pseudonym

    fields: dict[str, Any] = {}
    read = read_events(left.pop("events", None), identify)
    if read.messages:
        fields["messages"] = read.messages
    if read.about:
        fields["extra"] = {"events": read.about}
    channel, misfits = fit_part(Channel, {ours: left.pop(name) for name, ours in _CHANNEL.items() if name in left})
    left.update({name: misfits[ours] for name, ours in _CHANNEL.items() if ours in misfits})
    if channel:
        fields["channel"] = Channel(**channel)
    model = {"name": left.pop("model_name", None), "configuration": left.pop("model_config", None)}
    known, misfits = fit_part(Model, model)
    left.update({name: misfits[ours] for name, ours in _MODEL.items() if ours in misfits})
    if known and known != {"configuration": {}}:
        fields["model"] = Model(**known)
    user_id = left.get("user_id")
    if isinstance(user_id, (str, int)) and pseudonymize is not None:
        fields["user"] = pseudonymize(left.pop("user_id"))
    if isinstance(left.get("user_name"), str):
        left["user_name"] = identify(left["user_name"])
    return fields


_MODEL = {"model_name": "name", "model_config": "configuration"}


def _session(left: dict[str, Any], done: dict[str, Any]) -> str | None:
    stated = left.pop("session_id", None)
    answered = done.get("session_id")
    session = answered if stated is None else stated
    if answered == session:
        done.pop("session_id", None)
    return session if isinstance(session, str) or session is None else json.dumps(session)


def _checked(record: AnyRecord) -> AnyRecord:
    """The record, decoded once: what another program wrote may still break a rule of the field it went to."""
    return decode_json(encode_json(record))
