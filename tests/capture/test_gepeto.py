"""The Gepeto tree: what is written is read, names cannot escape it, and other programs' files are understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.capture.conftest import RunImport
from tracemill.capture.gepeto import read_tree, safe_name, write_tree
from tracemill.capture.ingest import Reject
from tracemill.core.ids import new_id, now
from tracemill.core.records import AnyRecord, Interaction, Step

HOSTILE = [
    "../../etc/passwd",
    "a/b",
    "",
    ".",
    "..",
    "A",
    "a",
    "\x00",
    "\ud800",
    "😀" * 50,
    "x" * 300,
    "~",
    "~41",
    "con",
    "a.",
    "a ",
]


@settings(
    max_examples=30,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(strategies.records, max_size=5, unique_by=lambda record: record.id))
def test_reading_a_tree_gives_the_same_records(tmp_path: Path, records: list[AnyRecord]) -> None:
    root = tmp_path / new_id()
    assert write_tree(records, root) == len(records)
    write_tree(records, root)
    found = {record.id: record for record in read_tree(root) if not isinstance(record, Reject)}
    assert found == {record.id: record for record in records}


@given(st.lists(strategies.odd_text | st.text("aA~.", max_size=4), unique=True, max_size=8))
def test_different_sessions_have_different_names_on_every_file_system(texts: list[str]) -> None:
    names = [safe_name(text) for text in texts]
    assert len({name.casefold() for name in names}) == len(texts)


@pytest.mark.parametrize("session", HOSTILE, ids=range(len(HOSTILE)))
def test_no_session_id_leaves_the_tree(tmp_path: Path, session: str) -> None:
    root = tmp_path / "in" / "tree"
    record = Interaction(id=new_id(), time=now(), schema_version=1, producer="p", sequence=0, session_id=session)
    write_tree([record], root)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["tree"]
    assert list(read_tree(root)) == [record]


def test_the_layout_and_fields_are_those_others_read(tmp_path: Path) -> None:
    record = Interaction(
        id=new_id(),
        time=now(),
        schema_version=1,
        producer="p",
        sequence=0,
        session_id="s-1",
        messages=[{"role": "user", "content": "hi"}],
        success=True,
        duration_ms=12.5,
        tools_used=["search"],
        tool_call_count=1,
    )
    write_tree([record], tmp_path)
    (context,) = (tmp_path / "chat_contexts" / "1.0").glob("context_s-1_*.json")
    (prediction,) = (tmp_path / "predictions" / "1.0").glob("prediction_s-1_*.json")
    session = json.loads((tmp_path / "metadata" / "session_s-1.json").read_text())
    assert json.loads(context.read_text())["events"] == record.messages
    found = json.loads(prediction.read_text())
    assert (found["execution_time_ms"], found["success"], found["tools_used"], found["tool_call_count"]) == (
        12.5,
        True,
        ["search"],
        1,
    )
    assert session["interactions"][0]["context"] == f"chat_contexts/1.0/{context.name}"
    assert not list(tmp_path.rglob("*.tmp"))


def _foreign(root: Path, name: str, context: Any, prediction: Any = None) -> None:
    for folder, prefix, document in (("chat_contexts", "context", context), ("predictions", "prediction", prediction)):
        if document is not None:
            (root / folder / "1.0").mkdir(parents=True, exist_ok=True)
            text = document if isinstance(document, str) else json.dumps(document)
            (root / folder / "1.0" / f"{prefix}_{name}.json").write_text(text)


def test_files_of_another_program_are_understood(tmp_path: Path, run: RunImport) -> None:
    root = tmp_path / "tree"
    context = {
        "version": "1.0",
        "timestamp": "2024-01-15T10:30:00Z",
        "session_id": "550e8400-e29b-41d4-a716-446655440000",
        "events": ["hello", {"author": "ada", "text": "hi"}, {"role": "assistant", "content": "yes"}],
        "chat_id": 123456789,
        "chat_name": "general",
        "chat_type": "text",
        "model_name": "gpt-4",
        "user_count": 3,
        "message_count": 15,
        "contains_images": False,
        "mood": "calm",
    }
    prediction = {
        "version": "1.0",
        "timestamp": "2024-01-15T10:30:05Z",
        "session_id": context["session_id"],
        "trajectory": [{"thought": "look", "tool_name": "search", "tool_args": {"q": 1}, "observation": "found"}],
        "reasoning": {"why": "asked"},
        "execution_time_ms": 1250.5,
        "success": True,
        "tools_used": ["send_message", "search"],
        "tool_call_count": 2,
    }
    _foreign(root, "a_1", context, prediction)
    found = list(read_tree(root))
    interaction, step = found
    assert isinstance(interaction, Interaction)
    assert isinstance(step, Step)
    assert [message["role"] for message in interaction.messages] == ["user", "user", "assistant"]
    assert (interaction.duration_ms, interaction.success, interaction.tool_call_count) == (1250.5, True, 2)
    assert interaction.channel is not None
    assert (interaction.channel.id, interaction.extra["context"]) == (123456789, {"mood": "calm"})
    assert (step.interaction_id, step.reasoning, step.actions[0].tool) == (interaction.id, "look", "search")
    assert run("gepeto", root).stored == 2
    assert run("gepeto", root).stored == 0


def test_what_is_torn_or_alone_is_rejected_or_read_and_never_a_crash(tmp_path: Path, run: RunImport) -> None:
    root = tmp_path / "tree"
    _foreign(root, "alone", {"events": []})
    _foreign(root, "torn", '{"events": [', {"success": True})
    _foreign(root, "list", "[]")
    _foreign(root, "odd", {"events": [], "chat_id": {"a": 1}}, {"success": "perhaps"})
    _foreign(root, "prediction", None, {"success": True})
    report = run("gepeto", root)
    assert report.stored == 1
    assert report.rejected == report.read - 1
    assert report.rejected >= 4
