"""The same records, whatever order spans and events come in, however they are batched, and however often."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracemill.capture.otlp.joining import SPANS as SPAN_PARTS
from tracemill.capture.otlp.joining import receive_logs, receive_spans, settle
from tracemill.capture.otlp.parse import Event, LogEvent, Span
from tracemill.core.foreign import span_record_id, trace_record_id
from tracemill.core.ids import EPOCH, now
from tracemill.core.records import AnyRecord, Feedback, Interaction, Step, User
from tracemill.core.settings import load_settings
from tracemill.store.hot import HotStore
from tracemill.store.tiered import open_store

TRACE = "0af7651916cd43dd8448eb211c80319c"


def person(raw: str) -> User:
    return User(pseudonym=raw.upper(), key_id="k")


def span(number: int, parent: int | None, attributes: dict[str, Any], **fields: Any) -> Span:
    values: dict[str, Any] = {
        "trace_id": TRACE,
        "span_id": f"{number:016x}",
        "parent_id": None if parent is None else f"{parent:016x}",
        "name": f"span {number}",
        "start": EPOCH + timedelta(seconds=number),
        "duration_ms": 5.0,
        "attributes": attributes,
        "events": [],
        "failed": False,
        "status": "",
        "resource": {"service.name": "support"},
        "scope": "test",
    }
    return Span(**{**values, **fields})


def event(number: int, name: str, body: Any, nanoseconds: int) -> LogEvent:
    moment = EPOCH + timedelta(seconds=number)
    return LogEvent(name, TRACE, f"{number:016x}", moment, nanoseconds, {}, body, {"service.name": "support"})


CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.system": "openai"}
SPOKEN = {
    **CHAT,
    "gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]',
    "gen_ai.output.messages": '[{"role": "assistant", "parts": [{"type": "text", "content": "ho"}]}]',
}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look", "gen_ai.tool.call.arguments": '{"a": 1}'}
SPANS = [
    span(1, None, {"http.method": "POST"}),  # a web server's span says nothing of a model
    span(2, 1, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "helper"}),
    span(3, 2, SPOKEN),
    span(4, 2, TOOL),
    span(5, 2, CHAT),  # its content comes in events
    span(6, 2, {"db.system": "postgresql"}),
]
EVENTS = [
    event(5, "gen_ai.system.message", {"content": "be kind"}, 1),
    event(5, "gen_ai.user.message", {"content": "bye"}, 2),
    event(5, "gen_ai.choice", {"index": 0, "finish_reason": "stop", "message": {"content": "bye bye"}}, 3),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


def store_at(folder: Path) -> HotStore:
    return open_store(load_settings({"workspace": str(folder / f"{random.getrandbits(64):x}")}, environment={}))


def deliver(store: HotStore, batch: list[Span | LogEvent]) -> None:
    """What the server does with one request of each kind."""
    moment = now()
    spans = [item for item in batch if isinstance(item, Span)]
    received = receive_spans(store, spans, person, None, moment)
    logs = receive_logs([item for item in batch if isinstance(item, LogEvent)], None, moment)
    store.pending_put([*received.parts, *logs.parts])
    result = store.append([*received.records, *logs.records])
    assert result.refused == ()
    store.pending_drop(received.done)


def finish(store: HotStore, later: float = 3600) -> list[AnyRecord]:
    settle(store, now() + timedelta(seconds=5), person, quiet_seconds=2, expire_seconds=600)
    settle(store, now() + timedelta(seconds=later), person, quiet_seconds=2, expire_seconds=600)
    assert store.pending_count() == 0
    return sorted(store.scan(), key=lambda record: record.id)


def expected(folder: Path) -> list[AnyRecord]:
    store = store_at(folder)
    deliver(store, [*SPANS, *EVENTS])
    found = finish(store)
    store.close()
    return found


def test_a_trace_is_an_interaction_with_steps_and_calls(folder: Path) -> None:
    records = expected(folder)
    by_id = {record.id: record for record in records}
    assert len(records) == 5
    root = by_id[trace_record_id(TRACE)]
    assert isinstance(root, Interaction)
    assert (root.kind, root.platform, root.trace_id) == ("workflow", "support", TRACE)
    agent, tool = by_id[span_record_id("2".zfill(16))], by_id[span_record_id("4".zfill(16))]
    assert isinstance(agent, Step)
    assert isinstance(tool, Step)
    assert agent.interaction_id == tool.interaction_id == root.id
    assert (agent.kind, agent.agent, tool.kind, tool.parent_id) == ("agent", "helper", "tool", agent.id)
    assert (tool.actions[0].tool, tool.actions[0].parameters) == ("look", {"a": 1})
    call = by_id[span_record_id("3".zfill(16))]
    assert isinstance(call, Interaction)
    assert call.parent_id == root.id
    assert (call.messages, call.response) == (
        [{"role": "user", "content": "hi"}],
        {"role": "assistant", "content": "ho"},
    )
    joined = by_id[span_record_id("5".zfill(16))]
    assert isinstance(joined, Interaction)
    assert joined.messages == [{"role": "system", "content": "be kind"}, {"role": "user", "content": "bye"}]
    assert joined.response == {"role": "assistant", "content": "bye bye"}
    assert joined.finish_reason == "stop"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations([*SPANS, *EVENTS]), st.lists(st.integers(0, 9), max_size=5), st.booleans())
def test_order_batches_and_repetition_change_nothing(
    folder: Path, order: list[Span | LogEvent], cuts: list[int], twice: bool
) -> None:
    store = store_at(folder)
    edges = [0, *sorted(cuts), len(order)]
    batches = [order[start:end] for start, end in pairwise(edges)]
    for batch in batches:
        deliver(store, batch)
        if twice:
            deliver(store, batch)
    found = finish(store)
    store.close()
    assert found == expected(folder)


def test_a_trace_that_says_nothing_of_a_model_leaves_nothing(folder: Path) -> None:
    store = store_at(folder)
    deliver(store, [span(1, None, {"http.method": "GET"}), span(2, 1, {"db.system": "x"})])
    assert finish(store) == []
    store.close()


def test_a_call_without_content_is_stored_when_none_came(folder: Path) -> None:
    store = store_at(folder)
    deliver(store, [span(9, None, CHAT)])
    assert settle(store, now() + timedelta(seconds=5), person, quiet_seconds=2, expire_seconds=600) == 0
    assert settle(store, now() + timedelta(seconds=40), person, quiet_seconds=2, expire_seconds=600) == 1
    (record,) = store.scan()
    assert isinstance(record, Interaction)
    assert (record.messages, record.response, record.id) == ([], None, trace_record_id(TRACE))
    store.close()


def test_events_that_come_too_late_are_steps_of_their_call(folder: Path) -> None:
    store = store_at(folder)
    deliver(store, [span(5, 1, CHAT)])
    settle(store, now() + timedelta(seconds=40), person, quiet_seconds=2, expire_seconds=600)
    deliver(store, [EVENTS[1]])
    found = finish(store)
    late = [record for record in found if isinstance(record, Step)]
    assert [(step.kind, step.outputs, step.interaction_id) for step in late] == [
        ("message", {"content": "bye"}, span_record_id("5".zfill(16)))
    ]
    store.close()


def test_an_error_and_an_annotation_on_a_span(folder: Path) -> None:
    store = store_at(folder)
    failed = span(
        1,
        None,
        {
            "openinference.span.kind": "LLM",
            "input.value": "x",
            "user.id": "ada",
            "session.id": "s",
            "annotations.0.annotation.name": "thumbs_up",
            "annotations.0.annotation.score": 1,
            "annotations.0.annotation.annotator_kind": "HUMAN",
            "annotations.1.annotation.name": "nothing said",
        },
        failed=True,
        status="",
        events=[Event("exception", {"exception.type": "RateLimitError", "exception.message": "slow down"})],
    )
    deliver(store, [failed])
    interaction, feedback = sorted(finish(store), key=lambda record: type(record).__name__, reverse=True)
    assert isinstance(interaction, Interaction)
    assert isinstance(feedback, Feedback)
    assert interaction.error is not None
    assert (interaction.error.type, interaction.error.message) == ("RateLimitError", "slow down")
    assert (interaction.success, interaction.completion_status) == (False, "failed")
    assert interaction.user == User(pseudonym="ADA", key_id="k")
    assert interaction.conversation_id == "s"
    assert (feedback.kind, feedback.step_id) == ("thumbs_up", span_record_id("1".zfill(16)))
    store.close()


def test_hostile_keys_are_only_data(folder: Path) -> None:
    store = store_at(folder)
    attributes = {
        **SPOKEN,
        "llm.input_messages.99999999999999.message.role": "x",
        "openinference.span.kind": "LLM",
        "llm.input_messages.-1.message.role": "x",
        "llm.input_messages.__class__.message.role": "x",
        "__proto__": "polluted",
        "gen_ai.prompt.0.constructor.prototype": "x",
        "x" * 5000: "y",
    }
    deliver(store, [span(1, None, attributes)])
    (record,) = finish(store)
    assert isinstance(record, Interaction)
    assert record.extra["attributes"]["__proto__"] == "polluted"
    store.close()


def test_an_event_that_comes_while_its_call_is_settled_is_not_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(folder)
    deliver(store, [span(5, 1, CHAT), EVENTS[1], EVENTS[2]])
    read = store.pending_of

    def read_and_receive(source: str, keys: Any) -> Any:
        found = read(source, keys)
        if source == SPAN_PARTS:
            monkeypatch.undo()
            deliver(store, [EVENTS[0]])  # between the look and the record
        return found

    monkeypatch.setattr(store, "pending_of", read_and_receive)
    found = finish(store)
    contents = [str(record) for record in found]
    assert any("be kind" in text for text in contents)
    store.close()
