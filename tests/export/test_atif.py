"""Real trajectories as ATIF documents: valid by the programs of others, and the same again when they are imported."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import calls, result, says, tau_bench_source
from tests.export.test_consumers import TOOLS
from tests.export.test_formats import refusal, row, supervised
from tests.export.test_real_formats import example_of
from tracemill.capture.importers.atif import read_atif
from tracemill.capture.importers.base import ImportContext
from tracemill.core.examples import SupervisedExample
from tracemill.core.pseudonym import Pseudonymizer
from tracemill.core.records import Interaction
from tracemill.export.formats import FORMATS
from tracemill.export.write import make_row

CONTEXT = ImportContext(pseudonymize=Pseudonymizer(b"k" * 32).user)


@pytest.fixture(scope="module")
def trajectories(shared_data: Path) -> list[list[dict[str, Any]]]:
    source = tau_bench_source(shared_data / "tau_bench_airline_gpt4o.json")
    return [run["traj"] for run in source.values()]


@pytest.fixture(scope="module")
def lines(trajectories: list[list[dict[str, Any]]]) -> list[bytes]:
    found = []
    for number, trajectory in enumerate(trajectories):
        example = example_of(SupervisedExample, trajectory, number)
        example.tools.extend(TOOLS)
        data, lost, refused = make_row(example, FORMATS["atif"])
        assert data is not None, refused
        assert lost == []
        found.append(data)
    return found


def test_phoenix_takes_every_document(lines: list[bytes]) -> None:
    helpers = pytest.importorskip("phoenix.client.helpers.atif", reason="arize-phoenix-client is not installed")
    documents = [json.loads(line) for line in lines]
    spans = helpers._convert_atif_trajectories_to_spans(documents)
    called = sum(len(step.get("tool_calls", ())) for document in documents for step in document["steps"])
    assert called == 1164
    assert sum(span["span_kind"] == "TOOL" for span in spans) == called
    with pytest.raises(ValueError, match="Invalid ATIF"):
        helpers._convert_atif_trajectories_to_spans([{**documents[0], "steps": [{"step_id": 2}]}])


def test_harbor_takes_every_document(lines: list[bytes]) -> None:
    harbor = pytest.importorskip("harbor.models.trajectories", reason="harbor is not installed (it needs Python 3.12)")
    for line in lines:
        read = harbor.Trajectory.model_validate_json(line)
        assert read.to_json_dict() == json.loads(line)


def test_what_is_imported_again_is_what_was_there(
    lines: list[bytes], trajectories: list[list[dict[str, Any]]], tmp_path: Path
) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    found = list(read_atif(path, CONTEXT))
    assert len(found) == len(trajectories) == 200
    for record, trajectory in zip(found, trajectories, strict=True):
        assert isinstance(record, Interaction)
        assert plain(record.messages) == plain(trajectory)
        assert record.tools == TOOLS
        assert record.tool_call_count == sum(len(message.get("tool_calls") or ()) for message in trajectory)


def plain(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages with arguments parsed, since their spacing is another, and without fields that say nothing."""
    made = []
    for message in copy.deepcopy(messages):
        for call in message.get("tool_calls") or ():
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        made.append({key: value for key, value in message.items() if value})
    return made


def test_a_document_holds_names_reasoning_and_the_tail() -> None:
    messages = [
        says("user", "q", name="ann"),
        {**calls("f", '{"a": 1}', "c1"), "content": "hm", "reasoning_content": "why"},
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
        {**calls("g", "{}", "c2")},
    ]
    tail = [result("c2", "r2", "g"), says("user", "bye")]
    made, lost = row("atif", messages, tail=tail, tools=TOOLS, platform="shop")
    assert lost == []
    assert made["agent"] == {"name": "shop", "version": "unknown", "tool_definitions": TOOLS}
    assert made["steps"] == [
        {"step_id": 1, "source": "user", "message": "q", "extra": {"name": "ann"}},
        {
            "step_id": 2,
            "source": "agent",
            "message": "hm",
            "reasoning_content": "why",
            "tool_calls": [{"tool_call_id": "c1", "function_name": "f", "arguments": {"a": 1}}],
            "observation": {"results": [{"source_call_id": "c1", "content": "r"}]},
        },
        {
            "step_id": 3,
            "source": "agent",
            "message": "",
            "tool_calls": [{"tool_call_id": "c2", "function_name": "g", "arguments": {}}],
            "observation": {"results": [{"source_call_id": "c2", "content": "r2", "extra": {"name": "g"}}]},
        },
        {"step_id": 4, "source": "user", "message": "bye"},
    ]
    data, lost, refused = make_row(supervised(messages, tail=tail, tools=TOOLS), FORMATS["atif"])
    assert data is not None, refused
    assert lost == []


def test_what_no_document_holds_is_refused() -> None:
    nameless = {**calls("f", "{}", "c1")}
    del nameless["tool_calls"][0]["id"]
    assert refusal("atif", [says("user", "q"), nameless]) == "malformed_tool_calls"
    assert refusal("atif", [says("user", "q")]) == "last_message_not_assistant"
    assert refusal("atif", [result("c", "r"), says("assistant", "a")]) == "orphan_result"
