"""A record as a row: what goes into columns, what stays in the body, and back again.

The plain form here is what MessagePack makes of :func:`tracemill.core.codec.encode`'s bytes, marks included, so that a
record is put together again byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tracemill.core.ids import from_microseconds, id_bytes, id_text, microseconds
from tracemill.core.records import RECORD_TYPES, SCHEMA_VERSION
from tracemill.store.names import column_text

TYPE_CODES = {tag: code for code, tag in enumerate(RECORD_TYPES, 1)}
TYPE_TAGS = {code: tag for tag, code in TYPE_CODES.items()}
PARENT = re.compile(rb"\xa9parent_id\xd9\x24([0-9a-f-]{36})")
"""``parent_id`` in a body, with its value as MessagePack writes them."""
_NAMED = {
    "producer": "producer",
    "platform": "platform",
    "session": "session_id",
    "conversation": "conversation_id",
}
"""Column of the number -> field of the text."""
_DEFAULT_PLATFORM = "default"


def names_of(plain: dict[str, Any]) -> dict[str, str]:
    """The texts of a record that its row holds as numbers, by column."""
    found = {
        column: column_text(value) for column, field in _NAMED.items() if isinstance(value := plain.get(field), str)
    }
    if plain["record"] == "interaction":
        found.setdefault("platform", _DEFAULT_PLATFORM)
        if isinstance(name := plain.get("model", {}).get("name"), str):
            found["model"] = column_text(name)
    if isinstance(user := plain.get("user"), dict):
        found["person"] = column_text(user["pseudonym"])
    return found


def split(
    plain: dict[str, Any], texts: dict[str, str], numbers: dict[str, int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The columns of a row and the body that is left. ``plain`` itself is not changed."""
    body = dict(plain)
    columns: dict[str, Any] = {
        "id": id_bytes(body.pop("id")),
        "type": TYPE_CODES[body.pop("record")],
        "time": microseconds(body.pop("time")),
        "sequence": body.pop("sequence"),
        "success": None if (success := body.pop("success", None)) is None else int(success),
        "interaction": None,
        "session": None,
        "conversation": None,
        "platform": None,
        "model": None,
        "person": None,
    }
    if "interaction_id" in body:
        columns["interaction"] = id_bytes(body.pop("interaction_id"))
    if body.get("schema_version") == SCHEMA_VERSION == 1:
        del body["schema_version"]
    for column, text in texts.items():
        columns[column] = numbers[text]
        if column in _NAMED:
            if body.get(_NAMED[column], text) == text:
                body.pop(_NAMED[column], None)
        elif column == "model" and body["model"]["name"] == text:
            body["model"] = {key: value for key, value in body["model"].items() if key != "name"}
        elif column == "person" and body["user"]["pseudonym"] == text:
            body["user"] = {key: value for key, value in body["user"].items() if key != "pseudonym"}
    return columns, body


def named_columns(row: Any) -> Iterator[int]:
    """The numbers a row refers to in the names table."""
    for column in ("producer", "platform", "session", "conversation", "model", "person"):
        number = getattr(row, column)
        if number is not None:
            yield number


def assemble(row: Any, body: dict[str, Any], values: dict[int, str]) -> dict[str, Any]:
    """The plain form of a row and its decoded body; ``values`` has the text of every number of the row."""
    plain: dict[str, Any] = {
        "record": TYPE_TAGS[row.type],
        "id": id_text(bytes(row.id)),
        "time": from_microseconds(row.time),
        "schema_version": 1,
        "sequence": row.sequence,
        **body,
    }
    for column, field in _NAMED.items():
        number = getattr(row, column)
        if number is not None:
            plain.setdefault(field, values[number])
    if row.success is not None:
        plain["success"] = bool(row.success)
    if row.interaction is not None:
        plain["interaction_id"] = id_text(bytes(row.interaction))
    if row.model is not None:
        plain["model"] = {"name": values[row.model], **body["model"]}
    if row.person is not None:
        plain["user"] = {"pseudonym": values[row.person], **body["user"]}
    return plain
