"""Messages of the GenAI conventions and of frameworks as OpenAI chat messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tracemill.capture.otlp.found import from_json
from tracemill.core.codec import encode_json_plain
from tracemill.core.records import Message

_ROLES = {"model": "assistant", "human": "user", "ai": "assistant", "function": "tool", "developer": "developer"}


def role_of(value: Any) -> str:
    """A role under OpenAI's name; "user" where none is stated."""
    text = str(value or "user").lower()
    return _ROLES.get(text, text)


def json_text(value: Any) -> str:
    """A value as JSON text, as OpenAI has the arguments of tool calls; text stays as it is."""
    return value if isinstance(value, str) else encode_json_plain(value).decode()


def tool_call(identity: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """A tool call in OpenAI's shape."""
    call: dict[str, Any] = {
        "type": "function",
        "function": {"name": str(name or ""), "arguments": json_text({} if arguments is None else arguments)},
    }
    return {"id": str(identity), **call} if identity else call


def from_parts(message: dict[str, Any]) -> Iterator[Message]:
    """The chat messages of one message of the GenAI conventions (``role`` and ``parts``).

    Each tool response becomes a ``tool`` message of its own, before the rest of its message; the rest keeps its order.
    Specification and its own examples disagree on the name of a tool response's content, so both are read.
    """
    content: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    reasoning: list[str] = []
    role = role_of(message.get("role"))
    parts = message.get("parts")
    for part in parts if isinstance(parts, list) else [{"type": "text", "content": message.get("content")}]:
        if not isinstance(part, dict):
            content.append({"type": "text", "text": str(part)})
            continue
        match part.get("type"):
            case "text":
                if part.get("content") is not None:
                    content.append({"type": "text", "text": part["content"]})
            case "reasoning" | "thinking":
                reasoning.append(str(part.get("content", "")))
            case "tool_call":
                calls.append(tool_call(part.get("id"), part.get("name"), part.get("arguments")))
            case "tool_call_response":
                result = next((part[key] for key in ("response", "result", "content") if key in part), None)
                yield tool_message(part.get("id"), result, part.get("name"))
            case _:
                content.append(_media(part))
    plain = content[0]["text"] if len(content) == 1 and content[0].get("type") == "text" else content or None
    if plain is None and not calls and not reasoning:
        if role != "tool" and not parts:
            yield {"role": role, "content": None}
        return
    found: Message = {"role": role, "content": plain}
    if message.get("name"):
        found["name"] = message["name"]
    if reasoning:
        found["reasoning_content"] = "\n".join(reasoning)
    if calls:
        found["tool_calls"] = calls
    yield found


def tool_message(call_id: Any, result: Any, name: Any = None) -> Message:
    """A tool's answer as a chat message."""
    found: Message = {"role": "tool", "content": None if result is None else json_text(result)}
    if call_id:
        found["tool_call_id"] = str(call_id)
    if name:
        found["name"] = str(name)
    return found


def _media(part: dict[str, Any]) -> dict[str, Any]:
    """An image as OpenAI has it; any other part as it stands."""
    if part.get("modality") == "image":
        if part.get("type") == "uri" and part.get("uri"):
            return {"type": "image_url", "image_url": {"url": part["uri"]}}
        if part.get("type") == "blob" and isinstance(part.get("content"), str):
            address = f"data:{part.get('mime_type') or 'image/png'};base64,{part['content']}"
            return {"type": "image_url", "image_url": {"url": address}}
    return part


def chat_messages(value: Any) -> list[Message]:
    """Messages from whatever holds them: GenAI parts, OpenAI messages, ``{"messages": […]}``, or text of the user."""
    value = from_json(value)
    if isinstance(value, dict):
        value = value.get("messages", [value] if "role" in value else [])
        value = from_json(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):  # LangChain's batches of one
        value = value[0]
    found: list[Message] = []
    for entry in value if isinstance(value, list) else []:
        if not isinstance(entry, dict):
            continue
        if isinstance(entry.get("parts"), list):
            found.extend(from_parts(entry))
        elif "role" in entry:
            found.append({**entry, "role": role_of(entry["role"])})
    return found


def split_response(messages: list[Message]) -> tuple[list[Message], Message | None]:
    """A whole conversation as its history and its last answer."""
    if messages and messages[-1].get("role") == "assistant":
        return messages[:-1], messages[-1]
    return messages, None
