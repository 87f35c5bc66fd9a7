"""Classes of rows that look alike."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.privacy.anonymity import Classes


def test_classes_of_fewer_people_than_k_are_counted() -> None:
    classes = Classes(("platform", "month"), k=2)
    for person in (b"a", b"b", b"c"):
        classes.add(("shop", "2026-01"), [person])
    classes.add(("shop", "2026-02"), [b"a"])
    found = classes.result()
    assert (found.rows, found.classes, found.smallest, found.below, found.unique) == (4, 2, 1, 1, 1)
    assert (found.holds, found.sizes) == (False, {1: 1, 2: 1})


def test_many_rows_of_one_person_hide_nobody() -> None:
    classes = Classes(("platform",), k=2)
    for _ in range(10):
        classes.add(("shop",), [b"a"])
    assert (classes.result().smallest, classes.result().below) == (1, 10)
    classes.add(("shop",))  # somebody unknown
    assert classes.result().holds


def test_one_row_of_several_people_has_nobody_to_hide_among() -> None:
    classes = Classes(("platform",), k=2)
    classes.add(("shop",), [b"a", b"b", b"c"])
    assert (classes.result().smallest, classes.result().below, classes.result().unique) == (1, 1, 1)


_rows = st.lists(st.tuples(st.sampled_from("xy"), st.sampled_from([1, None, "1"]), st.sampled_from(["", "a", "b"])))


@given(_rows, st.integers(1, 4))
def test_it_agrees_with_the_definition(rows: list[tuple[str, object, str]], k: int) -> None:
    classes = Classes(("one", "two"), k=k)
    people: defaultdict[tuple[str, object], set[str]] = defaultdict(set)
    for at, (one, two, person) in enumerate(rows):
        classes.add((one, repr(two)), [person.encode()] if person else [])
        people[one, repr(two)].add(person or str(at))
    sizes = {key: len(members) for key, members in people.items()}
    counts: Counter[tuple[str, object]] = Counter((one, repr(two)) for one, two, _ in rows)
    found = classes.result()
    assert found.smallest == min(sizes.values(), default=0)
    assert found.below == sum(counts[key] for key in sizes if sizes[key] < k)
    assert found.holds is (bool(rows) and all(size >= k for size in sizes.values()))


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Classes((), k=0)
    with pytest.raises(ValueError, match="1 values for 2 columns"):
        Classes(("a", "b")).add(("x",))
