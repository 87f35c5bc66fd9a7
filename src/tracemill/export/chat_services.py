"""Rows that are chat messages in another order: prompt and completion, and the preferences of OpenAI and Together."""

from __future__ import annotations

from typing import Any

from tracemill.export.losses import Lost, RefusedError


def prompt_completion(row: dict[str, Any], lost: list[Lost]) -> dict[str, Any]:
    """``{"prompt", "completion", "tools"?}`` of a conversation: the last message is the completion."""
    del lost
    *prompt, answer = row["messages"] or [None]
    if not prompt:
        raise RefusedError("prompt_is_empty", "nothing stands before the answer")
    if prompt[-1]["role"] == "system":
        raise RefusedError("prompt_ends_with_system", "no user or tool message stands before the answer")
    rest = {key: value for key, value in row.items() if key != "messages"}
    return {"prompt": prompt, "completion": [answer], **rest}


def read_prompt_completion(row: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`prompt_completion`."""
    rest = {key: value for key, value in row.items() if key not in ("prompt", "completion")}
    return {"messages": [*row["prompt"], *row["completion"]], **rest}


def preference(row: dict[str, Any], lost: list[Lost]) -> dict[str, Any]:
    """``{"input": {"messages", "tools"?, "parallel_tool_calls"?}, "preferred_output", "non_preferred_output"}``.

    Raises RefusedError where a side is not one message: the outputs are.
    """
    del lost
    if len(row["chosen"]) != 1 or len(row["rejected"]) != 1:
        raise RefusedError("answer_not_one_message", "the format compares single messages")
    given = {"messages": row["prompt"]}
    given |= {key: row[key] for key in ("tools", "parallel_tool_calls") if key in row}
    return {"input": given, "preferred_output": row["chosen"], "non_preferred_output": row["rejected"]}


def read_preference(row: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`preference`."""
    rest = {key: value for key, value in row["input"].items() if key != "messages"}
    sides = {"chosen": row["preferred_output"], "rejected": row["non_preferred_output"]}
    return {"prompt": row["input"]["messages"], **sides, **rest}
