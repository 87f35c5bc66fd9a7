"""What the application's thread does with the values of a record: weigh them, and copy what may change under our hands.

Both stop early. A value that is large, or that MessagePack does not hold, is looked at as far as a fixed number of nodes
and left to the background.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec

from tracemill.core import records

SMALL_BYTES = 32 * 1024
"""Records estimated above this are encoded off the caller's thread: copying 32 KiB takes it about 20 µs."""
SMALL_NODES = 500
COPIED_NODES = 1000
COPIED_LENGTH = 20_000
"""Longer lists and mappings are shared with the application until they are encoded: copying one takes 50 µs and more."""
LARGE = 1 << 40
_DEEPEST = 100
_RECORD_BYTES = 250
_NODE_BYTES = 8
_SAMPLE = 8
_SCALARS = frozenset({int, float, bool, type(None), datetime})
_CONTAINERS = frozenset({dict, list, tuple, set, frozenset})
_join = "".join


def estimate(fields: Mapping[str, Any]) -> int:
    """Bytes a record of these fields would take, roughly; LARGE as soon as it is clear that it is not small.

    LARGE also for values that MessagePack does not hold: they are turned into others off the caller's thread.
    """
    try:
        return _weigh(fields)
    except (RuntimeError, TypeError):
        return LARGE  # another thread of the host is changing a mapping, or a key is no text


def _weigh(fields: Mapping[str, Any]) -> int:
    total, nodes = _RECORD_BYTES, SMALL_NODES
    level: list[Any] = [fields.values()]
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for children in level:
            for value in children:
                kind = type(value)
                if kind is str or kind is bytes:
                    total += len(value)
                elif kind is dict:
                    nodes -= len(value)
                    total += len(_join(value))
                    below.append(value.values())
                elif kind is list or kind is tuple:
                    nodes -= len(value)
                    below.append(value)
                elif kind in _SCALARS:
                    total += _NODE_BYTES
                elif isinstance(value, msgspec.Struct):
                    below.append([getattr(value, name) for name in value.__struct_fields__])
                else:
                    return LARGE
                if total > SMALL_BYTES or nodes < 0:
                    return LARGE
        if not below:
            return total
        level = below
    return LARGE


def snapshot(fields: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The fields with their containers copied as far as the first thousand values, and an estimate of their bytes.

    A host goes on appending to its list of messages after the call; what was captured must not grow with it. The outer
    containers are copied first, as they are the ones that grow. Texts cannot change and are never copied.
    """
    kept = dict(fields)
    pending: list[Any] = [kept]
    copies: dict[int, Any] = {}
    total, left, at, unseen = _RECORD_BYTES, COPIED_NODES, 0, 0
    while at < len(pending) and left > 0:
        container = pending[at]
        at += 1
        looked = min(left, len(container))
        left -= looked
        unseen += len(container) - looked
        items = container.items() if type(container) is dict else enumerate(container)
        for key, value in islice(items, looked):
            kind = type(value)
            if kind is str or kind is bytes:
                total += len(value)
                continue
            total += _NODE_BYTES
            if kind in _SCALARS:
                continue
            copied = _copied(value, kind, copies, pending)
            if copied is value:
                total += _sampled(value, 3)
            else:
                container[key] = copied
    rest = pending[at:]
    if rest:
        return kept, total + _of_some(rest, len(rest) + unseen, 4)
    return kept, total + total * unseen // (COPIED_NODES - left + 1)


def _copied(value: Any, kind: type, copies: dict[int, Any], pending: list[Any]) -> Any:
    """A copy of a container, which joins ``pending``; the value itself where it cannot change or is too long."""
    if kind is dict or kind is list:
        if id(value) not in copies:
            if len(value) > COPIED_LENGTH:
                return value
            copies[id(value)] = value.copy()
            pending.append(copies[id(value)])
        return copies[id(value)]
    if kind.__module__ == records.__name__ and issubclass(kind, msgspec.Struct):
        inner = {name: getattr(value, name) for name in value.__struct_fields__}
        changed = {name: _copied(child, type(child), copies, pending) for name, child in inner.items()}
        if any(changed[name] is not child for name, child in inner.items()):
            return kind(**changed)
    return value


def _of_some(values: list[Any], number: int, depth: int) -> int:
    """Bytes of ``number`` values of which ``values`` are some, judged by a few of them."""
    some = values[:: max(1, len(values) // _SAMPLE)][:_SAMPLE]
    return sum(_sampled(value, depth) for value in some) * number // max(1, len(some))


def _sampled(value: Any, depth: int) -> int:
    kind = type(value)
    if kind is str or kind is bytes or kind is bytearray:
        return len(value)
    if depth > 0 and kind in _CONTAINERS:
        try:
            some = list(islice(value.values() if kind is dict else value, _SAMPLE))
        except RuntimeError:
            some = []  # another thread of the host is changing it
        return _NODE_BYTES * len(value) + _of_some(some, len(value), depth - 1)
    return int(value.nbytes) if kind.__module__ == "numpy" and hasattr(kind, "nbytes") else _NODE_BYTES
