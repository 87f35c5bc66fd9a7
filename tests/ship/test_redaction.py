"""What names a person does not leave, and what leaves is the same JSON otherwise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ship.test_packing import VALUES
from tracemill.core.errors import SourceError
from tracemill.ship.redaction import apply, redact_json


def test_strings_are_redacted_and_nothing_else_moves() -> None:
    text = '{ "mail":"ada@example.org",\t"n": 4111111111111111, "t": [1.50, "call +49 30 9018200", "caf\\u00e9"] }\n'
    assert redact_json(text.encode()).decode() == (
        '{ "mail":"[EMAIL]",\t"n": 4111111111111111, "t": [1.50, "call [PHONE]", "caf\\u00e9"] }\n'
    )


def test_what_an_escape_hides_is_found() -> None:
    assert redact_json(b'["ada\\u0040example.org", "\\"ada@example.org\\""]') == b'["[EMAIL]", "\\"[EMAIL]\\""]'


def test_a_value_named_as_a_secret_goes_whole() -> None:
    text = b'{"password": "two words", "api_key" : "x y", "note": "fine", "password_hint": "", "tokens": ["a"]}'
    assert json.loads(redact_json(text)) == {
        "password": "[TOKEN]",
        "api_key": "[TOKEN]",
        "note": "fine",
        "password_hint": "",
        "tokens": ["a"],
    }


def test_names_of_members_are_redacted_too() -> None:
    assert redact_json(b'{"ada@example.org": 1}') == b'{"[EMAIL]": 1}'


@given(VALUES, st.sampled_from([None, 1]))
def test_it_stays_json_and_a_second_time_changes_nothing(value: Any, indent: int | None) -> None:
    once = apply(redact_json, "a.json", json.dumps(value, indent=indent).encode())
    assert redact_json(once) == once


def test_what_cannot_be_redacted_does_not_leave() -> None:
    with pytest.raises(SourceError, match="UnicodeDecodeError"):
        apply(redact_json, "a.json", b'"\xff"')
    with pytest.raises(SourceError, match="no JSON any more"):
        apply(lambda _: b"[", "a.json", b"[]")
    assert apply(None, "a.json", b"\xff") == b"\xff"
