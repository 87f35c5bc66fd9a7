"""Rows as ATIF documents: Harbor's Agent Trajectory Interchange Format, version 1.7.

A message is a step; the results of an agent's calls stand in the ``observation`` of its step. Reasoning, ids and what follows
the last answer have a place here. Names of speakers and tools stand under ``extra``, which the format leaves to its writers,
and so does, in a document's own ``extra``, that it was made of another one.
"""

from __future__ import annotations

from typing import Any

from tracemill.core.messages import role
from tracemill.core.records import Message
from tracemill.dataset.history import split_tail
from tracemill.export.losses import Lost, RefusedError

VERSION = "ATIF-v1.7"
_SOURCES = {"system": "system", "user": "user", "assistant": "agent"}
_ROLES = {source: kind for kind, source in _SOURCES.items()}
_UNKNOWN = "unknown"
"""The agent's version, which the format asks for and a dataset does not know."""


def atif(row: dict[str, Any], lost: list[Lost]) -> dict[str, Any]:
    """``{"schema_version", "trajectory_id", "agent", "steps", "extra"?}``. Raises RefusedError."""
    del lost
    if not row["messages"] or role(row["messages"][-1]) != "assistant":
        raise RefusedError("last_message_not_assistant", "messages does not end with an assistant message")
    if any(role(message) == "assistant" for message in row["tail"]):
        raise RefusedError("last_message_not_assistant", "an assistant message stands after the last answer")
    if not row["platform"].strip():
        raise RefusedError("agent_without_name", "the platform, which names the agent, is blank")
    agent = {"name": row["platform"], "version": _UNKNOWN}
    if row.get("tools"):
        agent["tool_definitions"] = row["tools"]
    steps: list[dict[str, Any]] = []
    for at, message in enumerate([*row["messages"], *row["tail"]]):
        if message["role"] == "tool":
            _observe(steps, message, at)
        else:
            steps.append(_step(message, len(steps) + 1, at))
    made = {"schema_version": VERSION, "trajectory_id": row["id"], "agent": agent, "steps": steps}
    return {**made, "extra": {"augmented": row["augmented"]}} if "augmented" in row else made


def _step(message: Message, number: int, at: int) -> dict[str, Any]:
    step = {"step_id": number, "source": _SOURCES[message["role"]], "message": message.get("content", "")}
    if (reasoning := message.get("reasoning_content")) is not None:
        if message["role"] != "assistant" or not isinstance(reasoning, str):
            raise RefusedError("part_not_text", f"message {at} has reasoning that is no text of an agent's")
        step["reasoning_content"] = reasoning
    if calls := message.get("tool_calls"):
        if not all(isinstance(call.get("id"), str) for call in calls):
            raise RefusedError("malformed_tool_calls", f"message {at} has a call without an id")
        step["tool_calls"] = [
            {
                "tool_call_id": call["id"],
                "function_name": call["function"]["name"],
                "arguments": call["function"]["arguments"],
            }
            for call in calls
        ]
    if "name" in message:
        step["extra"] = {"name": message["name"]}
    return step


def _observe(steps: list[dict[str, Any]], message: Message, at: int) -> None:
    asked = [call["tool_call_id"] for call in steps[-1].get("tool_calls", ())] if steps else []
    if message.get("tool_call_id") not in asked:
        raise RefusedError("orphan_result", f"message {at} answers no call before it")
    result = {"source_call_id": message["tool_call_id"], "content": message.get("content", "")}
    if "name" in message:
        result["extra"] = {"name": message["name"]}
    steps[-1].setdefault("observation", {"results": []})["results"].append(result)


def read_atif(row: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`atif`."""
    messages: list[Message] = []
    for step in row["steps"]:
        message = {"role": _ROLES[step["source"]], "content": step["message"], **step.get("extra", {})}
        if "reasoning_content" in step:
            message["reasoning_content"] = step["reasoning_content"]
        if "tool_calls" in step:
            message["tool_calls"] = [
                {
                    "id": call["tool_call_id"],
                    "type": "function",
                    "function": {"name": call["function_name"], "arguments": call["arguments"]},
                }
                for call in step["tool_calls"]
            ]
        messages.append(message)
        for result in step.get("observation", {"results": []})["results"]:
            answer = {"role": "tool", "tool_call_id": result["source_call_id"], "content": result["content"]}
            messages.append({**answer, **result.get("extra", {})})
    said, tail = split_tail(messages)
    read = {"messages": said, "tail": tail, "id": row["trajectory_id"], "platform": row["agent"]["name"]}
    if "tool_definitions" in row["agent"]:
        read["tools"] = row["agent"]["tool_definitions"]
    if "augmented" in row.get("extra", {}):
        read["augmented"] = row["extra"]["augmented"]
    return read
