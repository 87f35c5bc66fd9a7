"""Coverage against worked figures, and laws."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tracemill.quality.coverage import coverage


def test_worked_figures() -> None:
    found = coverage([1, 1, 1, 2, 5])
    assert (found.texts, found.clusters, found.once, found.twice, found.largest) == (10, 5, 3, 1, 5)
    assert found.unseen == 0.3
    assert found.estimated == 5 + 9 / 2
    assert found.effective == 100 / (1 + 1 + 1 + 4 + 25)
    assert coverage([1, 1, 1]).estimated == 3 + 3 * 2 / 2  # nothing was seen twice: the other form
    assert "30.0%" in found.sentence()


def test_nothing_covers_nothing() -> None:
    found = coverage([])
    assert (found.texts, found.unseen, found.estimated, found.effective) == (0, None, 0.0, 0.0)
    assert coverage([0, -3]) == found


@given(st.lists(st.integers(1, 30), min_size=1, max_size=50))
def test_laws(sizes: list[int]) -> None:
    found = coverage(sizes)
    assert found == coverage(sorted(sizes))
    assert found.estimated >= found.clusters == len(sizes)
    assert 0 <= (found.unseen or 0.0) <= 1
    assert 1 - 1e-9 <= found.effective <= len(sizes) + 1e-9
    assert math.isclose(coverage([3] * len(sizes)).effective, len(sizes))
