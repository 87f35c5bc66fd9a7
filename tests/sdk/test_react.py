"""Trajectories as DSPy and others keep them become the fields of Steps."""

from __future__ import annotations

from typing import Any

import pytest

from tracemill.core.records import Action, Failure
from tracemill.sdk.react import read_trajectory

TRACEBACK = (
    "Execution error in lookup: \nTraceback (most recent call last):\n"
    '  File "react.py", line 113, in forward\n    self.tools[name](**args)\nkey.error.MissingKey: no such: parcel'
)


def test_rounds_are_put_together_by_their_number() -> None:
    read = read_trajectory(
        {
            "tool_name_10": "finish",
            "tool_args_10": {},
            "observation_10": "Completed.",
            "thought_9": "look",
            "tool_name_9": "search",
            "tool_args_9": {"q": 1},
            "observation_9": ["found"],
            "note": "kept",
        }
    )
    assert read is not None
    search, finish = read.steps
    assert (search["index"], search["reasoning"], search["name"]) == (9, "look", "search")
    assert search["actions"] == [Action(tool="search", parameters={"q": 1}, result=["found"], success=True)]
    assert finish["actions"] == [Action(type="finish", parameters={}, result="Completed.", success=True)]
    assert (read.tools_used, read.tool_call_count) == (["search"], 1), "finish is no tool"
    assert read.rest == {"note": "kept"}


@pytest.mark.parametrize(
    ("observation", "failure"),
    [
        (TRACEBACK, Failure(type="key.error.MissingKey", message="no such: parcel")),
        ("Execution error in lookup: ValueError: bad", Failure(type="ValueError", message="bad")),
        ("Execution error in lookup: the line is busy", Failure(message="the line is busy")),
        ("Failed to execute: boom", Failure(message="boom")),
        ("There was no Execution error in it", None),
        ({"Execution error in ": 1}, None),
    ],
)
def test_a_tool_that_raised_is_told_by_its_observation(observation: Any, failure: Failure | None) -> None:
    read = read_trajectory({"tool_name_0": "lookup", "tool_args_0": {}, "observation_0": observation})
    assert read is not None
    (step,) = read.steps
    assert (step["error"], step["success"]) == (failure, failure is None)
    assert step["actions"][0].result == observation, "the observation itself is kept whole"


def test_a_round_without_an_observation_says_nothing_of_its_success() -> None:
    read = read_trajectory({"thought_0": "hm", "tool_name_0": "search"})
    assert read is not None
    assert read.steps[0]["success"] is None
    assert read_trajectory({"thought_0": "hm"}).steps[0].get("actions") is None  # type: ignore[union-attr]


def test_lists_of_steps() -> None:
    read = read_trajectory(
        [
            {"thought": "a", "tool_name": "search", "tool_args": {"q": 1}, "observation": "x", "latency": 3},
            {"reasoning": "b", "action": "send_message", "action_input": "hi"},
            {"action": "finish"},
            {"step_name": "plan", "actions": [{"action_type": "tool_call", "tool": "write"}]},
            "just text",
        ]
    )
    assert read is not None
    assert [step["index"] for step in read.steps] == [0, 1, 2, 3, 4]
    assert read.tools_used == ["search", "send_message", "write"]
    assert read.steps[0]["extra"] == {"latency": 3}
    assert read.steps[1]["actions"][0].parameters == "hi"
    assert read.steps[3]["name"] == "plan"
    assert read.steps[4]["outputs"] == "just text"


@pytest.mark.parametrize("nothing", [None, {}, [], "text", 5, {"answer": "x"}])
def test_what_is_no_trajectory(nothing: Any) -> None:
    assert read_trajectory(nothing) is None
