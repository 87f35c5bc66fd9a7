"""Erasure in the store: whatever is erased in whatever order, from either tier, the rest is as it was and the books balance."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.test_archive import archive
from tracemill.core.ids import new_id, now
from tracemill.core.records import Interaction, User
from tracemill.core.settings import load_settings
from tracemill.store.resealing import restore
from tracemill.store.tiered import TieredStore, open_store

PROMPT = "You are the assistant of a shop. Be kind, be brief, and never promise what you cannot keep. " * 4


def calls(conversation: int, turns: int, old: int, tools: bool) -> list[Interaction]:
    """Calls of one conversation with its full history each; the first ``old`` of them are old enough to be archived."""
    made: list[Interaction] = []
    messages: list[Any] = [{"role": "system", "content": PROMPT}]
    for turn in range(turns):
        messages = [*messages, {"role": "user", "content": f"question {turn} of {conversation}"}]
        answer: dict[str, Any] = {"role": "assistant", "content": f"answer {turn} of {conversation}"}
        if tools:
            call = {"id": f"call{turn}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
            answer = {"role": "assistant", "content": None, "tool_calls": [call]}
        moment = now() - timedelta(days=60 if turn < old else 1, minutes=conversation - turn)
        made.append(
            Interaction(
                id=new_id(), time=moment, schema_version=1, producer="p", sequence=turn, platform="shop",
                conversation_id=f"c{conversation}", user=User(pseudonym=f"u{conversation % 2}", key_id="k"),
                messages=messages, response=answer, success=turn % 2 == 0,
            )
        )  # fmt: skip
        messages = [*messages, answer]
        if tools:
            messages = [*messages, {"role": "tool", "tool_call_id": f"call{turn}", "content": PROMPT}]
    return made


@st.composite
def conversations(draw: st.DrawFn) -> list[list[Interaction]]:
    number = draw(st.integers(1, 3))
    found = []
    for conversation in range(number):
        turns = draw(st.integers(1, 6))
        found.append(calls(conversation, turns, draw(st.integers(0, turns)), draw(st.booleans())))
    return found


@settings(max_examples=40, deadline=None)
@given(conversations(), st.data())
def test_any_erasure_leaves_the_rest_as_it_was(groups: list[list[Interaction]], data: st.DataObject) -> None:
    records = [record for group in groups for record in group]
    erased = data.draw(st.lists(st.sampled_from(records), unique_by=lambda record: record.id))
    at_once = data.draw(st.booleans())
    with TemporaryDirectory() as folder:
        store = opened(Path(folder))
        try:
            assert store.append(records).stored == len(records)
            if data.draw(st.booleans()):
                archive(store)
                for file in store.archived_files()[: data.draw(st.integers(0, 2))]:
                    restore(store, file)
                assert_books_balance(store)
            for chunk in [erased] if at_once else [[record] for record in erased]:
                assert store.erase([record.id for record in chunk]) == len(chunk)
            left = [record for record in records if record not in erased]
            assert sorted(store.scan(), key=lambda record: record.id) == sorted(left, key=lambda record: record.id)
            assert_books_balance(store)
            assert sum(row.records for row in store.daily()) == len(left)
            assert sum(row.succeeded for row in store.daily()) == sum(record.success is True for record in left)
        finally:
            store.close()


def assert_books_balance(store: TieredStore) -> None:
    """Part uses, chains, counts and sizes are what the rows say, to the byte."""
    assert store.verify() == []
    with store.engine.connect() as connection:
        hot = connection.exec_driver_sql("SELECT coalesce(sum(length(body)), 0) FROM records").scalar_one()
    moved = sum(file.hot_bytes for file in store.archived_files())
    assert sum(row.stored_bytes for row in store.daily()) == hot + moved


def opened(folder: Path) -> TieredStore:
    return open_store(load_settings({"workspace": str(folder), "part_threshold_bytes": 256}, environment={}))


def test_a_conversation_erased_whole_leaves_no_part_behind(tmp_path: Path) -> None:
    store = opened(tmp_path)
    records = [record for number in range(3) for record in calls(number, 5, 2, tools=True)]
    store.append(records)
    archive(store)
    for number in range(3):
        store.erase([record.id for record in records if record.conversation_id == f"c{number}"])
        assert store.verify() == []
    with store.engine.connect() as connection:
        for table in ("parts", "chains", "records"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0, table
    store.close()
