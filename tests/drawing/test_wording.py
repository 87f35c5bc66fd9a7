"""Numbers as people read them."""

from __future__ import annotations

import pytest

from tracemill.drawing import wording
from tracemill.drawing.measures import rate


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, "–"),
        (0, "0 ms"),
        (79.7, "79.7 ms"),
        (840, "840 ms"),
        (999.9, "1 s"),
        (1800, "1.8 s"),
        (59_990, "1 min"),
        (144_000, "2.4 min"),
        (11_160_000, "3.1 h"),
        (216_000_000, "2.5 days"),
    ],
)
def test_duration(given: float | None, shown: str) -> None:
    assert wording.duration(given) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, "–"),
        (0.0, "0%"),
        (1.0, "100%"),
        (0.5, "50%"),
        (0.4217, "42.2%"),
        (0.0004, "<0.1%"),
        (0.9996, ">99.9%"),
    ],
)
def test_percent_never_rounds_to_all_or_nothing(given: float | None, shown: str) -> None:
    assert wording.percent(given) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 KB"),
        (297_400, "297 KB"),
        (3_400_000, "3.4 MB"),
        (9e15, "9,000 TB"),
    ],
)
def test_size(given: float, shown: str) -> None:
    assert wording.size(given) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, "–"),
        (0, "$0.00"),
        (0.2, "$0.20"),
        (12.5, "$12.50"),
        (0.0048, "$0.0048"),
        (0.000004, "$4.0e-06"),
        (-3, "$-3.00"),
    ],
)
def test_money(given: float | None, shown: str) -> None:
    assert wording.money(given) == shown


def test_counts_and_numbers() -> None:
    assert [wording.count(value) for value in (None, 0, 1234567)] == ["–", "0", "1,234,567"]
    assert [wording.number(value) for value in (None, 3.0, 3.14159, 12345.6)] == ["–", "3", "3.14", "12,346"]
    assert [wording.short_count(value) for value in (950, 1200, 3_000_000, 999_999)] == ["950", "1.2k", "3M", "1M"]


def test_rates_come_with_their_interval() -> None:
    assert wording.outcome(rate(0, 0)) == "not known"
    assert wording.outcome(rate(84, 200)) == "42% (35–49%, 84 of 200)"
    assert wording.interval(rate(5, 5)) == "57–100%"


def test_records_in_the_plural() -> None:
    assert wording.records("interaction", 1) == "1 interaction"
    assert wording.records("session_end", 2000) == "2,000 session ends"
    assert wording.records("feedback", 3) == "3 feedback"


def test_characters_that_hide_or_reorder_are_shown() -> None:
    assert wording.visible("a\u202eb\x07c\u200bd") == "a�b�c�d"
    assert wording.visible("Grüße, 世界 – ok") == "Grüße, 世界 – ok"
