"""Groups are what must not be parted; splits are drawn from the records alone."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import interaction, record_id, user
from tracemill.dataset.split import Groups, draw_split, group_keys, precedence


@given(st.lists(st.lists(st.integers(0, 12), max_size=3), max_size=30), st.randoms(use_true_random=False))
def test_groups_are_the_connected_components(shared: list[list[int]], order: random.Random) -> None:
    groups = Groups()
    for keys in shared:
        groups.add([str(key).encode() for key in keys])
    components = [{number} for number in range(len(shared))]
    for key in range(13):
        holding = [component for component in components if any(key in shared[number] for number in component)]
        if holding:
            components = [c for c in components if c not in holding] + [set().union(*holding)]
    found = {number: groups.root(number) for number in order.sample(range(len(shared)), len(shared))}
    for component in components:
        assert {found[number] for number in component} == {min(component)}


def test_what_holds_records_together() -> None:
    one = interaction("a", [], user=user("u"), conversation_id="1", session_id="1", task_id="1", platform="p")
    keys = group_keys(one)
    assert len(set(keys)) == 4
    assert group_keys(interaction("b", [], platform="q", user=user("u"), conversation_id="1")) == [
        keys[0],
        *group_keys(interaction("c", [], platform="q", conversation_id="1")),
    ]
    assert not set(group_keys(interaction("b", [], platform="q", conversation_id="1", task_id="1"))) & set(keys)
    assert group_keys(interaction("d", [])) == []


def test_splits_are_drawn_in_proportion_and_by_seed() -> None:
    shares = {"train": 0.8, "validation": 0.15, "test": 0.05}
    drawn = [draw_split(0, record_id(str(number)), shares) for number in range(4000)]
    for name, share in shares.items():
        assert abs(drawn.count(name) / 4000 - share) < 0.03
    assert drawn == [draw_split(0, record_id(str(number)), shares) for number in range(4000)]
    assert drawn != [draw_split(1, record_id(str(number)), shares) for number in range(4000)]


@given(st.integers(), st.integers(0, 1000))
def test_a_share_of_nothing_is_never_drawn(seed: int, number: int) -> None:
    assert draw_split(seed, record_id(str(number)), {"a": 0.0, "b": 1.0, "c": 0.0}) == "b"
    # shares that add up to a little less than 1 leave nobody without a split
    assert draw_split(seed, record_id(str(number)), {"a": 0.0, "b": 1e-9}) == "b"


def test_the_smallest_split_comes_first() -> None:
    order = precedence({"train": 0.8, "validation": 0.1, "test": 0.1})
    assert sorted(order, key=order.__getitem__) == ["test", "validation", "train"]
