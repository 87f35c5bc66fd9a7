"""Comparing histories: where two conversations are the same, and which call repeats which.

Two notions of sameness, for two questions:

* Is this call the continuation of that one? A client that sends the history back may have dropped reasoning, provider
  fields and nulls on the way. :func:`spine` therefore looks at role, content, name and tool calls only.
* Did two attempts see the very same history? :func:`shared_length` looks at everything, except that tool-call ids are
  compared by the order in which they appear: a provider draws them at random.

In both, a missing field, null and an empty list or text are the same, and so are tool-call arguments that parse to the
same JSON value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from tracemill.core.codec import encode_plain
from tracemill.core.messages import role, trajectory
from tracemill.core.records import Interaction, Message

DIGEST_BYTES = 16
_RESENT = ("role", "content", "name", "tool_calls", "tool_call_id", "function_call")


def content_digest(*values: Any) -> bytes:
    """16 bytes that stand for plain values, whatever the order of keys in them (BLAKE2b of sorted MessagePack)."""
    return hashlib.blake2b(encode_plain(list(values)), digest_size=DIGEST_BYTES).digest()


def split_tail(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """The messages up to the last assistant message, and what comes after it. The first is empty when there is none."""
    end = next((at for at in range(len(messages), 0, -1) if role(messages[at - 1]) == "assistant"), 0)
    return list(messages[:end]), list(messages[end:])


def scope(interaction: Interaction) -> bytes:
    """What two calls must have in common before one can repeat the other: the conversation, and the trial of the task.

    Calls without a conversation id are held together by session and user.
    """
    conversation: list[Any] = ["conversation", interaction.conversation_id]
    if interaction.conversation_id is None:
        user = interaction.user.pseudonym if interaction.user is not None else None
        conversation = ["session", interaction.session_id, user]
    return content_digest(interaction.platform, interaction.task_id, interaction.trial, *conversation)


def spine(interaction: Interaction) -> list[bytes]:
    """A rolling digest after every message of the whole trajectory, begun with the scope.

    One call repeats another exactly when the other's last digest stands in its own spine.
    """
    digests = (content_digest(_resent(message)) for message in trajectory(interaction))
    rolling = accumulate(digests, _roll, initial=scope(interaction))
    return list(rolling)[1:]


def _roll(last: bytes, message: bytes) -> bytes:
    return hashlib.blake2b(last + message, digest_size=DIGEST_BYTES).digest()


def shared_length(one: Sequence[Message], other: Sequence[Message]) -> int:
    """How many leading messages two trajectories have in common, tool-call ids compared by order of appearance."""
    names_of_one: dict[str, int] = {}
    names_of_other: dict[str, int] = {}
    length = 0
    for mine, yours in zip(one, other, strict=False):
        if encode_plain(_exact(mine, names_of_one)) != encode_plain(_exact(yours, names_of_other)):
            break
        length += 1
    return length


def aligned_ids(one: Sequence[Message], other: Sequence[Message]) -> dict[str, str]:
    """For two equally long histories that are the same: the tool-call ids of ``one`` that ``other`` names differently."""
    pairs = zip(call_ids(one), call_ids(other), strict=True)
    return {mine: yours for mine, yours in pairs if mine != yours}


def call_ids(messages: Sequence[Message]) -> list[str]:
    """Every tool-call id of the messages in the order they stand there: of calls, and of results."""
    found: list[str] = []
    for message in messages:
        calls = message.get("tool_calls")
        ids = [call.get("id") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
        found.extend(value for value in [*ids, message.get("tool_call_id")] if isinstance(value, str))
    return found


def _resent(message: Message) -> Message:
    return _reduced({key: message[key] for key in _RESENT if key in message}, None)


def _exact(message: Message, names: dict[str, int]) -> Message:
    return _reduced(message, names)


def _reduced(message: Message, names: dict[str, int] | None) -> Message:
    """The message without empty fields, arguments parsed; with ``names``, call ids replaced by their numbers."""
    reduced = {key: value for key, value in message.items() if not _empty(value)}
    calls = reduced.get("tool_calls")
    if isinstance(calls, list):
        reduced["tool_calls"] = [_reduced_call(call, names) for call in calls]
    if names is not None and isinstance(answered := reduced.get("tool_call_id"), str):
        reduced["tool_call_id"] = _number(answered, names)
    if isinstance(legacy := reduced.get("function_call"), dict):
        reduced["function_call"] = _parsed_arguments(legacy)
    return reduced


def _reduced_call(call: Any, names: dict[str, int] | None) -> Any:
    if not isinstance(call, dict):
        return call
    reduced = {key: value for key, value in call.items() if not _empty(value) and key != "index"}
    if reduced.get("type") == "function":
        del reduced["type"]  # the only type there was for years: often left out when sent back
    if isinstance(function := reduced.get("function"), dict):
        reduced["function"] = _parsed_arguments(function)
    if names is not None and isinstance(identity := reduced.get("id"), str):
        reduced["id"] = _number(identity, names)
    return reduced


def _parsed_arguments(function: dict[str, Any]) -> dict[str, Any]:
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        return function
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):
        return function
    # a text that parses to a text or number stays one: `"1"` and `1` are different arguments
    return {**function, "arguments": parsed} if isinstance(parsed, (dict, list)) else function


def _number(identity: str, names: dict[str, int]) -> Any:
    return ["call", names.setdefault(identity, len(names))]


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, (str, list, dict)) and not value)
