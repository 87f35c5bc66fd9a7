"""A folder of Lightspeed's files as an import."""

from __future__ import annotations

import json
from pathlib import Path

from tests.capture.conftest import RunImport
from tracemill.core.records import Interaction
from tracemill.feedback.attach import attach
from tracemill.store.base import Filter
from tracemill.store.hot import HotStore

TURN = {
    "metadata": {"provider": "openai", "model": "gpt-4", "query_provider": "openai", "query_model": "gpt-4", "user_id": "u",
                 "conversation_id": "c", "timestamp": "2024-01-01T12:00:00+00:00"},
    "redacted_query": "What is a pod?", "query_is_valid": True, "llm_response": "A group of containers.", "rag_chunks": [],
    "truncated": False, "attachments": [],
    "tool_calls": [{"id": "1", "name": "search", "args": {"q": "pod"}, "type": "tool_call"}],
    "tool_results": [{"id": "1", "status": "success", "content": "…", "type": "tool_result", "round": 1}],
}  # fmt: skip
OPINION = {
    "user_id": "u", "timestamp": "2024-01-01 12:00:09+00:00", "conversation_id": "c", "user_question": "What is a pod?",
    "llm_response": "A group of containers.", "sentiment": 1, "user_feedback": None, "categories": None,
}  # fmt: skip


def test_a_folder_is_imported_once_and_joined(store: HotStore, run: RunImport, tmp_path: Path) -> None:
    folder = tmp_path / "collected"
    for place, content in (("feedback/a.json", OPINION), ("transcripts/u/c/b.json", TURN)):
        (folder / place).parent.mkdir(parents=True)
        (folder / place).write_text(json.dumps(content))
    (folder / "transcripts" / "torn.json").write_text(json.dumps(TURN)[:100])
    report = run("lightspeed", folder)
    assert (report.files, report.stored, report.rejected) == (3, 2, 1)
    assert run("lightspeed", folder).duplicates == 2
    [turn] = store.scan(Filter(types=("interaction",)))
    assert isinstance(turn, Interaction)
    assert (turn.platform, turn.tools_used, turn.extra) == (
        "lightspeed", ["search"], {"tool_results": TURN["tool_results"]},
    )  # fmt: skip
    assert turn.response is not None
    assert turn.response["tool_calls"][0]["function"] == {"name": "search", "arguments": '{"q":"pod"}'}
    joined = attach(store)
    assert [mark.kind for mark in joined.of(turn.id).feedback] == ["thumbs_up"]
    assert joined.unmatched == []
