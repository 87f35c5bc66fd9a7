"""ATIF, Harbor's Agent Trajectory Interchange Format (versions 1.x): a document a file, or a document a line.

A document becomes one Interaction with the whole trajectory in ``messages``: steps of ``system``, ``user`` and ``agent``, and
after an agent's step the results of its calls. A result that names no call is what the environment said: a ``user`` message
named ``environment``. Embedded trajectories of subagents become Interactions of their own under their parent. What has no
place in a message (metrics with token ids and log probabilities, timestamps, media, notes) is kept under ``extra``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tracemill.capture.importers.base import ContentIds, ImportContext, Imported, lines_of
from tracemill.capture.ingest import Reject
from tracemill.core.codec import parse_json
from tracemill.core.errors import RecordError, SourceError
from tracemill.core.ids import derived_id, now
from tracemill.core.messages import tool_calls
from tracemill.core.records import Interaction, Message, Model, RecordId

LARGEST_FILE = 2 * 1024**3
DEEPEST = 20
"""How far trajectories may be embedded in each other."""
_ROLES = {"system": "system", "user": "user", "agent": "assistant"}
_STEP = frozenset({"step_id", "source", "message", "reasoning_content", "tool_calls", "observation"})
_CALL = frozenset({"tool_call_id", "function_name", "arguments"})
_RESULT = frozenset({"source_call_id", "content"})


def read_atif(path: Path, context: ImportContext) -> Iterator[Imported]:
    """The interactions of a file. Raises SourceError for one that is too large; what is no ATIF is rejected."""
    with ContentIds("atif") as ids:
        for number, data in enumerate(_documents(path), 1):
            if isinstance(data, Reject):
                yield data
                continue
            place = f"document {number}"
            try:
                document = parse_json(data)
                if problem := _problem(document, 0):
                    yield Reject(place, "invalid", problem, data)
                else:
                    yield from _interactions(document, number, ids, context, None)
            except RecordError as error:
                yield Reject(place, error.reason, error.message, data)


def _documents(path: Path) -> Iterator[bytes | Reject]:
    if path.suffix != ".json":
        for _, line in lines_of(path):
            yield line
        return
    if path.stat().st_size > LARGEST_FILE:
        raise SourceError(f"{path} is larger than {LARGEST_FILE:,} bytes", hint="Give its documents as lines.")
    yield path.read_bytes()


# -- what a document must be


def _problem(document: Any, depth: int) -> str:
    if not isinstance(document, dict):
        return "a document is an object"
    if depth > DEEPEST:
        return f"trajectories are embedded more than {DEEPEST} deep"
    version = document.get("schema_version")
    if not isinstance(version, str) or not version.startswith("ATIF-v1."):
        return f"`schema_version` is {version!r}, not ATIF-v1.x"
    if not isinstance(document.get("agent"), dict):
        return "`agent` is missing"
    steps = document.get("steps")
    if not isinstance(steps, list) or not steps:
        return "`steps` is not a list of steps"
    problems = (_step_problem(step, f"step {at}") for at, step in enumerate(steps, 1))
    embedded = document.get("subagent_trajectories") or []
    if not isinstance(embedded, list):
        return "`subagent_trajectories` is not a list"
    return next(filter(None, [*problems, *(_problem(child, depth + 1) for child in embedded)]), "")


def _step_problem(step: Any, place: str) -> str:
    if not isinstance(step, dict) or step.get("source") not in tuple(_ROLES):
        return f"{place} has no `source` of system, user or agent"
    if not isinstance(step.get("message", ""), (str, list)):
        return f"{place} has a `message` that is neither text nor a list of parts"
    calls = step.get("tool_calls") or []
    if not isinstance(calls, list) or not all(
        isinstance(call, dict) and isinstance(call.get("function_name"), str) for call in calls
    ):
        return f"{place} has `tool_calls` that call no function by name"
    observation = step.get("observation") or {}
    results = observation.get("results", []) if isinstance(observation, dict) else None
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        return f"{place} has an `observation` without a list of results"
    return ""


# -- records


def _interactions(
    document: dict[str, Any], number: int, ids: ContentIds, context: ImportContext, parent: RecordId | None
) -> Iterator[Interaction]:
    identity = ids.of(document) if parent is None else derived_id("atif", parent, number)
    left = {key: value for key, value in document.items() if key not in ("steps", "agent", "subagent_trajectories")}
    agent = dict(document["agent"])
    tools = agent.get("tool_definitions")
    has_tools = isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)
    if has_tools:
        del agent["tool_definitions"]
    messages: list[Message] = []
    steps: dict[str, Any] = {}
    for at, step in enumerate(document["steps"], 1):
        messages.extend(_messages(step))
        if beside := _beside(step):
            steps[str(at)] = beside
    called = [call.name for message in messages for call in tool_calls(message) if call.name]
    totals = left["final_metrics"] if isinstance(left.get("final_metrics"), dict) else {}
    name = agent.get("model_name") or context.model
    session, trajectory = left.get("session_id"), left.get("trajectory_id")
    yield Interaction(
        **ids.base(identity, number, _time(document["steps"])),
        platform=context.platform or (agent["name"] if isinstance(agent.get("name"), str) else "") or "atif",
        kind="agent",
        session_id=session if isinstance(session, str) else None,
        conversation_id=trajectory if isinstance(trajectory, str) else None,
        parent_id=parent,
        model=Model(name=name) if isinstance(name, str) else None,
        messages=messages,
        tools=tools if has_tools and tools else [],
        tools_used=list(dict.fromkeys(called)),
        tool_call_count=len(called),
        input_tokens=_count(totals.get("total_prompt_tokens")),
        output_tokens=_count(totals.get("total_completion_tokens")),
        cost_usd=_amount(totals.get("total_cost_usd")),
        extra={"atif": {**left, "agent": agent, **({"steps": steps} if steps else {})}},
    )
    for at, child in enumerate(document.get("subagent_trajectories") or [], 1):
        yield from _interactions(child, at, ids, context, identity)


def _messages(step: dict[str, Any]) -> Iterator[Message]:
    message: Message = {"role": _ROLES[step["source"]], "content": step.get("message", "")}
    if step.get("reasoning_content"):
        message["reasoning_content"] = step["reasoning_content"]
    if calls := step.get("tool_calls"):
        message["tool_calls"] = [_call(call) for call in calls]
        message["content"] = message["content"] or None
    yield _named(message, step)
    for result in (step.get("observation") or {}).get("results", ()):
        content = result.get("content")
        if result.get("source_call_id") is None:
            yield _named({"role": "user", "name": "environment", "content": content}, result)
        else:
            yield _named({"role": "tool", "tool_call_id": result["source_call_id"], "content": content}, result)


def _call(call: dict[str, Any]) -> dict[str, Any]:
    arguments = call.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    function = {"name": call["function_name"], "arguments": text}
    return {"id": call.get("tool_call_id"), "type": "function", "function": function}


def _named(message: Message, source: dict[str, Any]) -> Message:
    """With the name that our own export puts beside it."""
    extra = source.get("extra")
    if isinstance(extra, dict) and isinstance(extra.get("name"), str):
        message["name"] = extra["name"]
    return message


def _beside(step: dict[str, Any]) -> dict[str, Any]:
    """What a step says that no message holds, by the names it has there."""
    kept = _left(step, _STEP)
    calls = {str(at): left for at, call in enumerate(step.get("tool_calls") or ()) if (left := _left(call, _CALL))}
    results = (step.get("observation") or {}).get("results", ())
    said = {str(at): left for at, result in enumerate(results) if (left := _left(result, _RESULT))}
    return {**kept, **({"tool_calls": calls} if calls else {}), **({"results": said} if said else {})}


def _left(source: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {
        key: value
        for key, value in source.items()
        if key not in known and value is not None and not (key == "extra" and _only_name(value))
    }


def _only_name(extra: Any) -> bool:
    return isinstance(extra, dict) and extra.keys() == {"name"} and isinstance(extra["name"], str)


def _time(steps: list[dict[str, Any]]) -> datetime:
    """The first time a step states, or that of the import."""
    for step in steps:
        try:
            moment = datetime.fromisoformat(step["timestamp"])
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    return now()


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _amount(value: Any) -> float | None:
    return (
        float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e300 else None
    )
