"""Groups go to splits as a whole, in the shares asked for, whatever the order in which they are looked at."""

from __future__ import annotations

import math
import random
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import record_id
from tracemill.core.examples import FeatureValue
from tracemill.core.ids import id_bytes, microseconds
from tracemill.dataset.assign import (
    Members,
    Values,
    balanced,
    by_time,
    cuts_at_shares,
    held_out,
    members,
    moment,
    strata,
)
from tracemill.dataset.splitting import fold_shares

SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
_counts = st.dictionaries(st.integers(0, 4), st.integers(1, 9), min_size=1, max_size=3)
groups = st.dictionaries(st.integers(0, 60), _counts, max_size=25)


def smallest(counts: dict[int, dict[int, int]]) -> dict[int, bytes]:
    return {root: id_bytes(record_id(f"group {root}")) for root in counts}


def pairs(counts: dict[int, dict[int, int]]) -> dict[int, Members]:
    return members((root, stratum) for root, held in counts.items() for stratum, n in held.items() for _ in range(n))


@given(groups)
def test_members_are_counted(counts: dict[int, dict[int, int]]) -> None:
    assert pairs(counts) == {root: tuple(sorted(held.items())) for root, held in counts.items()}


@given(groups, st.integers(0, 3), st.randoms(use_true_random=False))
def test_every_group_goes_to_one_split_in_any_order(
    counts: dict[int, dict[int, int]], seed: int, order: random.Random
) -> None:
    found = balanced(smallest(counts), pairs(counts), seed, SHARES)
    assert set(found) == set(counts)
    assert set(found.values()) <= set(SHARES)
    shuffled = {root: counts[root] for root in order.sample(list(counts), len(counts))}
    assert balanced(smallest(shuffled), pairs(shuffled), seed, SHARES) == found


@given(groups)
def test_the_names_of_groups_do_not_matter(counts: dict[int, dict[int, int]]) -> None:
    found = balanced(smallest(counts), pairs(counts), 0, SHARES)
    renamed = {1000 - root: held for root, held in counts.items()}
    ids = {1000 - root: raw for root, raw in smallest(counts).items()}
    assert balanced(ids, pairs(renamed), 0, SHARES) == {1000 - root: split for root, split in found.items()}


@given(st.lists(st.integers(0, 2), max_size=60), st.sampled_from([SHARES, {"a": 0.5, "b": 0.5}, fold_shares(5)]))
def test_groups_of_one_are_as_close_to_the_shares_as_whole_numbers_can_be(
    kinds: list[int], shares: dict[str, float]
) -> None:
    """Of single interactions each stratum is apportioned as by Webster's method, which keeps quota here."""
    counts = {root: {kind: 1} for root, kind in enumerate(kinds)}
    found = balanced(smallest(counts), pairs(counts), 0, shares)
    had = Counter((found[root], kind) for root, kind in enumerate(kinds))
    for kind, total in Counter(kinds).items():
        for name, share in shares.items():
            assert abs(had[name, kind] - share * total) < 1 + 1e-9


def _misfit(found: dict[int, str], counts: dict[int, dict[int, int]], shares: dict[str, float]) -> float:
    """χ² of the strata over the splits."""
    totals: Counter[int] = Counter()
    had: Counter[tuple[str, int]] = Counter()
    for root, held in counts.items():
        totals.update(held)
        had.update({(found[root], stratum): count for stratum, count in held.items()})
    return math.fsum(
        (had[name, stratum] - share * total) ** 2 / (share * total)
        for name, share in shares.items()
        for stratum, total in totals.items()
    )


def test_balanced_is_far_better_than_drawn() -> None:
    sizes = random.Random(5)
    counts = {
        root: {stratum: sizes.randint(1, 8) for stratum in sizes.sample(range(4), sizes.randint(1, 3))}
        for root in range(60)
    }
    ids = smallest(counts)
    drawn = [_misfit(held_out(ids, seed, SHARES), counts, SHARES) for seed in range(40)]
    assert _misfit(balanced(ids, pairs(counts), 0, SHARES), counts, SHARES) < min(drawn) / 2


