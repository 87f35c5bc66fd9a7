"""A session that is handed over whole at its end: its conversation as an interaction, and what it says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_SHARED = ("session_id", "user_id", "user", "platform", "conversation_id")
_TIMES = ("start_time", "end_time")


class Session(NamedTuple):
    """Fields of the interaction (None: no message was given) and of the end of a session."""

    interaction: dict[str, Any] | None
    end: dict[str, Any]


def session_fields(given: Mapping[str, Any]) -> Session:
    """The fields in a session's data: ``session_id``, ``user_id`` and ``conversation_data`` with ``messages`` and ``metadata``.

    They may stand under ``session_data``. The metadata's times are those of the end, and the interaction's time is when the
    session began; what else the metadata says goes to the end's ``extra``. Whatever is of no use here is passed on as it came.
    """
    fields = dict(given)
    if isinstance(whole := fields.get("session_data"), Mapping):
        del fields["session_data"]
        fields = {**whole, **fields}
    conversation = fields.get("conversation_data")
    if not isinstance(conversation, Mapping):
        return Session(None, fields)
    del fields["conversation_data"]
    left = dict(conversation)
    messages, metadata = left.pop("messages", None), left.pop("metadata", None)
    about = dict(metadata) if isinstance(metadata, Mapping) else {}
    for name in (*_SHARED, *_TIMES):
        if (value := about.pop(name, None)) is not None and fields.get(name) is None:
            fields[name] = value
    if metadata is not None and not isinstance(metadata, Mapping):
        about["metadata"] = metadata
    if left or about:
        extra = fields.get("extra")
        fields["extra"] = {**left, **about, **(extra if isinstance(extra, Mapping) else {})}
    if not isinstance(messages, (list, tuple)) or not messages:
        return Session(None, fields)
    fields.setdefault("message_count", len(messages))
    shared = {name: fields[name] for name in _SHARED if fields.get(name) is not None}
    interaction = {**shared, "events": list(messages)}
    if fields.get("start_time") is not None:
        interaction["time"] = fields["start_time"]
    return Session(interaction, fields)
