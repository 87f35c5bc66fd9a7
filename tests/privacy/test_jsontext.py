"""Values inside JSON text are found and replaced where they stand; all the rest stays letter by letter."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import odd_text
from tracemill.privacy.jsontext import Leaf, leaves, looks_like_json, replaced

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | odd_text,
    lambda child: st.lists(child, max_size=3) | st.dictionaries(odd_text, child, max_size=3),
    max_leaves=8,
)
containers = st.lists(values, max_size=3) | st.dictionaries(odd_text, values, max_size=3)
written = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only),
    containers,
    st.sampled_from([None, 1, 4]),
    st.booleans(),
)


def test_leaves_know_their_place_and_their_neighbours() -> None:
    text = '{"a": {"first_name": "Mia", "n": [1, "x", {"y": -2.5e3}]}, "b": null}'
    found = {leaf.path: leaf for leaf in leaves(text) if not leaf.is_key}
    assert [(path, leaf.value) for path, leaf in found.items()] == [
        (("a", "first_name"), "Mia"),
        (("a", "n", "0"), "1"),
        (("a", "n", "1"), "x"),
        (("a", "n", "2", "y"), "-2.5e3"),
    ]
    assert found["a", "first_name"].siblings == ["first_name", "n"]
    assert [text[leaf.start : leaf.end] for leaf in found.values()] == ['"Mia"', "1", '"x"', "-2.5e3"]


def test_what_is_not_replaced_stays_letter_by_letter() -> None:
    text = '{ "price" : 1.10,\n  "name": "Mia \\u00e9",  "big": 123456789012345678901234567890, "name": "Li" }'
    new = replaced(text, lambda leaf: '"Ola"' if leaf.value == "Li" else None)
    assert new == text.replace('"Li"', '"Ola"')
    assert replaced(text, lambda _: None) is text


def test_what_is_no_json_is_not_taken_for_it() -> None:
    for text in (
        "",
        "{",
        "[1, 2",
        "{'a': 1}",
        "{a}",
        '"text"',
        "12",
        '{"a": 1} and more',
        "[" * 100_000 + "]" * 100_000,
    ):
        assert not looks_like_json(text), text[:20]


@given(written)
def test_every_leaf_is_found_as_python_reads_it(text: str) -> None:
    assert looks_like_json(text)
    expected: list[Any] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            for key, child in value.items():
                expected.append(key)
                collect(child)
        elif isinstance(value, list):
            for child in value:
                collect(child)
        elif value is not None and not isinstance(value, bool):
            expected.append(value)

    collect(json.loads(text))
    assert [leaf.value if leaf.quoted else json.loads(leaf.value) for leaf in leaves(text)] == expected


@given(written, st.sampled_from(['"new \\" text"', "7", "null"]))
def test_json_stays_json(text: str, token: str) -> None:
    def change(leaf: Leaf) -> str | None:
        return None if leaf.is_key else token

    new = json.loads(replaced(text, change))

    def same_shape(old: Any, now: Any) -> bool:
        if isinstance(old, dict):
            return old.keys() == now.keys() and all(same_shape(old[key], now[key]) for key in old)
        if isinstance(old, list):
            return len(old) == len(now) and all(map(same_shape, old, now))
        return bool(now == (old if old is None or isinstance(old, bool) else json.loads(token)))

    assert same_shape(json.loads(text), new)
