"""OpenAI chat JSONL: one ``{"messages": […], "tools": […]}`` a line, as fine-tuning files and logs have it.

A last message of the assistant is the response. ``model``, ``user``, ``created`` and the like are taken where a line states
them; every other key is kept under ``extra``. Lines of the Batch API's output that hold request and response are read too,
and so are sessions with their messages under ``conversation_data``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tracemill.capture.importers.base import ContentIds, ImportContext, Imported, lines_of
from tracemill.capture.ingest import Reject
from tracemill.core.codec import parse_json
from tracemill.core.errors import RecordError
from tracemill.core.ids import now
from tracemill.core.messages import tool_calls
from tracemill.core.records import Interaction, Model, User

_TIMES = ("created", "created_at", "timestamp")
_TEXTS = ("conversation_id", "session_id", "task_id", "intent", "scenario")


def read_openai_chat(path: Path, context: ImportContext) -> Iterator[Imported]:
    """The interactions of a JSONL file, line by line."""
    with ContentIds("openai-chat") as ids:
        for number, line in lines_of(path):
            yield line if isinstance(line, Reject) else _entry(line, number, ids, context)


def _entry(line: bytes, number: int, ids: ContentIds, context: ImportContext) -> Imported:
    place = f"line {number}"
    try:
        entry = parse_json(line)
        problem = _problem(entry)
        if problem:
            return Reject(place, "invalid", problem, line)
        return _interaction(_flat(entry), ids.of(entry), number, ids, context)
    except RecordError as error:
        return Reject(place, error.reason, error.message, line)


def _problem(entry: Any) -> str:
    if not isinstance(entry, dict):
        return "a line is an object"
    messages = _flat(entry).get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        return "`messages` is not a list of messages"
    return ""


def _flat(entry: dict[str, Any]) -> dict[str, Any]:
    """A line with its request and response side by side, whatever wrapped them; what is not understood stays as it is."""
    flat = dict(entry)
    for wrapper in ("request", "body", "session_data", "conversation_data"):
        if "messages" not in flat and isinstance(flat.get(wrapper), dict):
            flat = {**{key: value for key, value in flat.items() if key != wrapper}, **flat[wrapper]}
    answer: Any = flat.get("response")
    answer = answer.get("body", answer) if isinstance(answer, dict) else None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    asked = flat.get("messages", [])
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict) or not isinstance(asked, list):
        return flat
    flat["messages"] = [*asked, choice["message"]]
    stated = {**answer, "finish_reason": choice.get("finish_reason"), "response_id": answer.get("id")}
    for name in ("finish_reason", "usage", "response_id", "model", "created"):
        if stated.get(name) is not None:
            flat[name] = stated[name]
    return flat


def _interaction(
    entry: dict[str, Any], identity: str, number: int, ids: ContentIds, context: ImportContext
) -> Interaction:
    left = dict(entry)
    messages = left.pop("messages")
    response = messages[-1] if messages[-1].get("role") == "assistant" else None
    called = [call.name for message in messages for call in tool_calls(message) if call.name]
    model_name = left.pop("model") if isinstance(left.get("model"), str) else context.model
    user = _user(left, context)
    usage = left.pop("usage") if isinstance(left.get("usage"), dict) else {}
    fields: dict[str, Any] = {name: left.pop(name) for name in _TEXTS if isinstance(left.get(name), str)}
    for name in ("finish_reason", "response_id"):
        if isinstance(left.get(name), str):
            fields[name] = left.pop(name)
    tools = left.get("tools")
    if isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools):
        fields["tools"] = left.pop("tools")
    return Interaction(
        **ids.base(identity, number, _time(left)),
        **fields,
        platform=context.platform or "openai-chat",
        kind="agent" if called else "chat",
        messages=messages if response is None else messages[:-1],
        response=response,
        model=Model(name=model_name) if model_name else None,
        user=user,
        tools_used=list(dict.fromkeys(called)),
        tool_call_count=len(called),
        usage=usage,
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        extra=left,
    )


def _user(left: dict[str, Any], context: ImportContext) -> User | None:
    """The user that ``user``, else ``user_id``, names; taken out of a line, with a pseudonym for another one besides."""
    stated = [value for name in ("user", "user_id") if (value := left.pop(name, None)) is not None]
    found = [context.pseudonymize(value if isinstance(value, (str, int)) else repr(value)) for value in stated]
    if len(found) > 1 and found[0] != found[1]:
        left["user_id"] = found[1].pseudonym
    return found[0] if found else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _time(left: dict[str, Any]) -> datetime:
    for name in _TIMES:
        value = left.get(name)
        try:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return datetime.fromtimestamp(value, UTC)
            if isinstance(value, str):
                moment = datetime.fromisoformat(value)
                return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError, OSError):
            continue
    return now()
