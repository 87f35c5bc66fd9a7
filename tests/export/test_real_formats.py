"""All 200 real trajectories in every format, read back by readers that know nothing of the functions that made the rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from tests.dataset.support import record_id, tau_bench_source
from tracemill.core.examples import Example, LabelledExample, PreferenceExample, SupervisedExample
from tracemill.dataset.history import call_ids, split_tail
from tracemill.export.formats import FORMATS
from tracemill.export.losses import Lost, RefusedError
from tracemill.export.write import make_row

Said: TypeAlias = list[tuple[str, str, list[tuple[str, Any]]]]


@pytest.fixture(scope="module")
def trajectories(shared_data: Path) -> list[list[dict[str, Any]]]:
    source = tau_bench_source(shared_data / "tau_bench_airline_gpt4o.json")
    return [run["traj"] for run in source.values()]


def example_of(made: type[Any], trajectory: list[dict[str, Any]], number: int) -> Example:
    """A real conversation as an example. A rejected answer is an earlier one of the same conversation."""
    messages, tail = split_tail(trajectory)
    common: dict[str, Any] = {"id": record_id(f"e{number}"), "sources": [record_id(f"r{number}")], "signal": "s"}
    if made is SupervisedExample:
        return SupervisedExample(**common, messages=messages, tail=tail)
    if made is LabelledExample:
        prompt, completion = messages[:-1], messages[-1:]
        return LabelledExample(
            **common, prompt=prompt, completion=completion, tail=tail, label=number % 2 == 0, label_source="reward"
        )
    earlier = next(message for message in messages if message["role"] == "assistant")
    return PreferenceExample(**common, prompt=messages[:-1], chosen=messages[-1:], rejected=[earlier])


def said(messages: list[dict[str, Any]], *, words_beside_calls: bool = True) -> Said:
    """What a conversation says, without ids."""
    found = []
    for message in messages:
        calls = [call["function"] for call in message.get("tool_calls") or ()]
        text = message.get("content") or ""
        if calls and not words_beside_calls:
            text = ""
        called = []
        for call in calls:
            arguments = call["arguments"]
            called.append((call["name"], json.loads(arguments) if isinstance(arguments, str) else arguments))
        found.append((message["role"], text, called))
    return found


def read_turns(system: str, turns: list[dict[str, str]]) -> Said:
    found: Said = [("system", system, [])] if system else []
    roles = {"human": "user", "gpt": "assistant", "observation": "tool"}
    for turn in turns:
        if turn["from"] == "function_call":
            call = json.loads(turn["value"])
            found.append(("assistant", "", [(call["name"], call["arguments"])]))
        else:
            found.append((roles[turn["from"]], turn["value"], []))
    return found


def read_sharegpt(row: dict[str, Any]) -> Said:
    return read_turns(row["system"], row["conversations"])


def read_sharegpt_preference(row: dict[str, Any]) -> Said:
    return read_turns(row["system"], [*row["conversations"], row["chosen"], row["rejected"]])


def read_alpaca(row: dict[str, Any]) -> Said:
    found: Said = [("system", row["system"], [])]
    for asked, answered in [*row["history"], [row["instruction"], row["output"]]]:
        found += [("user", asked, []), ("assistant", answered, [])]
    return found


def read_gemini(row: dict[str, Any]) -> Said:
    found: Said = [("system", part["text"], []) for part in row["systemInstruction"]["parts"]]
    for content in row["contents"]:
        answers = [
            part["functionResponse"]["response"]["output"] for part in content["parts"] if "functionResponse" in part
        ]
        if answers:
            found += [("tool", answer, []) for answer in answers]
            continue
        text = "".join(part.get("text", "") for part in content["parts"])
        calls = [part["functionCall"] for part in content["parts"] if "functionCall" in part]
        role = "assistant" if content["role"] == "model" else "user"
        found.append((role, text, [(call["name"], call["args"]) for call in calls]))
    return found


def read_messages(row: dict[str, Any]) -> Said:
    return said(row["messages"])


def read_completion(row: dict[str, Any]) -> Said:
    return said([*row["prompt"], *row["completion"]])


def read_sides(row: dict[str, Any]) -> Said:
    return said([*row["prompt"], *row["chosen"], *row["rejected"]])


def read_preference(row: dict[str, Any]) -> Said:
    return said([*row["input"]["messages"], *row["preferred_output"], *row["non_preferred_output"]])


READERS: dict[str, Callable[[dict[str, Any]], Said]] = {
    "openai-chat": read_messages,
    "openai-preference": read_preference,
    "trl-sft": read_messages,
    "trl-prompt-completion": read_completion,
    "trl-dpo": read_sides,
    "trl-kto": read_completion,
    "sharegpt": read_sharegpt,
    "sharegpt-preference": read_sharegpt_preference,
    "sharegpt-kto": read_sharegpt,
    "alpaca": read_alpaca,
    "axolotl": read_messages,
    "gemini": read_gemini,
    "mistral": read_messages,
    "together": read_messages,
    "together-preference": read_preference,
}


def rows(
    name: str, trajectories: list[list[dict[str, Any]]]
) -> list[tuple[Example, dict[str, Any] | None, list[Lost], RefusedError | None]]:
    found = []
    for number, trajectory in enumerate(trajectories):
        example = example_of(FORMATS[name].example, trajectory, number)
        data, lost, refused = make_row(example, FORMATS[name])
        found.append((example, None if data is None else msgspec.json.decode(data), lost, refused))
    return found


def messages_of(example: Example) -> list[dict[str, Any]]:
    sides = ("messages",) if isinstance(example, SupervisedExample) else ("prompt", "completion", "chosen", "rejected")
    return [message for side in sides for message in getattr(example, side, ())]


@pytest.mark.parametrize("name", sorted(READERS))
def test_what_was_said_comes_back(name: str, trajectories: list[list[dict[str, Any]]]) -> None:
    made = 0
    refusals: dict[str, int] = {}
    for example, row, lost, refused in rows(name, trajectories):
        if row is None:
            assert refused is not None
            refusals[refused.reason] = refusals.get(refused.reason, 0) + 1
            continue
        made += 1
        assert READERS[name](row) == said(messages_of(example), words_beside_calls=not name.startswith("sharegpt"))
        beside = [entry for entry in lost if entry.path.endswith("/content")]
        with_both = [m for m in messages_of(example) if m.get("tool_calls") and m.get("content")]
        assert len(beside) == (len(with_both) if name.startswith("sharegpt") else 0)
    expected = {"tool_calls_not_in_format": 182} if name == "alpaca" else {}
    assert {reason: number for reason, number in refusals.items() if reason != "sides_equal"} == expected
    assert made == 200 - sum(refusals.values())


@pytest.mark.parametrize("name", ["sharegpt", "gemini", "mistral"])
def test_ids_a_format_has_no_place_for_are_listed_whole(name: str, trajectories: list[list[dict[str, Any]]]) -> None:
    listed = 0
    for example, _, lost, _ in rows(name, trajectories):
        ids = [value for entry in lost if entry.path == "/messages" for value in entry.call_ids]
        assert ids == call_ids(messages_of(example))
        listed += len(ids)
    assert listed > 2000


def test_embedding_rows_are_the_last_question_and_the_answer(trajectories: list[list[dict[str, Any]]]) -> None:
    made = 0
    for example, row, lost, refused in rows("embedding-pairs", trajectories):
        messages = messages_of(example)
        if row is None:
            assert refused is not None
            assert refused.reason == "answer_is_no_text"
            assert messages[-1].get("tool_calls")
            continue
        made += 1
        questions = [message["content"] for message in messages if message["role"] == "user"]
        assert row == {"anchor": questions[-1], "positive": messages[-1]["content"]}
        assert "rest_of_conversation" in {entry.reason for entry in lost}
    assert made == sum(1 for trajectory in trajectories if not split_tail(trajectory)[0][-1].get("tool_calls"))
    assert made > 100


def test_triplets_hold_both_answers(trajectories: list[list[dict[str, Any]]]) -> None:
    made = [row for _, row, _, _ in rows("embedding-triplets", trajectories) if row is not None]
    assert len(made) > 50
    assert all(row["positive"] != row["negative"] for row in made)
