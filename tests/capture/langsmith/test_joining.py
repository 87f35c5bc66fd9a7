"""The same records, whatever order the parts of runs come in, however they are batched, and however often."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracemill.capture.langsmith.joining import feedback_of, receive, settle
from tracemill.capture.langsmith.multipart import Operation, Piece
from tracemill.core.foreign import run_record_id
from tracemill.core.ids import now
from tracemill.core.records import AnyRecord, Interaction, Step, User
from tracemill.core.settings import load_settings
from tracemill.store.hot import HotStore
from tracemill.store.tiered import open_store


def run_id(number: int) -> str:
    return f"00000000-0000-7000-8000-{number:012x}"


def person(raw: str) -> User:
    return User(pseudonym=raw.upper(), key_id="k")


def piece(operation: Operation, number: int, **fields: Any) -> Piece:
    parent = {} if number == 1 else {"parent_run_id": run_id(1)}
    run = {"id": run_id(number), "trace_id": run_id(1), "name": f"run {number}", **parent, **fields}
    return Piece(operation, run_id(number), run)


START = {"start_time": "2026-03-01T10:00:00.000001+00:00"}
END = {"end_time": "2026-03-01T10:00:01.500001+00:00"}
METADATA = {"metadata": {"thread_id": "t1", "user_id": "lovelace", "ls_provider": "openai", "ls_model_name": "m"}}
PIECES = [
    piece("post", 1, run_type="chain", inputs={"q": "hi"}, extra=METADATA, session_name="support", **START),
    piece("patch", 1, outputs={"a": "ho"}, tags=["blue"], **END),
    piece("patch", 1, outputs={"a": "ho!"}, end_time="2026-03-01T10:00:02+00:00"),
    piece("post", 2, run_type="llm", inputs={"messages": [{"role": "user", "content": "hi"}]}, extra=METADATA, **START),
    piece("patch", 2, outputs={"choices": [{"message": {"role": "assistant", "content": "ho"}}]}, **END),
    piece("post", 3, run_type="tool", inputs={"a": 1}, outputs={"output": 2}, **START, **END),
    piece("post", 4, run_type="chain", error="ValueError('bad')\n\nTraceback …", **START, **END),
    piece("post", 5, run_type="chain", inputs={"never": "ends"}, **START),
    piece("patch", 6, run_type="chain", outputs={"never": "began"}, **END),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


def store_at(folder: Path) -> HotStore:
    return open_store(load_settings({"workspace": str(folder / f"{random.getrandbits(64):x}")}, environment={}))


MOMENT = now()


def deliver(store: HotStore, batch: list[Piece]) -> None:
    """What the server does with one request."""
    received = receive(store, batch, person, None, MOMENT)
    store.pending_put(received.parts)
    assert store.append(received.records).refused == ()


def finish(store: HotStore) -> list[AnyRecord]:
    for seconds in (5, 3600):
        settle(store, MOMENT + timedelta(seconds=seconds), person, quiet_seconds=2, expire_seconds=600)
    assert store.pending_count() == 0
    return sorted(store.scan(), key=lambda record: record.id)


def expected(folder: Path) -> list[AnyRecord]:
    store = store_at(folder)
    deliver(store, PIECES)
    found = finish(store)
    store.close()
    return found


def test_a_trace_is_an_interaction_with_calls_and_steps(folder: Path) -> None:
    by_id = {record.id: record for record in expected(folder)}
    assert by_id.keys() == {run_record_id(run_id(number)) for number in range(1, 7)}
    root, call, tool, failed, unended, unbegun = (by_id[run_record_id(run_id(number))] for number in range(1, 7))
    assert isinstance(root, Interaction)
    assert (root.kind, root.platform, root.conversation_id, root.tags) == ("workflow", "support", "t1", ["blue"])
    assert (root.extra["inputs"], root.extra["outputs"]) == ({"q": "hi"}, {"a": "ho!"})
    assert (root.user, root.completion_status) == (User(pseudonym="LOVELACE", key_id="k"), "successful")
    assert "lovelace" not in str(root.extra)
    assert root.duration_ms == pytest.approx(1999.999)
    assert isinstance(call, Interaction)
    assert (call.parent_id, call.kind, call.trace_id) == (root.id, "chat", run_id(1))
    assert call.messages == [{"role": "user", "content": "hi"}]
    assert call.response == {"role": "assistant", "content": "ho"}
    assert call.model is not None
    assert (call.model.provider, call.model.name) == ("openai", "m")
    assert isinstance(tool, Step)
    assert (tool.interaction_id, tool.parent_id, tool.kind) == (root.id, root.id, "tool")
    assert (tool.actions[0].tool, tool.actions[0].parameters, tool.actions[0].result) == ("run 3", {"a": 1}, 2)
    assert isinstance(failed, Step)
    assert failed.error is not None
    assert (failed.error.type, failed.error.message, failed.success) == ("ValueError", "bad", False)
    assert (unended.extra["completion_status"], unbegun.extra["completion_status"]) == ("interrupted", "partial")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(PIECES), st.lists(st.integers(0, 9), max_size=5), st.booleans())
def test_order_batches_and_repetition_change_nothing(
    folder: Path, order: list[Piece], cuts: list[int], twice: bool
) -> None:
    store = store_at(folder)
    edges = [0, *sorted(cuts), len(order)]
    for start, end in pairwise(edges):
        deliver(store, order[start:end])
        if twice:
            deliver(store, order[start:end])
    found = finish(store)
    if twice:
        deliver(store, order)
        assert finish(store) == found
    store.close()
    assert found == expected(folder)


def test_a_change_after_the_record_is_a_step_and_a_repetition_is_none(folder: Path) -> None:
    store = store_at(folder)
    whole = piece("post", 3, run_type="tool", inputs={"a": 1}, outputs={"output": 2}, **START, **END)
    deliver(store, [whole])
    assert len(finish(store)) == 1
    deliver(store, [whole, piece("patch", 3, outputs={"output": 3}, **END)])
    record, late = sorted(finish(store), key=lambda found: getattr(found, "kind", "") == "late_patch")
    assert isinstance(late, Step)
    assert isinstance(record, Step)
    assert (late.kind, late.parent_id, late.interaction_id) == ("late_patch", record.id, record.interaction_id)
    assert late.outputs["outputs"] == {"output": 3}
    store.close()


def test_a_run_waits_for_its_end(folder: Path) -> None:
    store = store_at(folder)
    deliver(store, [PIECES[0]])
    assert settle(store, MOMENT + timedelta(seconds=500), person, quiet_seconds=2, expire_seconds=600) == 0
    assert list(store.scan()) == []
    deliver(store, [PIECES[1]])
    assert settle(store, MOMENT + timedelta(seconds=5), person, quiet_seconds=2, expire_seconds=600) == 1
    store.close()


def test_feedback_names_who_said_it_and_about_which_run() -> None:
    entry = {
        "id": run_id(9),
        "run_id": run_id(2),
        "key": "quality",
        "score": None,
        "value": "bad",
        "correction": {"answer": "hey"},
        "feedback_source": {"type": "model", "metadata": {"user_id": "lovelace", "__run": {"run_id": run_id(8)}}},
        "feedback_group_id": run_id(7),
        "created_at": "2026-03-01T10:00:00",
    }
    made = feedback_of(entry, person, "support")
    assert (made.kind, made.name, made.label, made.correction) == ("edit", "quality", "bad", {"answer": "hey"})
    assert (made.step_id, made.annotator_kind, made.platform) == (run_record_id(run_id(2)), "LLM", "support")
    assert made.user == User(pseudonym="LOVELACE", key_id="k")
    assert "lovelace" not in str(made.extra)
    assert made.extra["feedback_group_id"] == run_id(7)
    assert feedback_of(entry, person, "support") == made
    whole_trace = feedback_of({"trace_id": run_id(1), "key": "thumbs", "score": False}, person, None)
    assert (whole_trace.kind, whole_trace.step_id) == ("thumbs_down", run_record_id(run_id(1)))
    for wrong in (None, {}, {"key": ""}, {"key": "a", "score": "high"}, {"key": "a", "run_id": "../x"}):
        with pytest.raises(ValueError, match=r"(feedback|run) "):
            feedback_of(wrong, person, None)
