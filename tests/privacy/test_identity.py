"""What is known of a conversation's people is found wherever it recurs, and ordinary words are left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.privacy.identity import Known


def found(known: list[tuple[str, str]], text: str) -> list[tuple[str, str]]:
    """The kinds and texts found."""
    people = Known()
    for kind, value in known:
        people.add(kind, value)
    return [(one.kind, text[one.start : one.end]) for one in people.find(text)]


@pytest.mark.parametrize(
    ("known", "text", "expected"),
    [
        (("person_name", "Orla Quist"), "Hi orla, or ORLA QUIST", ["orla", "ORLA QUIST"]),
        (("person_name", "Orla Quist"), "Mr. Quist's orlando, Orla_1", ["Quist"]),
        (("person_name", "Mia Li"), "li and mia; Li and MIA", ["Li", "MIA"]),
        (("person_name", "Will May"), "Will you? It may be. Will May!", ["Will May"]),
        (("person_name", "Jürgen Groß"), "“jürgen” groß", ["jürgen", "groß"]),
        (("person_name", "Orla  Quist"), "orla\nquist", ["orla\nquist"]),
        (("username", "orla_quist_77"), "/u/orla_quist_77?x, orla_quist_778", ["orla_quist_77"]),
        (("date_of_birth", "1984-03-12"), "03/12/1984, 12.03.1984, March 12, 1984, 1984-03-12, 1985-03-12",
         ["03/12/1984", "12.03.1984", "March 12, 1984", "1984-03-12"]),
        (("card_last_four", "8812"), "ending 8812, not 88123 or 18812", ["8812"]),
        (("card_last_four", "2024"), "in 2024", []),
        (("city", "Graz"), "Graz", []),
        (("pin", "4471"), "4471", []),
        (("email", "a@b.example"), "A@B.example", ["A@B.example"]),
        (("person_name", "X"), "X", []),
        (("person_name", "\ud800 Orla"), "\ud800 Orla \ud800", ["Orla"]),
    ],
)  # fmt: skip
def test_known_values_are_found(known: tuple[str, str], text: str, expected: list[str]) -> None:
    people = [one for _, one in found([known], text)]
    assert sorted(people) == sorted(expected)


def test_the_longest_is_found_and_kinds_are_kept() -> None:
    known = [("person_name", "Orla Quist"), ("username", "orla_quist_77"), ("customer_id", "K-99123")]
    text = "Orla Quist (orla_quist_77) has K-99123"
    assert found(known, text) == [
        ("person_name", "Orla Quist"),
        ("username", "orla_quist_77"),
        ("customer_id", "K-99123"),
    ]


def test_nobody_known_means_nothing_found() -> None:
    assert not Known()
    assert found([], "Orla") == []
    assert found([("person_name", "Orla")], "") == []


@given(st.lists(st.text("abcdefghijklm0123 _.-", min_size=6, max_size=12), max_size=4), st.text("xyz ,;()", max_size=6))
def test_every_known_value_is_found_between_signs(values: list[str], between: str) -> None:
    known = Known()
    for value in values:
        known.add("customer_id", value)
    for value in values:
        if len(value.strip()) < 6 or "  " in value.strip():
            continue
        text = f"({between}) {value.strip()} ({between})"
        spans = [(one.start, one.end) for one in known.find(text)]
        at = text.index(f" {value.strip()} ") + 1
        if any(one.isdigit() for one in value):
            assert (at, at + len(value.strip())) in spans
