"""ATIF documents as interactions: nothing in them is lost, and nothing that is none gets through."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import json_values
from tracemill.capture.importers.atif import DEEPEST, read_atif
from tracemill.capture.importers.base import ImportContext, Imported
from tracemill.capture.ingest import Reject
from tracemill.core.codec import encode_json
from tracemill.core.pseudonym import Pseudonymizer
from tracemill.core.records import Interaction

CONTEXT = ImportContext(pseudonymize=Pseudonymizer(b"k" * 32).user)
CHILD = {
    "schema_version": "ATIF-v1.7",
    "trajectory_id": "child",
    "agent": {"name": "helper", "version": "1"},
    "steps": [{"step_id": 1, "source": "agent", "message": "done", "timestamp": "2026-01-01T00:00:05"}],
}
DOCUMENT: dict[str, Any] = {
    "schema_version": "ATIF-v1.7",
    "session_id": "s1",
    "trajectory_id": "t1",
    "agent": {"name": "coder", "version": "2.1", "model_name": "m-1", "tool_definitions": [{"type": "function"}]},
    "steps": [
        {"step_id": 1, "source": "system", "message": "be good"},
        {
            "step_id": 2,
            "source": "user",
            "message": [{"type": "text", "text": "hi"}],
            "timestamp": "2026-01-01T00:00:00Z",
        },
        {
            "step_id": 3,
            "source": "agent",
            "message": "",
            "reasoning_content": "look first",
            "tool_calls": [
                {"tool_call_id": "c1", "function_name": "ls", "arguments": {"path": "é"}, "extra": {"retries": 1}},
                {"tool_call_id": "c2", "function_name": "cat", "arguments": {}},
            ],
            "observation": {
                "results": [
                    {"source_call_id": "c1", "content": "a.txt", "extra": {"name": "ls"}},
                    {"source_call_id": "c2", "content": None, "subagent_trajectory_ref": [{"trajectory_id": "child"}]},
                    {"content": "the screen"},
                ]
            },
            "metrics": {"prompt_tokens": 3, "completion_token_ids": [1, 2], "logprobs": [-0.5, -0.25]},
        },
        {"step_id": 4, "source": "agent", "message": "there is a.txt", "extra": {"mood": "calm"}},
    ],
    "final_metrics": {"total_prompt_tokens": 30, "total_completion_tokens": 7, "total_cost_usd": 0.25},
    "notes": "n",
    "subagent_trajectories": [CHILD],
}


def read(document: Any, folder: Path, name: str = "trajectory.json") -> list[Imported]:
    path = folder / name
    path.write_text(json.dumps(document) if not isinstance(document, str) else document)
    return list(read_atif(path, CONTEXT))


def test_a_document_is_an_interaction(tmp_path: Path) -> None:
    found, child = read(DOCUMENT, tmp_path)
    assert isinstance(found, Interaction)
    assert isinstance(child, Interaction)
    assert (found.platform, found.session_id, found.conversation_id, found.kind) == ("coder", "s1", "t1", "agent")
    assert (found.input_tokens, found.output_tokens, found.cost_usd) == (30, 7, 0.25)
    assert found.model is not None
    assert (found.model.name, found.time) == ("m-1", datetime(2026, 1, 1, tzinfo=UTC))
    assert found.tools == [{"type": "function"}]
    assert found.tools_used == ["ls", "cat"]
    assert found.messages == [
        {"role": "system", "content": "be good"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "look first",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": '{"path": "é"}'}},
                {"id": "c2", "type": "function", "function": {"name": "cat", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "a.txt", "name": "ls"},
        {"role": "tool", "tool_call_id": "c2", "content": None},
        {"role": "user", "name": "environment", "content": "the screen"},
        {"role": "assistant", "content": "there is a.txt"},
    ]
    assert (child.parent_id, child.platform, child.messages) == (
        found.id,
        "helper",
        [{"role": "assistant", "content": "done"}],
    )


def test_what_has_no_place_in_a_message_is_kept_beside_it(tmp_path: Path) -> None:
    found = read(DOCUMENT, tmp_path)[0]
    assert isinstance(found, Interaction)
    kept = found.extra["atif"]
    assert (kept["notes"], kept["schema_version"], kept["agent"]["version"]) == ("n", "ATIF-v1.7", "2.1")
    assert kept["steps"] == {
        "2": {"timestamp": "2026-01-01T00:00:00Z"},
        "3": {
            "metrics": DOCUMENT["steps"][2]["metrics"],
            "tool_calls": {"0": {"extra": {"retries": 1}}},
            "results": {"1": {"subagent_trajectory_ref": [{"trajectory_id": "child"}]}},
        },
        "4": {"extra": {"mood": "calm"}},
    }


def test_lines_are_documents_too_and_ids_are_those_of_the_content(tmp_path: Path) -> None:
    one, _ = read(DOCUMENT, tmp_path)
    again = read(json.dumps(DOCUMENT) + "\n\n" + json.dumps(CHILD) + "\n", tmp_path, "moved.jsonl")
    assert isinstance(one, Interaction)
    assert [isinstance(record, Interaction) for record in again] == [True] * 3
    assert isinstance(again[0], Interaction)
    assert again[0].id == one.id
    assert len({record.id for record in again if isinstance(record, Interaction)}) == 3


def nested(depth: int) -> dict[str, Any]:
    document: dict[str, Any] = dict(CHILD)
    for _ in range(depth):
        document = {**CHILD, "subagent_trajectories": [document]}
    return document


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": "ATIF-v2.0"},
        {"schema_version": None},
        {"agent": "coder"},
        {"steps": []},
        {"steps": [{"source": "tool", "message": "x"}]},
        {"steps": [{"source": ["agent"], "message": "x"}]},
        {"steps": [{"source": "agent", "message": 1}]},
        {"steps": [{"source": "agent", "message": "", "tool_calls": [{"function_name": 1}]}]},
        {"steps": [{"source": "agent", "message": "", "observation": [1]}]},
        {"steps": [{"source": "agent", "message": "", "observation": {"results": "x"}}]},
        {"subagent_trajectories": [{}]},
        {"subagent_trajectories": {"a": 1}},
        {"subagent_trajectories": [nested(DEEPEST)]},
    ],
)
def test_what_is_no_document_is_rejected(change: dict[str, Any], tmp_path: Path) -> None:
    (found,) = read({**DOCUMENT, **change}, tmp_path)
    assert isinstance(found, Reject)
    assert (found.place, found.reason) == ("document 1", "invalid")


def test_a_broken_file_is_rejected(tmp_path: Path) -> None:
    (found,) = read("{", tmp_path)
    assert isinstance(found, Reject)


_steps = st.lists(
    st.fixed_dictionaries(
        {"source": st.sampled_from(["user", "agent", "system"]), "message": st.text(max_size=4) | json_values},
        optional=dict.fromkeys(
            ("tool_calls", "observation", "timestamp", "reasoning_content", "extra", "metrics"), json_values
        ),
    ),
    min_size=1,
    max_size=3,
)


@given(
    st.fixed_dictionaries(
        {
            "schema_version": st.just("ATIF-v1.7"),
            "agent": st.dictionaries(st.just("name"), json_values),
            "steps": _steps,
        },
        optional=dict.fromkeys(("final_metrics", "session_id", "subagent_trajectories", "notes"), json_values),
    )
)
def test_anything_else_is_an_interaction_or_a_reject(document: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        for record in read(document, Path(folder)):
            assert isinstance(record, Reject) or encode_json(record)
