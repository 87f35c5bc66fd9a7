"""The result of a ReAct agent (DSPy's ``Prediction``) as Steps.

DSPy keeps a trajectory as flat keys: ``thought_0``, ``tool_name_0``, ``tool_args_0``, ``observation_0``, ``thought_1`` and
so on; the tool ``finish`` ends it. For a tool that raised it writes an observation that begins ``Execution error in``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tracemill.core.records import Action, Failure

_KEY = re.compile(r"(thought|tool_name|tool_args|observation)_(\d{1,6})\Z")
_FAILED = "Execution error in"
FINISH = "finish"


@dataclass(slots=True)
class ReactResult:
    """What a prediction held: the fields of its Steps in order, the tools it used, and its other outputs."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    tools_used: list[str] = field(default_factory=list)
    tool_call_count: int = 0
    reasoning: Any = None
    outputs: dict[str, Any] = field(default_factory=dict)


def read_react(result: Any) -> ReactResult | None:
    """The parts of a ReAct result, or None when the value is none."""
    fields = prediction_fields(result)
    trajectory = fields.get("trajectory")
    if not isinstance(trajectory, Mapping) or not any(isinstance(key, str) and _KEY.match(key) for key in trajectory):
        return None
    rounds: dict[int, dict[str, Any]] = {}
    for key, value in trajectory.items():
        found = _KEY.match(key) if isinstance(key, str) else None
        if found:
            rounds.setdefault(int(found[2]), {})[found[1]] = value
    read = ReactResult(reasoning=fields.get("reasoning"))
    for index, number in enumerate(sorted(rounds)):
        read.steps.append(_step(index, rounds[number]))
        tool = rounds[number].get("tool_name")
        if isinstance(tool, str) and tool != FINISH:
            read.tool_call_count += 1
            if tool not in read.tools_used:
                read.tools_used.append(tool)
    read.outputs = {key: value for key, value in fields.items() if key not in ("trajectory", "reasoning")}
    return read


def prediction_fields(result: Any) -> dict[str, Any]:
    """The fields of a mapping or of a DSPy Prediction (which keeps them in ``_store``); empty for anything else."""
    if isinstance(result, Mapping):
        return {str(key): value for key, value in result.items()}
    store = getattr(result, "__dict__", {}).get("_store")
    return {str(key): value for key, value in store.items()} if isinstance(store, Mapping) else {}


def _step(index: int, parts: Mapping[str, Any]) -> dict[str, Any]:
    tool, observation = parts.get("tool_name"), parts.get("observation")
    failed = isinstance(observation, str) and observation.startswith(_FAILED)
    action = Action(
        type="finish" if tool == FINISH else "tool_call",
        tool=tool if isinstance(tool, str) else None,
        parameters=parts.get("tool_args"),
        result=observation,
        success=None if observation is None else not failed,
        error=Failure(type="ToolError", message=str(observation)) if failed else None,
    )
    thought = parts.get("thought")
    return {
        "index": index,
        "kind": "react",
        "name": tool if isinstance(tool, str) else None,
        "reasoning": thought if isinstance(thought, str) or thought is None else str(thought),
        "actions": [action] if tool is not None else [],
        "outputs": observation,
        "success": action.success,
    }
