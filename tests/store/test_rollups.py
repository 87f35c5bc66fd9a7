"""Roll-ups against sums made by hand from the records themselves."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.store.conftest import OpenStore
from tests.store.test_hot import chat, interaction
from tracemill.core import codec
from tracemill.core.ids import new_id, now
from tracemill.core.records import Action, AnyRecord, Step


def _call(name: str, call_id: str) -> dict[str, Any]:
    function = {"name": name, "arguments": "{}"}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(strategies.records, max_size=8, unique_by=lambda record: record.id), st.data())
def test_daily_sums_equal_those_of_the_records(
    open_at: OpenStore, records: list[AnyRecord], data: st.DataObject
) -> None:
    store = open_at(f"workspace-{new_id()}")
    store.append(records)
    erased = data.draw(st.sets(st.sampled_from([record.id for record in records]))) if records else set()
    store.erase(sorted(erased))
    left = [record for record in records if record.id not in erased]
    by_type = Counter(codec.to_plain(record)["record"] for record in left)
    summed: dict[str, int] = defaultdict(int)
    for row in store.daily():
        summed[row.type] += row.records
    assert dict(summed) == dict(by_type)
    for field, value in (("succeeded", True), ("failed", False)):
        assert sum(getattr(row, field) for row in store.daily()) == sum(
            getattr(r, "success", None) is value for r in left
        )
    assert sum(row.input_tokens for row in store.daily()) == sum(getattr(r, "input_tokens", None) or 0 for r in left)
    assert sum(row.timed for row in store.daily()) == sum(getattr(r, "duration_ms", None) is not None for r in left)
    days = {(row.day, row.platform) for row in store.daily()}
    assert {
        (record.time.date(), platform)
        for record in left
        if isinstance(platform := getattr(record, "platform", None), str)
        and platform.isascii()
        and platform.isprintable()
    } <= days
    store.close()


def test_the_calls_of_an_erased_record_are_counted_with_the_one_that_continues_it(open_at: OpenStore) -> None:
    store = open_at()
    history = [*chat("find it"), _call("search", "1"), {"role": "tool", "tool_call_id": "1", "content": "found"}]
    first = interaction(messages=history[:1], response=history[1])
    second = interaction(messages=history, response=_call("open", "2"))
    third = interaction(messages=[*history, _call("open", "2"), *chat("more")], response=_call("open", "3"))
    for record in (first, second, third):
        store.append([record])
    expected = {"search": 1, "open": 2}
    for erased in (first, second):
        store.erase([erased.id])
        assert {row.tool: row.called for row in store.daily_tools()} == expected
    assert store.get(third.id) == third
    store.erase([third.id])
    assert store.daily_tools() == []
    assert store.daily() == []


def test_a_tool_call_counts_once_however_often_its_history_is_logged(open_at: OpenStore) -> None:
    store = open_at()
    history = [
        *chat("find it"),
        _call("search", "1"),
        {"role": "tool", "tool_call_id": "1", "content": "found"},
    ]
    store.append(
        [
            interaction(messages=history[:1], response=history[1], tools_used=["search"]),
            interaction(messages=history, response=_call("open", "2"), tools_used=["search", "open"]),
            interaction(messages=chat("hello"), tools_used=["clock"]),
        ]
    )
    assert {row.tool: row.called for row in store.daily_tools()} == {"search": 1, "open": 1, "clock": 1}


def test_actions_of_steps_give_success_and_time(open_at: OpenStore) -> None:
    store = open_at()
    actions = [
        Action(tool="search", success=True, duration_ms=10.0),
        Action(tool="search", success=False, duration_ms=30.0),
        Action(tool="search"),
        Action(type="thought"),
    ]
    step = Step(id=new_id(), time=now(), schema_version=1, producer="p", sequence=0, platform="a", actions=actions)
    store.append([step])
    (row,) = store.daily_tools(platform="a")
    assert (row.tool, row.called, row.ran, row.failed, row.duration_ms, row.timed) == (
        "search",
        0,
        3,
        1,
        40.0,
        2,
    )
    assert store.daily_tools(platform="b") == []


def test_odd_numbers_do_not_spoil_a_sum(open_at: OpenStore) -> None:
    store = open_at()
    store.append(
        [
            interaction(duration_ms=float("nan"), cost_usd=float("inf")),
            interaction(duration_ms=5.0, cost_usd=1.5),
        ]
    )
    (row,) = store.daily()
    assert (row.records, row.duration_ms, row.timed, row.cost_usd) == (2, 5.0, 1, 1.5)
