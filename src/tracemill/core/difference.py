"""The structural difference of two JSON values, as a Validation carries it."""

from __future__ import annotations

from typing import Any

from tracemill.core.records import Difference


def _pointer(path: tuple[str, ...]) -> str:
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)


def _children(value: Any) -> dict[str, Any] | None:
    if isinstance(value, dict):
        return {str(key): child for key, child in value.items()}
    if isinstance(value, list):
        return {str(index): child for index, child in enumerate(value)}
    return None


def structural_difference(original: Any, edited: Any) -> Difference:
    """What was added, removed and modified on the way from ``original`` to ``edited``, by JSON Pointer (RFC 6901).

    Objects are compared by key and lists by position. A value that changed its type (object, list, scalar) is one
    modification. 1 and 1.0 are equal, True and 1 are not. Works on values of any depth (it does not recurse).
    """
    added: dict[str, Any] = {}
    removed: dict[str, Any] = {}
    modified: dict[str, list[Any]] = {}
    pending: list[tuple[tuple[str, ...], Any, Any]] = [((), original, edited)]
    while pending:
        path, old, new = pending.pop()
        old_children, new_children = _children(old), _children(new)
        if old_children is None or new_children is None or isinstance(old, dict) != isinstance(new, dict):
            if isinstance(old, bool) != isinstance(new, bool) or old != new:
                modified[_pointer(path)] = [old, new]
            continue
        for key in old_children.keys() - new_children.keys():
            removed[_pointer((*path, key))] = old_children[key]
        for key in new_children.keys() - old_children.keys():
            added[_pointer((*path, key))] = new_children[key]
        pending.extend(
            ((*path, key), old_children[key], new_children[key]) for key in old_children.keys() & new_children.keys()
        )
    return Difference(
        added=dict(sorted(added.items())),
        removed=dict(sorted(removed.items())),
        modified=dict(sorted(modified.items())),
    )
