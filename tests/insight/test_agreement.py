"""Cohen's kappa against worked tables and laws, and its interval."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.insight.agreement import agreement, cohen

TABLES = st.tuples(*[st.integers(0, 40)] * 4)


def test_worked_tables() -> None:
    assert cohen((20, 5, 10, 15)) == pytest.approx(0.4)  # p = 0.7, e = 0.5
    assert cohen((45, 15, 25, 15)) == pytest.approx(0.1304, abs=1e-4)
    assert cohen((10, 0, 0, 10)) == 1
    assert cohen((0, 10, 10, 0)) == -1
    assert cohen((10, 0, 0, 0)) is None
    assert cohen((0, 0, 0, 0)) is None


@given(TABLES)
def test_laws(table: tuple[int, int, int, int]) -> None:
    value = cohen(table)
    both, people, judge, neither = table
    assert value == cohen((both, judge, people, neither))
    assert value == pytest.approx(cohen((neither, people, judge, both)))
    assert value is None or -1 - 1e-9 <= value <= 1 + 1e-9


def test_the_interval_narrows_with_more_records() -> None:
    few, many = (agreement("opinion", "success", table) for table in ((8, 2, 2, 8), (80, 20, 20, 80)))
    assert few.kappa == pytest.approx(0.6)
    assert many.kappa == pytest.approx(0.6)
    widths = [(one.kappa_high or 0) - (one.kappa_low or 0) for one in (few, many)]
    assert widths[1] < widths[0] / 2
    assert few == agreement("opinion", "success", (8, 2, 2, 8))
    nothing = agreement("opinion", "success", (3, 0, 0, 0))
    assert (nothing.kappa, nothing.kappa_low, nothing.agree.value) == (None, None, 1.0)
