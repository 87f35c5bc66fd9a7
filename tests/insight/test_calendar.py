"""Days as columns."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.insight.calendar import periods
from tracemill.insight.figures import Day


def day(when: date, succeeded: int = 1, failed: int = 0, unknown: int = 0) -> Day:
    return Day(when, succeeded + failed + unknown, succeeded, failed, unknown, 0, 0, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("first", "last", "unit", "count"),
    [
        (date(2026, 3, 1), date(2026, 3, 1), "day", 1),
        (date(2026, 1, 1), date(2026, 3, 1), "day", 60),
        (date(2026, 1, 1), date(2026, 6, 30), "week", 27),
        (date(2025, 1, 1), date(2026, 12, 31), "month", 24),
        (date(1970, 1, 1), date(9999, 12, 31), "year", 2),
        (date.min, date.min, "day", 1),
        (date.max, date.max, "day", 1),
    ],
)
def test_units_follow_the_span(first: date, last: date, unit: str, count: int) -> None:
    found_unit, found = periods([day(first), day(last)] if first != last else [day(first)])
    assert (found_unit, len(found)) == (unit, count)
    assert found[0].label <= str(first)


def test_no_days() -> None:
    assert periods([]) == ("day", [])


@given(st.lists(st.dates(date(2020, 1, 1), date(2030, 1, 1)), min_size=1, max_size=40, unique=True))
def test_nothing_is_lost_or_counted_twice(dates: list[date]) -> None:
    days = [day(when, index % 3, index % 2, index % 5) for index, when in enumerate(sorted(dates))]
    _, found = periods(days)
    assert sum(each.succeeded for each in found) == sum(each.succeeded for each in days)
    assert sum(each.failed for each in found) == sum(each.failed for each in days)
    assert sum(each.unknown for each in found) == sum(each.unknown for each in days)
    assert [each.label for each in found] == sorted(each.label for each in found)
    assert len(found) < 100
