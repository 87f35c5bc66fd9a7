"""Rates, distributions and counts against their definitions."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.drawing.measures import OTHER, DistinctSample, Measure, Tally, rate, shares, short_name

finite = st.floats(0, 1e12, allow_nan=False)


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        (0, 50, 0.0, 0.071),
        (50, 50, 0.929, 1.0),
        (45, 50, 0.786, 0.957),
        (90, 100, 0.826, 0.945),
        (900, 1000, 0.880, 0.917),
    ],
)
def test_wilson_interval_agrees_with_published_values(successes: int, total: int, low: float, high: float) -> None:
    found = rate(successes, total)
    assert found.value == successes / total
    assert found.low == pytest.approx(low, abs=5e-4)
    assert found.high == pytest.approx(high, abs=5e-4)


def test_a_rate_without_trials_is_not_known() -> None:
    found = rate(0, 0)
    assert (found.value, found.low, found.high) == (None, None, None)


@given(st.integers(1, 10**9).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_interval_lies_around_the_rate_and_mirrors(trials: tuple[int, int]) -> None:
    successes, total = trials
    found, mirrored = rate(successes, total), rate(total - successes, total)
    assert found.low is not None
    assert found.high is not None
    assert found.value is not None
    assert mirrored.low is not None
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high == pytest.approx(1 - mirrored.low)


@given(st.lists(finite, min_size=1, max_size=200))
def test_few_values_are_summed_up_exactly(values: list[float]) -> None:
    measure = Measure()
    for value in values:
        measure.add(value)
    found = measure.distribution()
    assert found.exact
    assert found.count == len(values)
    assert (found.minimum, found.maximum) == (min(values), max(values))
    assert found.median == pytest.approx(statistics.median(values))
    assert found.mean == pytest.approx(statistics.fmean(values), rel=1e-9, abs=1e-9)
    assert sum(each.count for each in found.bins) == len(values)
    if len(values) > 1:
        assert found.p25 == pytest.approx(statistics.quantiles(values, n=4, method="inclusive")[0])
        assert found.p95 == pytest.approx(statistics.quantiles(values, n=20, method="inclusive")[18])
        assert found.standard_deviation == pytest.approx(statistics.stdev(values), rel=1e-6, abs=1e-4)


@given(st.lists(finite, min_size=20, max_size=300))
def test_buckets_are_within_one_per_cent_of_a_neighbouring_value(values: list[float]) -> None:
    measure = Measure(exact_values=10)
    for value in values:
        measure.add(value)
    found = measure.distribution()
    assert not found.exact
    ordered = sorted(values)
    for q, quantile in ((0.25, found.p25), (0.5, found.median), (0.75, found.p75), (0.95, found.p95)):
        true = ordered[math.floor(q * (len(ordered) - 1))]
        assert quantile == pytest.approx(true, rel=0.0101, abs=3e-6)


def test_a_long_stream_is_kept_in_few_buckets_whatever_its_order() -> None:
    draw = random.Random(3)
    values = [draw.lognormvariate(6, 1.5) for _ in range(30_000)]
    forward, backward = Measure(), Measure()
    for value in values:
        forward.add(value)
    for value in reversed(values):
        backward.add(value)
    found = forward.distribution()
    assert not found.exact
    assert found.median == backward.distribution().median
    assert found.median == pytest.approx(statistics.median(values), rel=0.011)
    assert len(forward._buckets) < 2_500


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, True, "7", None, 10**400])
def test_what_is_no_length_or_duration_is_ignored_and_counted(value: object) -> None:
    measure = Measure()
    measure.add(value)
    measure.add(2)
    found = measure.distribution()
    assert (found.count, found.ignored, found.median) == (1, 1, 2.0)


def test_no_values_have_no_quantiles() -> None:
    found = Measure().distribution()
    assert (found.count, found.mean, found.median, found.bins) == (0, None, None, [])


def test_a_tally_has_room_for_so_many_names_and_loses_no_count() -> None:
    tally = Tally(room=3)
    for name in ["a", "b", "c", "d", "e", "a"]:
        tally.add(name)
    assert tally.counts == {"a": 2, "b": 1, "c": 1, OTHER: 2}


def test_shares_are_ordered_by_count_then_name() -> None:
    found = shares({"b": 1, "a": 1, "c": 2, "none": 0})
    assert [(each.name, each.count, each.share) for each in found] == [("c", 2, 0.5), ("a", 1, 0.25), ("b", 1, 0.25)]


@given(st.text(st.characters(exclude_categories=())))
def test_a_short_name_can_be_written(value: str) -> None:
    name = short_name(value, 40)
    assert 0 < len(name) <= 40
    name.encode()


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3))))
def test_few_keys_are_counted_exactly_with_their_bits(items: list[tuple[str, int]]) -> None:
    sample = DistinctSample()
    bits: dict[str, int] = {}
    for key, value in items:
        sample.add(key, value)
        bits[key] = bits.get(key, 0) | value
    assert sample.exact
    assert sample.count() == len(bits)
    assert sample.count(3) == sum(1 for value in bits.values() if value == 3)


def test_many_keys_are_estimated_within_their_error() -> None:
    sample = DistinctSample(room=2_000)
    for number in range(40_000):
        sample.add(f"user-{number % 20_000}", 1 if number % 4 == 0 else 0)
    assert not sample.exact
    assert sample.count() == pytest.approx(20_000, rel=4 / math.sqrt(2_000))
    assert sample.count(1) == pytest.approx(5_000, rel=0.2)
