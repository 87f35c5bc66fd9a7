"""Rows of real trajectories in the hands of those they are for: the services' own packages, where they are installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import tau_bench_source
from tests.export.test_real_formats import example_of
from tracemill.core.examples import PreferenceExample, SupervisedExample
from tracemill.export.formats import FORMATS
from tracemill.export.write import make_row

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_user_details",
            "description": "Get the details of a user.",
            "parameters": {
                "type": "object",
                "properties": {
                    "user_id": {"type": "string", "description": "The id."},
                    "fields": {"type": "array", "items": {"type": "string", "enum": ["name", "address"]}},
                },
                "required": ["user_id"],
                "additionalProperties": False,
            },
        },
    }
]


@pytest.fixture(scope="module")
def trajectories(shared_data: Path) -> list[list[dict[str, Any]]]:
    source = tau_bench_source(shared_data / "tau_bench_airline_gpt4o.json")
    return [run["traj"] for run in source.values()]


def exported(name: str, trajectories: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of all trajectories that a format takes, with tools."""
    found = []
    for number, trajectory in enumerate(trajectories):
        example = example_of(FORMATS[name].example, trajectory, number)
        assert isinstance(example, (SupervisedExample, PreferenceExample))
        example.tools.extend(TOOLS)
        data, _, refused = make_row(example, FORMATS[name])
        if data is None:
            assert refused is not None
            assert refused.reason == "sides_equal"
        else:
            found.append(json.loads(data))
    assert len(found) > 150
    return found


def test_mistral_takes_every_row(trajectories: list[list[dict[str, Any]]]) -> None:
    request = pytest.importorskip("mistral_common.protocol.instruct.request", reason="mistral-common is not installed")
    validator = pytest.importorskip("mistral_common.protocol.instruct.validator")
    check = validator.MistralRequestValidatorV13(validator.ValidationMode.finetuning)
    for row in exported("mistral", trajectories):
        found = check.validate_request(request.ChatCompletionRequest.from_openai(**row))
        assert len(found.messages) == len(row["messages"])
        ids = [call.id for message in found.messages for call in getattr(message, "tool_calls", None) or ()]
        assert all(len(value) == 9 for value in ids)


@pytest.mark.parametrize("name", ["together", "together-preference"])
def test_together_takes_the_file(name: str, trajectories: list[list[dict[str, Any]]], tmp_path: Path) -> None:
    files = pytest.importorskip("together.lib.utils.files", reason="together is not installed")
    constants = pytest.importorskip("together.lib.constants")
    path = tmp_path / "train.jsonl"
    rows = exported(name, trajectories)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = files.check_file(path)
    assert report["is_check_passed"], report
    assert report["num_samples"] == len(rows)
    kind = constants.DatasetFormat.CONVERSATION if name == "together" else constants.DatasetFormat.PREFERENCE_OPENAI
    required = set(constants.JSONL_REQUIRED_COLUMNS_MAP[kind])
    for row in rows:
        assert required <= row.keys() <= required | set(constants.JSONL_EXTRA_COLUMNS_MAP[kind])
        for message in row.get("messages") or row["input"]["messages"]:
            assert message["role"] in constants.POSSIBLE_ROLES_CONVERSATION


def test_gemini_reads_every_row(trajectories: list[list[dict[str, Any]]]) -> None:
    types = pytest.importorskip("google.genai.types", reason="google-genai is not installed")
    for row in exported("gemini", trajectories):
        instruction = types.Content.model_validate(row["systemInstruction"])
        assert instruction.parts[0].text == row["systemInstruction"]["parts"][0]["text"]
        for content in row["contents"]:
            read = types.Content.model_validate(content)
            assert read.model_dump(mode="json", by_alias=True, exclude_none=True) == content
        (tool,) = row["tools"]
        read = types.Tool.model_validate(tool)
        assert read.model_dump(mode="json", by_alias=True, exclude_none=True) == tool


def test_openai_types_take_every_message(trajectories: list[list[dict[str, Any]]]) -> None:
    chat = pytest.importorskip("openai.types.chat", reason="openai is not installed")
    pydantic = pytest.importorskip("pydantic")
    adapter = pydantic.TypeAdapter(chat.ChatCompletionMessageParam)
    for name in ("openai-chat", "openai-preference"):
        for row in exported(name, trajectories):
            given = row if name == "openai-chat" else row["input"]
            assert given["tools"] == TOOLS
            for message in [*given["messages"], *row.get("preferred_output", ()), *row.get("non_preferred_output", ())]:
                adapter.validate_python(message)
