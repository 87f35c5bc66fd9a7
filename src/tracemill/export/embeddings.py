"""Rows for sentence-transformers: an anchor and what should lie near it, and what should not."""

from __future__ import annotations

from typing import Any

from tracemill.core.records import Message
from tracemill.export.losses import Lost, RefusedError


def pair(row: dict[str, Any], lost: list[Lost]) -> dict[str, Any]:
    """``{"anchor", "positive"}``: the last thing a person said, and the final answer. Raises RefusedError."""
    messages: list[Message] = row["messages"]
    end = len(messages) - 1
    if end < 0:
        raise RefusedError("no_messages", "a conversation without messages")
    anchor = _asked(messages[:-1])
    _forget(lost, {f"/messages/{anchor}", f"/messages/{end}"}, "/messages", len(messages) - 2, row)
    return {"anchor": messages[anchor]["content"], "positive": _text(messages[end], "/messages")}


def triplet(row: dict[str, Any], lost: list[Lost]) -> dict[str, Any]:
    """``{"anchor", "positive", "negative"}``: what a person said, the better and the worse answer. Raises RefusedError."""
    prompt: list[Message] = row["prompt"]
    anchor = _asked(prompt)
    made = {"anchor": prompt[anchor]["content"]}
    kept = {f"/prompt/{anchor}"}
    for column, side in (("positive", "chosen"), ("negative", "rejected")):
        if not row[side]:
            raise RefusedError("last_message_not_assistant", f"{side} is empty")
        made[column] = _text(row[side][-1], f"/{side}")
        kept.add(f"/{side}/{len(row[side]) - 1}")
    if made["positive"] == made["negative"]:
        raise RefusedError("sides_equal", "in this format both sides say the same")
    rest = len(prompt) + len(row["chosen"]) + len(row["rejected"]) - 3
    _forget(lost, kept, "/prompt", rest, row)
    return made


def _asked(messages: list[Message]) -> int:
    asked = [at for at, message in enumerate(messages) if message["role"] == "user" and message.get("content")]
    if not asked:
        raise RefusedError("no_question", "nobody says anything before the answer")
    return asked[-1]


def _text(message: Message, path: str) -> str:
    if message["role"] != "assistant":
        raise RefusedError("last_message_not_assistant", f"{path} does not end with an assistant message")
    if not message.get("content") or message.get("tool_calls"):
        raise RefusedError("answer_is_no_text", f"the last message of {path} calls a tool or says nothing")
    return str(message["content"])


def _forget(lost: list[Lost], kept: set[str], path: str, rest: int, row: dict[str, Any]) -> None:
    """List the rest of the conversation as one loss, instead of what its messages would lack."""
    lost[:] = [entry for entry in lost if entry.path.count("/") < 2 or "/".join(entry.path.split("/")[:3]) in kept]
    for index in sorted(kept):
        side, at = index.split("/")[1:]
        if row[side][int(at)].get("name"):
            lost.append(Lost(f"{index}/name", "field_not_in_format"))
    if rest:
        lost.append(Lost(path, "rest_of_conversation", f"{rest} messages that are neither question nor answer"))
    if row.get("tools"):
        lost.append(Lost("/tools", "field_not_in_format", f"{len(row['tools'])} tools"))
