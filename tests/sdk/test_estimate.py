"""The application's thread looks at a bounded part of what it hands over, and what it hands over does not change."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given

from tests import strategies
from tracemill.core import codec
from tracemill.core.ids import new_id, now
from tracemill.core.records import Action, Interaction, Model
from tracemill.sdk.estimate import (
    COPIED_LENGTH,
    COPIED_NODES,
    LARGE,
    SMALL_BYTES,
    SMALL_NODES,
    estimate,
    snapshot,
)


def encoded(fields: dict[str, Any]) -> bytes:
    return codec.encode(Interaction(id=new_id(), time=now(), schema_version=1, producer="p", sequence=0, **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": "x" * 2000}] * 5},
        {"model": Model(name="m", configuration={"stop": ["a", "b"]}), "tags": ["a"] * 50},
        {"extra": {"numbers": list(range(300)), "when": now(), "none": None, "bytes": b"123"}},
    ],
)
def test_small_records_are_weighed_about_right(fields: dict[str, Any]) -> None:
    assert len(encoded(fields)) / 3 < estimate(fields) < 3 * len(encoded(fields)) + 1000


@pytest.mark.parametrize(
    "value",
    [
        "x" * (SMALL_BYTES + 1),
        list(range(SMALL_NODES + 1)),
        [["x"] * 20] * 100,
        {1: "a key that is no text"},
        object(),
        {1, 2},
    ],
)
def test_what_is_large_or_odd_is_left_to_the_background(value: Any) -> None:
    assert estimate({"artifact": value}) == LARGE


def test_a_value_that_holds_itself_or_is_too_deep_ends() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    assert estimate({"artifact": cycle}) == LARGE
    deep: Any = "x"
    for _ in range(2000):
        deep = [deep]
    assert estimate({"artifact": deep}) == LARGE
    kept, _ = snapshot({"artifact": cycle})
    assert kept["artifact"] is not cycle
    assert kept["artifact"][0] is kept["artifact"]


@given(strategies.json_values)
def test_a_snapshot_is_equal_and_apart(value: Any) -> None:
    fields = {"extra": {"value": value}}
    before = copy.deepcopy(fields)
    kept, size = snapshot(fields)
    assert kept == before
    assert size > 0
    fields["extra"]["value"] = fields["extra"]["more"] = "changed"
    assert kept == before


def test_what_the_host_changes_later_is_not_seen() -> None:
    parameters = {"query": "first"}
    messages = [{"role": "user", "content": "x" * SMALL_BYTES, "parts": [{"text": "a"}]}]
    fields = {"messages": messages, "extra": {"action": Action(tool="t", parameters=parameters)}}
    kept, _ = snapshot(fields)
    messages[0]["parts"][0]["text"] = "b"  # type: ignore[index]
    messages.append({"role": "assistant", "content": "later"})
    parameters["query"] = "second"
    assert kept["messages"] == [{"role": "user", "content": "x" * SMALL_BYTES, "parts": [{"text": "a"}]}]
    assert kept["extra"]["action"].parameters == {"query": "first"}


def test_a_snapshot_copies_a_bounded_part() -> None:
    endless = ["x"] * (COPIED_LENGTH + 1)
    wide = [{"content": "x"} for _ in range(10 * COPIED_NODES)]
    kept, size = snapshot({"artifact": endless, "messages": wide})
    assert kept["artifact"] is endless
    assert kept["messages"] is not wide
    copied = sum(mine is not theirs for mine, theirs in zip(kept["messages"], wide, strict=True))
    assert 0 < copied <= COPIED_NODES
    assert size > 10 * COPIED_NODES


def test_the_size_of_what_was_not_looked_at_is_judged_by_the_rest() -> None:
    messages = [{"role": "user", "content": "x" * 500} for _ in range(5000)]
    _, size = snapshot({"messages": messages})
    assert 0.5 * 5000 * 500 < size < 2 * 5000 * 520
