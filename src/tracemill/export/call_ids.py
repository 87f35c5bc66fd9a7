"""Tool-call ids in formats that want their own, or have none.

Ids are labels that a provider draws at random. A format without them says by order which result answers which call, so a row
is made only where the results follow in the order of the calls; its ids are then ``call_1``, ``call_2`` and so on.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Sequence
from typing import Any

from tracemill.core.records import Message
from tracemill.dataset.history import call_ids
from tracemill.export.losses import Lost, RefusedError

NINE = re.compile(r"[a-zA-Z0-9]{9}")
"""The ids Mistral's models know."""
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def in_order(row: dict[str, Any], sides: Sequence[str], lost: list[Lost]) -> dict[str, Any]:
    """A row whose ids say the order of the calls, and whose results are named after the called function.

    Raises RefusedError for results in another order or under another name than their calls.
    """
    numbered = dict(row)
    count = 0
    for side in sides:
        if ids := call_ids(row[side]):
            lost.append(Lost(f"/{side}", "call_ids_by_order", "results follow in the order of their calls", ids))
        numbered[side], count = _numbered(row[side], f"/{side}", count)
    return numbered


def _numbered(messages: Sequence[Message], path: str, count: int) -> tuple[list[Message], int]:
    found: list[Message] = []
    waiting: deque[tuple[Any, str, Any]] = deque()
    for at, message in enumerate(messages):
        if message.get("role") == "tool":
            found.append(_answer(message, f"{path}/{at}", waiting))
            continue
        waiting.clear()
        if not (calls := message.get("tool_calls")):
            found.append(message)
            continue
        renamed = []
        for call in calls:
            count += 1
            waiting.append((call.get("id"), f"call_{count}", call["function"]["name"]))
            renamed.append({**call, "id": f"call_{count}"})
        found.append({**message, "tool_calls": renamed})
    return found, count


def _answer(message: Message, path: str, waiting: deque[tuple[Any, str, Any]]) -> Message:
    if not waiting:
        raise RefusedError("orphan_result", f"{path} answers no call before it")
    identity, number, name = waiting.popleft()
    if message.get("tool_call_id") != identity:
        raise RefusedError("results_out_of_order", f"{path} does not answer the call whose turn it is")
    if message.get("name", name) != name:
        raise RefusedError("result_of_another_name", f"{path} is named {message['name']!r}, its call {name!r}")
    return {**message, "tool_call_id": number, "name": name}


def of_nine(row: dict[str, Any], sides: Sequence[str], lost: list[Lost]) -> dict[str, Any]:
    """A row whose ids are nine letters and digits, made of the id there was (SHA-256 in base 62) where it was another."""
    renamed = dict(row)
    for side in sides:
        if ids := [value for value in call_ids(row[side]) if not NINE.fullmatch(value)]:
            lost.append(Lost(f"/{side}", "call_ids_renamed", "the format has ids of nine letters and digits", ids))
        renamed[side] = [_of_nine(message) for message in row[side]]
    return renamed


def _of_nine(message: Message) -> Message:
    changed = dict(message)
    if isinstance(answered := message.get("tool_call_id"), str):
        changed["tool_call_id"] = nine(answered)
    if calls := message.get("tool_calls"):
        changed["tool_calls"] = [
            {**call, "id": nine(call["id"])} if isinstance(call.get("id"), str) else call for call in calls
        ]
    return changed


def nine(identity: str) -> str:
    """Nine letters and digits that stand for an id; the id itself where it has that form."""
    if NINE.fullmatch(identity):
        return identity
    number = int.from_bytes(hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()[:16])
    letters = []
    for _ in range(9):
        number, place = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[place])
    return "".join(letters)
