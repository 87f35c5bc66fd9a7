"""The trajectory of a ReAct agent as Steps.

DSPy keeps a trajectory as flat keys: ``thought_0``, ``tool_name_0``, ``tool_args_0``, ``observation_0``, ``thought_1`` and
so on; the tool ``finish`` ends it. For a tool that raised it writes an observation that begins ``Execution error in`` and
ends in the error. Others keep a list of ``{thought, tool_name, tool_args, observation}`` or ``{thought, action, …}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tracemill.core.records import Action, Failure
from tracemill.sdk.execution import step_fields

_KEY = re.compile(r"(thought|tool_name|tool_args|observation)_(\d{1,6})\Z")
_FAILED = ("Execution error in ", "Failed to execute: ")
_ERROR_LINE = re.compile(r"((?:[A-Za-z_]\w*\.)*[A-Z]\w*)(?:: (.*))?\Z", re.DOTALL)
"""An exception as Python prints it: its class, and its message if it has one."""
_THOUGHTS = ("thought", "reasoning")
_TOOLS = ("tool_name", "tool", "action")
_ARGUMENTS = ("tool_args", "args", "parameters", "action_input", "arguments")
_OBSERVATIONS = ("observation", "result", "output")
FINISH = "finish"


@dataclass(slots=True)
class Trajectory:
    """What a trajectory held: the fields of its Steps in order, the tools it used, and keys that belong to no step."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    tools_used: list[str] = field(default_factory=list)
    tool_call_count: int = 0
    rest: dict[str, Any] = field(default_factory=dict)


def read_trajectory(trajectory: Any) -> Trajectory | None:
    """The parts of a trajectory, or None when the value is none.

    A step's index is the number in DSPy's keys (which begins above 0 where DSPy has cut the oldest steps off), or its
    place in a list. ``finish`` is no tool: its action has the type ``finish`` and does not count.
    """
    read = Trajectory()
    if isinstance(trajectory, Mapping):
        rounds: dict[int, dict[str, Any]] = {}
        for key, value in trajectory.items():
            found = _KEY.match(key) if isinstance(key, str) else None
            if found:
                rounds.setdefault(int(found[2]), {})[found[1]] = value
            else:
                read.rest[str(key)] = value
        read.steps = [_step(number, rounds[number]) for number in sorted(rounds)]
    elif isinstance(trajectory, (list, tuple)):
        read.steps = [_entry(index, entry) for index, entry in enumerate(trajectory)]
    if not read.steps:
        return None
    for step in read.steps:
        called = [action.tool for action in step.get("actions") or () if isinstance(action, Action) and action.tool]
        read.tool_call_count += len(called)
        read.tools_used.extend(tool for tool in called if tool not in read.tools_used)
    return read


def _entry(index: int, entry: Any) -> dict[str, Any]:
    """The step of one entry of a list; what is not understood of it stays in its outputs or under ``extra``."""
    if not isinstance(entry, Mapping):
        return {"index": index, "kind": "react", "outputs": entry}
    left = {str(key): value for key, value in entry.items()}
    if isinstance(left.get("actions"), (list, tuple)):
        return {"index": index, **step_fields(left)}
    parts: dict[str, Any] = {}
    for part, keys in (
        ("thought", _THOUGHTS),
        ("tool_name", _TOOLS),
        ("tool_args", _ARGUMENTS),
        ("observation", _OBSERVATIONS),
    ):
        key = next((key for key in keys if left.get(key) is not None), None)
        if key is not None:
            parts[part] = left.pop(key)
    return {**_step(index, parts), **({"extra": left} if left else {})}


def _step(index: int, parts: Mapping[str, Any]) -> dict[str, Any]:
    thought, tool, observation = parts.get("thought"), parts.get("tool_name"), parts.get("observation")
    fields: dict[str, Any] = {
        "index": index,
        "kind": "react",
        "name": tool if isinstance(tool, str) else None,
        "reasoning": thought if isinstance(thought, str) or thought is None else str(thought),
    }
    if tool is None:
        return {**fields, "inputs": parts.get("tool_args"), "outputs": observation}
    failure = _failure(observation)
    finishes = tool == FINISH
    action = Action(
        type=FINISH if finishes else "tool_call",
        tool=None if finishes else tool if isinstance(tool, str) else str(tool),
        parameters=parts.get("tool_args"),
        result=observation,
        success=None if observation is None else failure is None,
        error=failure,
    )
    return {**fields, "actions": [action], "success": action.success, "error": failure}


def _failure(observation: Any) -> Failure | None:
    """The error that an observation tells of, if it does: DSPy's text ends in the exception as Python prints it."""
    if not isinstance(observation, str) or not observation.startswith(_FAILED):
        return None
    last = observation.rstrip().rsplit("\n", 1)[-1]
    if last.startswith(_FAILED):  # all on one line: `Execution error in search: what went wrong`
        last = last.split(": ", 1)[-1]
    found = _ERROR_LINE.match(last)
    return Failure(type=found[1], message=found[2] or "") if found else Failure(message=last)
