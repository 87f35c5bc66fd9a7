"""The structural difference says exactly what it takes to get from one value to the other."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tracemill.core.difference import structural_difference

values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab/~", max_size=3),
    lambda child: st.lists(child, max_size=3) | st.dictionaries(st.text("ab/~", max_size=2), child, max_size=3),
    max_leaves=8,
)


def test_added_removed_and_modified_by_pointer() -> None:
    original = {"a": 1, "b": {"x": [1, 2]}, "c": "same", "d/e": 1}
    edited = {"a": 2, "b": {"x": [1, 2, 3]}, "c": "same", "f~": None}
    found = structural_difference(original, edited)
    assert found.modified == {"/a": [1, 2]}
    assert found.added == {"/b/x/2": 3, "/f~0": None}
    assert found.removed == {"/d~1e": 1}


def test_a_change_of_type_is_one_modification() -> None:
    assert structural_difference({"a": [1]}, {"a": {"0": 1}}).modified == {"/a": [[1], {"0": 1}]}
    assert structural_difference(1, True).modified == {"": [1, True]}


def _apply(value: Any, pointer: str, new: Any, remove: bool) -> Any:
    if pointer == "":
        return new
    *path, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]
    at = value
    for part in path:
        at = at[int(part) if isinstance(at, list) else part]
    if isinstance(at, list):
        if remove:
            at[int(last)] = _GONE
        elif int(last) < len(at):
            at[int(last)] = new
        else:
            at.extend([_GONE] * (int(last) - len(at)) + [new])
    elif remove:
        del at[last]
    else:
        at[last] = new
    return value


_GONE = object()


def _without_gone(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_gone(child) for child in value if child is not _GONE]
    if isinstance(value, dict):
        return {key: _without_gone(child) for key, child in value.items()}
    return value


@given(values, values)
def test_applying_the_difference_gives_the_edited_value(original: Any, edited: Any) -> None:
    found = structural_difference(original, edited)
    value = _without_gone(original)
    for pointer, (_, new) in found.modified.items():
        value = _apply(value, pointer, new, remove=False)
    for pointer in found.removed:
        value = _apply(value, pointer, None, remove=True)
    for pointer, new in sorted(found.added.items(), key=lambda item: (item[0].count("/"), len(item[0]), item[0])):
        value = _apply(value, pointer, new, remove=False)
    assert _without_gone(value) == edited


@given(values)
def test_equal_values_do_not_differ(value: Any) -> None:
    assert structural_difference(value, _without_gone(value)) == structural_difference(1, 1)


def test_depth_is_no_matter() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert len(structural_difference(deep, [[2]]).modified) == 1
