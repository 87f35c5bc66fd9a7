"""Finding a text in what was said, in the database and in the archive, without an index that erasure would have to reach.

A record is found when any text in it contains the words asked for, as they stand or as JSON writes them (arguments of
tool calls are JSON in a text); the whole history of a call counts, and what a filter asks
for (platform, model, user, ids) does not. Letters' case does not matter. Stored forms are looked
through first (compressed bodies, dictionaries of columns); what may contain the words is then read and looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from tracemill.core.records import AnyRecord

_FILTERED = frozenset(
    ("record", "id", "producer", "platform", "session_id", "conversation_id", "interaction_id", "user", "model")
)
"""Fields that are asked for by a filter and not by their text."""


class Needle:
    """What is looked for, in every form it may be stored in."""

    def __init__(self, text: str) -> None:
        """Raises ValueError when there is nothing to look for."""
        if not text.strip():
            raise ValueError("there is nothing to look for")
        written = msgspec.json.encode(text).decode()[1:-1]
        twice = msgspec.json.encode(written).decode()[1:-1]
        self.in_texts = tuple(dict.fromkeys(form.lower() for form in (text, written)))
        """How it may stand in a text of a record."""
        self.in_json = tuple(dict.fromkeys(form.lower() for form in (text, written, twice)))
        """How it may stand in a column that holds JSON."""

    def in_bytes(self, data: bytes) -> bool:
        """Whether an encoded body may hold it."""
        text = data.decode("utf-8", "replace").lower()
        return any(form in text for form in self.in_texts)

    def in_record(self, record: AnyRecord) -> bool:
        """Whether a text of a record holds it; names of fields do not count, nor does what filters ask for."""
        plain = msgspec.to_builtins(record, builtin_types=(bytes, bytearray, datetime))
        texts = (text for key, value in plain.items() if key not in _FILTERED for text in _texts(value))
        return any(form in text.lower() for text in texts for form in self.in_texts)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for child in value.values():
            yield from _texts(child)
    elif isinstance(value, list):
        for child in value:
            yield from _texts(child)
