"""Amounts as people and models write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.sdk.amounts import dollars, milliseconds


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("$0.15", 0.15),
        ("$0.05", 0.05),
        ("0.18 USD", 0.18),
        ("USD 2", 2.0),
        ("$1,234.50", 1234.5),
        ("-$5", -5.0),
        ("$-5", -5.0),
        ("15 cents", 0.15),
        ("$.5", 0.5),
        (3, 3.0),
        (0.25, 0.25),
    ],
)
def test_dollars_are_read(written: object, expected: float) -> None:
    assert dollars(written) == pytest.approx(expected)


@pytest.mark.parametrize(
    "written",
    ["€0.15", "cheap", "", "$", "1,23", "-$-5", None, True, float("nan"), 10**400, "$1 to $2", "9" * 65],
)
def test_what_is_no_amount_of_dollars_gives_none(written: object) -> None:
    assert dollars(written) is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("45s", 45_000),
        ("52s", 52_000),
        ("1.2s", 1_200),
        ("8.5 seconds", 8_500),
        ("500ms", 500),
        ("250 µs", 0.25),
        ("02:30:00", 9_000_000),
        ("00:00:30", 30_000),
        ("01:30", 90_000),
        ("1 day, 02:00:00", 93_600_000),
        ("1h30m", 5_400_000),
        ("1 hour and 5 minutes", 3_900_000),
        ("PT2H30M", 9_000_000),
        ("P1DT0.5S", 86_400_500),
        ("12", 12_000),
        (45, 45_000),
        (1.5, 1_500),
    ],
)
def test_durations_are_read(written: object, expected: float) -> None:
    assert milliseconds(written) == pytest.approx(expected)


@pytest.mark.parametrize(
    "written", ["soon", "", "5 parsecs", "P", "PT", "nan", "inf", None, False, "3 s ago", "1:2:3:4"]
)
def test_what_is_no_duration_gives_none(written: object) -> None:
    assert milliseconds(written) is None


@given(st.text(max_size=80) | st.floats() | st.integers() | st.none() | st.binary())
def test_any_value_is_answered_without_an_error(value: object) -> None:
    for answer in (dollars(value), milliseconds(value)):
        assert answer is None or (answer == answer and abs(answer) != float("inf"))


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_a_clock_is_hours_minutes_seconds(hours: int, minutes: int, seconds: int) -> None:
    expected = 1000 * (3600 * hours + 60 * minutes + seconds)
    assert milliseconds(f"{hours:02}:{minutes:02}:{seconds:02}") == expected
    assert milliseconds(f"{hours}h {minutes}m {seconds}s") == expected
