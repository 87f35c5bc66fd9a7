"""Records as the columns of a sealed Parquet file, and back.

Every engine reads the files by their plain layout: one row a record, its fields in columns of their own names, messages as
a list of structs with the whole history. What has no column stands as JSON in ``rest`` (of a message: in its own
``rest``), so that nothing is lost; a record that the columns would not give back exactly is also kept whole in ``exact``,
as :func:`tracemill.core.codec.encode` writes it. Long texts that repeat from call to call stand once a row group, in
the dictionary of their column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec
import pyarrow as pa

from tracemill.core.codec import decode, encode, encode_json_plain, parse_json
from tracemill.core.errors import RecordError
from tracemill.core.records import AnyRecord
from tracemill.store.rows import TYPE_CODES, TYPE_TAGS, assemble, names_of, split
from tracemill.store.sealing import SEALED, Sealer, Sealing, key_of, person_of

VERSION = "1"
MESSAGE = pa.struct(
    [
        ("role", pa.string()),
        ("content", pa.string()),
        ("tool_calls", pa.string()),
        ("rest", pa.string()),
        ("keys", pa.string()),
    ]
)
_LEADING = ("role", "content", "tool_calls")
NAMED = {
    "producer": "producer",
    "platform": "platform",
    "session": "session_id",
    "conversation": "conversation_id",
    "person": "user",
    "model": "model",
}
"""Column of the database's row -> column of the file."""
SCALARS: dict[str, tuple[type, pa.DataType]] = {
    "kind": (str, pa.string()),
    "name": (str, pa.string()),
    "label": (str, pa.string()),
    "comment": (str, pa.string()),
    "intent": (str, pa.string()),
    "trace_id": (str, pa.string()),
    "task_id": (str, pa.string()),
    "trial": (int, pa.int64()),
    "turn": (int, pa.int64()),
    "finish_reason": (str, pa.string()),
    "rating": (int, pa.int64()),
    "score": (float, pa.float64()),
    "passed": (bool, pa.bool_()),
    "input_tokens": (int, pa.int64()),
    "output_tokens": (int, pa.int64()),
    "cost_usd": (float, pa.float64()),
    "duration_ms": (float, pa.float64()),
}
"""Fields that stand in columns of their own, with the only Python type that does."""
SCHEMA = pa.schema(
    [
        pa.field("id", pa.uuid(), nullable=False),
        pa.field("record", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("place", pa.int64(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        *(pa.field(name, pa.string()) for name in NAMED.values()),
        pa.field("interaction_id", pa.uuid()),
        pa.field("success", pa.bool_()),
        *(pa.field(name, kind) for name, (_, kind) in SCALARS.items()),
        pa.field("messages", pa.list_(MESSAGE)),
        pa.field("response", MESSAGE),
        pa.field("tools", pa.string()),
        pa.field("rest", pa.string()),
        pa.field("exact", pa.binary()),
        pa.field("sealed", pa.binary()),
        pa.field("raw_bytes", pa.int32(), nullable=False),
        pa.field("hot_bytes", pa.int32(), nullable=False),
        pa.field("shared", pa.int32()),
    ],
    metadata={"tracemill.layout": VERSION},
)
DELTAS = {"time": "DELTA_BINARY_PACKED", "place": "DELTA_BINARY_PACKED", "sequence": "DELTA_BINARY_PACKED"}
TEXTS = (
    "comment",
    "rest",
    "tools",
    "messages.list.element.content",
    "messages.list.element.tool_calls",
    "messages.list.element.rest",
    "response.content",
    "response.tool_calls",
    "response.rest",
)
"""Columns with texts that may be long and repeat."""
GROUP_TEXTS = (
    *(name for name, (kind, _) in SCALARS.items() if kind is str),
    "messages",
    "response",
    "tools",
    "rest",
    "exact",
    "sealed",
)
"""Columns in which a text of a record may stand that a search looks for."""
_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class SealedRow:
    """A record on its way into the archive: its place in the order of storing, and what the roll-ups counted of it.

    ``shared`` is how many of its first messages an earlier record had already, ``key`` the id of the key it is sealed with.
    """

    place: int
    record: AnyRecord
    raw_bytes: int
    hot_bytes: int
    shared: int | None
    key: bytes | None = None


def to_table(rows: Sequence[SealedRow], sealer: Sealer) -> pa.Table:
    """Rows as a table of :data:`SCHEMA`. Raises RecordError for a record that cannot be encoded."""
    encoded = [encode(row.record) for row in rows]
    plains = sealer.seal([_sealing(row, whole) for row, whole in zip(rows, encoded, strict=True)])
    columns: dict[str, list[Any]] = {field.name: [] for field in SCHEMA}
    messages: list[list[dict[str, Any]] | None] = []
    for row, whole, plain in zip(rows, encoded, plains, strict=True):
        values, own = _values(plain)
        values |= {"place": row.place, "raw_bytes": row.raw_bytes, "hot_bytes": row.hot_bytes, "shared": row.shared}
        if _rebuilt(values, own, sealer) != whole:
            if SEALED in plain:
                values["sealed"] = sealer.seal_whole(plain[SEALED], row.record.id, whole)
            else:
                values["exact"] = whole
        for name, column in columns.items():
            column.append(values.get(name))
        messages.append(own)
    arrays = [_array(field, columns[field.name], messages) for field in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _sealing(row: SealedRow, encoded: bytes) -> Sealing:
    plain = msgspec.msgpack.decode(encoded)
    return Sealing(plain, person_of(plain), row.key)


def _values(plain: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]] | None]:
    """The values of a record's columns, and its messages apart."""
    texts = names_of(plain)
    columns, body = split(plain, texts, {text: text for text in texts.values()})  # type: ignore[misc]
    values: dict[str, Any] = {
        "id": columns["id"],
        "record": TYPE_TAGS[columns["type"]],
        "time": columns["time"],
        "sequence": columns["sequence"],
        "interaction_id": columns["interaction"],
        "success": None if columns["success"] is None else bool(columns["success"]),
    }
    values |= {name: columns[column] for column, name in NAMED.items()}
    for name, (kind, _) in SCALARS.items():
        if type(body.get(name)) is kind and (kind is not int or -_LIMIT <= body[name] < _LIMIT):
            values[name] = body.pop(name)
    own = None
    if isinstance(given := body.get("messages"), list) and all(isinstance(message, dict) for message in given):
        own = [_split_message(message) for message in body.pop("messages")]
    if isinstance(body.get("response"), dict):
        values["response"] = _split_message(body.pop("response"))
    if "tools" in body:
        values["tools"] = _json(body.pop("tools"))
    values["sealed"] = body.pop(SEALED, None)
    values["rest"] = _json(body) if body else None
    return values, own


def _split_message(message: dict[str, Any]) -> dict[str, Any]:
    left = dict(message)
    split_off: dict[str, Any] = {}
    for name in ("role", "content"):
        if isinstance(left.get(name), str):
            split_off[name] = left.pop(name)
    if "tool_calls" in left:
        split_off["tool_calls"] = _json(left.pop("tool_calls"))
    order = [*(name for name in _LEADING if name in split_off), *left]
    if left:
        split_off["rest"] = _json(left)
    if order != list(message):
        split_off["keys"] = _json(list(message))
    return split_off


def _join_message(parts: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {name: parts[name] for name in ("role", "content") if parts.get(name) is not None}
    if parts.get("tool_calls") is not None:
        message["tool_calls"] = parse_json(parts["tool_calls"].encode())
    if parts.get("rest") is not None:
        message |= parse_json(parts["rest"].encode())
    if parts.get("keys") is None:
        return message
    return {name: message[name] for name in parse_json(parts["keys"].encode())}


def _json(value: Any) -> str:
    return encode_json_plain(value).decode()


def _rebuilt(values: dict[str, Any], messages: list[dict[str, Any]] | None, sealer: Sealer) -> bytes | None:
    """What reading these columns would give, encoded; None where it would give nothing."""
    try:
        return encode(from_values(values, messages, sealer))
    except (RecordError, KeyError):
        return None


def from_values(values: dict[str, Any], messages: list[dict[str, Any]] | None, sealer: Sealer) -> AnyRecord:
    """The record of a row's columns, opened. Raises RecordError where they are none, StoreError where it cannot be opened."""
    if (whole := values.get("exact")) is not None:
        return decode(whole)
    body: dict[str, Any] = parse_json(values["rest"].encode()) if values.get("rest") is not None else {}
    body |= {name: values[name] for name in SCALARS if values.get(name) is not None}
    if messages is not None:
        body["messages"] = [_join_message(message) for message in messages]
    if values.get("response") is not None:
        body["response"] = _join_message(values["response"])
    if values.get("tools") is not None:
        body["tools"] = parse_json(values["tools"].encode())
    if values.get("sealed") is not None:
        content = sealer.open(values["id"], values["sealed"])
        if isinstance(content, bytes):
            return decode(content)
        body |= content
    texts = {column: values.get(name) for column, name in NAMED.items()}
    row = SimpleNamespace(
        id=values["id"],
        type=TYPE_CODES[values["record"]],
        time=values["time"],
        sequence=values["sequence"],
        interaction=values.get("interaction_id"),
        success=values.get("success"),
        **texts,
    )
    for name in ("model", "user"):
        body.setdefault(name, {})
    plain = assemble(row, body, {text: text for text in texts.values() if text is not None})
    for name in ("model", "user"):
        if not plain[name]:
            del plain[name]
    return decode(msgspec.msgpack.encode(plain))


def _array(field: pa.Field, values: list[Any], messages: list[list[dict[str, Any]] | None]) -> pa.Array:
    if field.name == "messages":
        return _messages_array(messages)
    if field.name in ("id", "interaction_id"):
        return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(values, pa.binary(16)))
    return pa.array(values, field.type)


def _messages_array(messages: list[list[dict[str, Any]] | None]) -> pa.Array:
    """The list column, from flat columns of its parts: a list of dictionaries a row would cost ten times as much."""
    offsets, at = [0], 0
    for own in messages:
        at += len(own or ())
        offsets.append(at)
    flat = [message for own in messages for message in own or ()]
    parts = [pa.array([message.get(part.name) for message in flat], part.type) for part in MESSAGE]
    absent = pa.array([own is None for own in messages], pa.bool_())
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.StructArray.from_arrays(parts, fields=list(MESSAGE)), mask=absent
    )


def from_table(table: pa.Table, sealer: Sealer) -> Iterator[SealedRow]:
    """Inverse of :func:`to_table`. Raises RecordError where a row is no record."""
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if name in ("id", "interaction_id"):
            column = column.storage
        if name == "messages":
            columns[name] = _message_lists(column)
        elif name == "time":
            columns[name] = column.cast(pa.int64()).to_pylist()
        elif name == "response":
            columns[name] = _structs(column)
        else:
            columns[name] = column.to_pylist()
    for number in range(table.num_rows):
        values = {name: column[number] for name, column in columns.items()}
        record = from_values(values, values.pop("messages"), sealer)
        key = key_of(values["sealed"]) if values["sealed"] is not None else None
        yield SealedRow(values["place"], record, values["raw_bytes"], values["hot_bytes"], values["shared"], key)


def _structs(column: Any) -> list[dict[str, Any] | None]:
    present = column.is_valid().to_pylist()
    parts = {part.name: column.field(part.name).to_pylist() for part in MESSAGE}
    return [{name: values[at] for name, values in parts.items()} if there else None for at, there in enumerate(present)]


def _message_lists(column: Any) -> list[list[dict[str, Any]] | None]:
    present = column.is_valid().to_pylist()
    offsets = column.offsets.to_pylist()
    flat = _structs(column.values)
    return [
        [message for message in flat[offsets[at] : offsets[at + 1]] if message is not None] if there else None
        for at, there in enumerate(present)
    ]
