"""Patterns mined out of a store: messages whose results tell of failures, steps that state them, and the real records."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.dataset.support import (
    calls,
    interaction,
    list_store,
    open_store,
    result,
    says,
    step,
    tau_bench,
    tau_bench_source,
)
from tracemill.core.records import Action, AnyRecord
from tracemill.dataset.recipe import Source
from tracemill.drawing.measures import rate
from tracemill.insight.mining import Mined, mine, narrow
from tracemill.quality.metrics import is_failure
from tracemill.store.base import Filter, Store

ASK = says("user", "Book the flight of Ada Lovelace.")


def everything(after: int, up_to: int) -> Filter:
    return Source().filter(after=after, up_to=up_to)


def mined(store: Store, **options: Any) -> Mined:
    return mine(store, everything, minimum_support=1, **options)


def booking(name: str, *results: str) -> AnyRecord:
    messages = [ASK]
    for number, content in enumerate(results):
        messages += [calls("book", '{"name": "Ada"}', f"c{number}"), result(f"c{number}", content, "book")]
    messages += [calls("pay", "{}", "p"), result("p", "{}", "pay")]
    return interaction(name, messages, success=True)


def test_results_of_messages_tell_success_failure_and_recovery() -> None:
    found = mined(list_store([booking("a", "Error: full", "{}"), booking("b", "{}")]))
    tools = {tool.tool: tool for tool in found.tools}
    assert (tools["book"].calls, tools["book"].succeeded) == (3, rate(2, 3))
    (recovery,) = tools["book"].recoveries
    assert (recovery.tool, recovery.worked.successes) == ("book", 1)
    patterns = {tuple(pattern.tools): pattern for pattern in found.patterns}
    assert patterns["book", "pay"].support == 2
    assert (found.trajectories, found.error) == (2, 0)


def test_steps_state_times_and_are_found_wherever_they_are_stored() -> None:
    acts = [
        Action(tool="fetch", success=False, duration_ms=100.0),
        Action(tool="fetch", success=True, duration_ms=300.0),
    ]
    records: list[AnyRecord] = [
        *(step(f"s{number}", "t", index=number, actions=[act]) for number, act in enumerate(acts)),
        interaction("t", [ASK], kind="agent"),
    ]
    for order in (records, records[::-1]):
        (tool,) = mined(list_store(order)).tools
        assert (tool.p50_ms, tool.mean_ms, tool.recoveries[0].tool) == (200, 200, "fetch")


def test_the_narrow_form_holds_names_and_numbers_alone() -> None:
    text = json.dumps(narrow(mined(list_store([booking("a", "Error: no seat for Ada", "{}")]))))
    assert "Ada" not in text
    assert "seat" not in text
    assert json.loads(text)["tools"][0]["success"]["of"] == 2


def test_nothing_later_than_the_watermark_counts(tmp_path: Path) -> None:
    store = open_store(tmp_path, [booking("a", "{}")])
    watermark = store.watermark()
    store.append([booking("b", "{}")])
    assert mined(store, up_to=watermark).trajectories == 1
    store.close()


def test_the_real_trajectories_counted_by_brute_force(shared_data: Path) -> None:
    path = shared_data / "tau_bench_airline_gpt4o.json"
    found = mined(list_store(list(tau_bench(path))), limit=10_000)
    support: Counter[tuple[str, ...]] = Counter()
    called: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for run in tau_bench_source(path).values():
        names, ids = [], {}
        for message in run["traj"]:
            for call in message.get("tool_calls") or ():
                names.append(call["function"]["name"])
                ids[call["id"]] = call["function"]["name"]
            if message["role"] == "tool":
                failed[ids[message["tool_call_id"]]] += is_failure(message["content"])
        called.update(names)
        support.update({tuple(names[at : at + n]) for n in (2, 3, 4) for at in range(len(names) - n + 1)})
    assert {tool.tool: tool.calls for tool in found.tools} == called
    assert {tool.tool: tool.succeeded.total - tool.succeeded.successes for tool in found.tools} == {
        tool: failed[tool] for tool in called
    }
    assert sum(failed.values()) > 30
    assert len(found.patterns) > 100
    assert all(pattern.support == support[tuple(pattern.tools)] for pattern in found.patterns)
