"""Documents about agents: ``training_example`` and ``conversation_example`` as LLMunix describes them, and retrieval rows.

A document has every field of its description. Beside them stand ``messages`` and ``message``, the history as the agent
saw it and the message it acted by, so that nothing of the example is lost and the document can be read back.
"""

from __future__ import annotations

from typing import Any

from tracemill.export.losses import Lost, RefusedError

_CONTEXT = {
    "scenario": "scenario",
    "goal": "goal",
    "state": "current_state",
    "available_tools": "available_tools",
    "options": "available_options",
    "agent": "agent",
}
_OUTPUT = {
    "action": "action",
    "tool": "tool",
    "parameters": "parameters",
    "reasoning": "reasoning",
    "stated_confidence": "confidence",
}
_METADATA = {
    "quality_score": "quality_score",
    "human_validated": "human_validated",
    "execution_successful": "execution_successful",
    "weight": "training_weight",
    "training_type": "training_type",
    "confidence": "signal_confidence",
    "outcome": "outcome",
}
_ABOUT = {
    "scenario": "scenario",
    "quality_score": "quality_score",
    "training_type": "training_type",
    "weight": "training_weight",
    "human_validated": "human_validated",
    "augmented": "augmented",
}
EXECUTION_VALUES = ("id", *_CONTEXT, *_OUTPUT, *_METADATA)
"""Fields of an ActionExample that an ``agent-execution`` document holds beside the messages."""
CONVERSATION_VALUES = ("id", *_ABOUT)
"""Fields of a SupervisedExample that a ``conversation-example`` document holds beside the messages."""


def _named(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {theirs: row[mine] for mine, theirs in names.items() if mine in row}


def _read(part: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {mine: part[theirs] for mine, theirs in names.items() if theirs in part}


def _with_tools(row: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    return {**part, "tools": row["tools"]} if "tools" in row else part


def agent_execution(row: dict[str, Any], lost: list[Lost]) -> dict[str, Any]:
    """``{"training_example": {"id", "type", "context", "expected_output", "metadata"}}``. Raises RefusedError."""
    del lost
    if len(row["completion"]) != 1:
        raise RefusedError("answer_not_one_message", "an action is one message")
    context = {**_named(row, _CONTEXT), "messages": row["prompt"]}
    made = {
        "id": row["id"],
        "type": "agent_execution",
        "context": _with_tools(row, context),
        "expected_output": {**_named(row, _OUTPUT), "message": row["completion"][0]},
        "metadata": _named(row, _METADATA),
    }
    return {"training_example": made}


def read_agent_execution(row: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`agent_execution`."""
    made = row["training_example"]
    context, output = made["context"], made["expected_output"]
    read = {
        "id": made["id"],
        **_read(context, _CONTEXT),
        **_read(output, _OUTPUT),
        **_read(made["metadata"], _METADATA),
    }
    return _with_tools(context, {**read, "prompt": context["messages"], "completion": [output["message"]]})


def conversation_example(row: dict[str, Any], lost: list[Lost]) -> dict[str, Any]:
    """``{"conversation_example": {"id", "messages", "metadata"}}``."""
    del lost
    made = {"id": row["id"], "messages": row["messages"], "metadata": _named(row, _ABOUT)}
    return {"conversation_example": _with_tools(row, made)}


def read_conversation_example(row: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`conversation_example`."""
    made = row["conversation_example"]
    return _with_tools(made, {"id": made["id"], "messages": made["messages"], **_read(made["metadata"], _ABOUT)})


def retrieval_pair(row: dict[str, Any], lost: list[Lost]) -> dict[str, Any]:
    """``{"anchor", "positive"}``: the query and a passage that the answer used."""
    if "negative" in row:
        lost.append(Lost("/negative", "field_not_in_format", "a passage that was not used"))
    _forget_tools(row, lost)
    return {"anchor": row["query"], "positive": row["positive"]}


def retrieval_triplet(row: dict[str, Any], lost: list[Lost]) -> dict[str, Any]:
    """``{"anchor", "positive", "negative"}``. Raises RefusedError where every retrieved passage was used."""
    if "negative" not in row:
        raise RefusedError("no_negative", "no passage was retrieved and not used")
    _forget_tools(row, lost)
    return {"anchor": row["query"], "positive": row["positive"], "negative": row["negative"]}


def _forget_tools(row: dict[str, Any], lost: list[Lost]) -> None:
    if row.get("tools"):
        lost.append(Lost("/tools", "field_not_in_format", f"{len(row['tools'])} tools"))


def read_retrieval(row: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`retrieval_pair` and :func:`retrieval_triplet`."""
    names = {"anchor": "query", "positive": "positive", "negative": "negative"}
    return {names[key]: value for key, value in row.items()}