def test_a_split_of_no_share_gets_nothing() -> None:
    counts = {root: {0: 1} for root in range(9)}
    assert set(balanced(smallest(counts), pairs(counts), 0, {"a": 1.0, "b": 0.0}).values()) == {"a"}


@given(groups, groups)
def test_groups_that_are_added_move_none_of_a_hold_out(
    counts: dict[int, dict[int, int]], more: dict[int, dict[int, int]]
) -> None:
    before = held_out(smallest(counts), 3, SHARES)
    after = held_out(smallest({**counts, **more}), 3, SHARES)
    assert {root: after[root] for root in before} == before


# -- by time


_spans = st.dictionaries(
    st.integers(0, 40), st.tuples(st.integers(0, 30), st.integers(0, 6)).map(lambda pair: (pair[0], sum(pair)))
)


@given(_spans, st.lists(st.none() | st.integers(0, 35), max_size=3))
def test_a_group_lies_within_one_split_or_in_none(spans: dict[int, tuple[int, int]], moments: list[int | None]) -> None:
    known = sorted(at for at in moments if at is not None)
    begins: list[tuple[str, int | None]] = [("s0", None)]
    begins += [(f"s{place}", at) for place, at in enumerate([*known, *[None] * (len(moments) - len(known))], 1)]
    found = by_time(spans, begins)
    assert set(found) == set(spans)
    for root, (first, last) in spans.items():
        places = {max([0, *(place for place, at in enumerate(known, 1) if at <= time)]) for time in (first, last)}
        assert found[root] == (f"s{places.pop()}" if len(places) == 1 else None)


@given(st.lists(st.integers(0, 9), max_size=40))
def test_cuts_at_shares_leave_about_the_shares(times: list[int]) -> None:
    times.sort()
    begins = cuts_at_shares(times, ["train", "validation", "test"], SHARES)
    assert [name for name, _ in begins] == ["train", "validation", "test"]
    reached = 0.0
    for (name, _), (_, at) in pairwise(begins):
        reached += SHARES[name]
        if at is None:
            assert round(reached * len(times)) >= len(times)
        else:
            assert at in times
            before = sum(time < at for time in times)
            assert before <= round(reached * len(times)) < before + times.count(at)


def test_moments_come_back() -> None:
    at = datetime(2026, 3, 1, 12, 30, 1, 250001, tzinfo=UTC)
    assert moment(microseconds(at)) == at


# -- strata


def test_strata_are_named_by_their_values_and_many_numbers_by_quarters() -> None:
    values: dict[int, Values] = {number: (float(number), number % 2 == 0) for number in range(16)}
    values[16] = (None, None)
    names = strata(values, dict.fromkeys(values, 1))
    assert [names[number][0] for number in (0, 3, 4, 8, 15)] == [
        *["quarter 1"] * 2,
        "quarter 2",
        "quarter 3",
        "quarter 4",
    ]
    assert [names[number][1] for number in (0, 1)] == ["true", "false"]
    assert names[16] == ("unknown", "unknown")
    assert Counter(name for name, _ in names.values()) == {f"quarter {n}": 4 for n in (1, 2, 3, 4)} | {"unknown": 1}


@pytest.mark.parametrize(("value", "word"), [(True, "true"), (3, "3"), (0.5, "0.5"), ("gpt", "gpt"), (None, "unknown")])
def test_few_values_are_strata_as_they_are(value: FeatureValue | None, word: str) -> None:
    assert strata({7: (value,)}, {7: 2}) == {7: (word,)}


def test_quarters_weigh_values_by_how_often_they_occur() -> None:
    values: dict[int, Values] = {number: (number,) for number in range(10)}
    names = strata(values, {number: 91 if number == 0 else 1 for number in range(10)})
    assert {names[number] for number in range(1, 10)} == {("quarter 4",)}
    assert strata({}, {}) == {}
