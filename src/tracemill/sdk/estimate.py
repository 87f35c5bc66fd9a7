"""How much a value would cost to encode, found out cheaply and without looking at all of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

SMALL_BYTES = 32 * 1024
"""Records estimated above this are encoded off the caller's thread."""
SMALL_NODES = 400
COPIED_CONTAINERS = 1000
_SCALARS = (int, float, bool, type(None), datetime)
LARGE = 1 << 40


def estimate(fields: Mapping[str, Any]) -> int:
    """Bytes a record of these fields would take, roughly; LARGE as soon as it is clear that it is not small.

    LARGE also for values that MessagePack does not hold: they are turned into others off the caller's thread.
    """
    total, nodes = 200, 0
    pending: list[Any] = list(fields.values())
    while pending:
        value = pending.pop()
        kind = type(value)
        nodes += 1
        if kind is str or kind is bytes:
            total += len(value)
        elif kind is dict:
            total += 8 * len(value)
            pending.extend(value.values())
        elif kind is list or kind is tuple:
            pending.extend(value)
        elif kind in _SCALARS:
            total += 8
        elif isinstance(value, msgspec.Struct):
            pending.extend(getattr(value, name) for name in value.__struct_fields__)
        else:
            return LARGE
        if total > SMALL_BYTES or nodes > SMALL_NODES or len(pending) > SMALL_NODES:
            return LARGE
    return total


def snapshot(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with their containers copied, as far as the first thousand of them.

    A host goes on appending to its list of messages after the call; what was captured must not grow with it. Texts cannot
    change and are never copied. Containers beyond the first thousand are shared with the host until they are encoded.
    """
    left = COPIED_CONTAINERS

    def copy(value: Any, depth: int) -> Any:
        nonlocal left
        kind = type(value)
        if kind not in (dict, list) or left <= 0 or depth > 40:
            return value
        left -= 1
        if kind is dict:
            return {key: copy(child, depth + 1) for key, child in value.items()}
        return [copy(child, depth + 1) for child in value]

    return {name: copy(value, 0) for name, value in fields.items()}


def rough_size(value: Any, most: int) -> int:
    """Bytes of the texts within a value, counted no further than ``most``."""
    total, pending, nodes = 0, [value], 0
    while pending and total < most and nodes < 20_000:
        item = pending.pop()
        nodes += 1
        if isinstance(item, (str, bytes)):
            total += len(item)
        elif isinstance(item, dict):
            total += 8 * len(item)
            pending.extend(item.values())
        elif isinstance(item, (list, tuple)):
            total += 8 * len(item)
            pending.extend(item)
        else:
            total += 8
    return total
