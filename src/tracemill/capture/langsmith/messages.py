"""What runs of a model say of messages: LangChain's serialized messages, OpenAI's shapes, and Anthropic's message."""

from __future__ import annotations

from typing import Any

from tracemill.capture.otlp.messages import role_of, tool_call
from tracemill.core.answers import chat_answer, input_messages, responses_answer
from tracemill.core.records import Message

_ROLES = {
    "human": "user",
    "ai": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "tool",
    "developer": "developer",
}


def message_of(value: Any) -> Message | None:
    """One message as OpenAI's chat has it; None when the value is none.

    LangChain's messages come serialized (``{"lc": 1, "id": […, "HumanMessage"], "kwargs": …}``) or as their plain fields
    (``{"type": "human", "content": …}``); OpenAI's as they are.
    """
    if isinstance(value, list) and len(value) == 2 and all(isinstance(item, str) for item in value):
        return {"role": role_of(value[0]), "content": value[1]}
    if not isinstance(value, dict):
        return None
    name: Any = value.get("type")
    if value.get("lc") == 1 and isinstance(value.get("kwargs"), dict):
        path = value.get("id")
        name = path[-1] if isinstance(path, list) and path else None
        value = value["kwargs"]
    if "role" in value and not isinstance(name, str):
        return _openai(value)
    role = _role(str(name or ""), value)
    return None if role is None else _langchain(role, value)


def _role(name: str, value: dict[str, Any]) -> str | None:
    if "content" not in value:
        return None
    short = name.removesuffix("Chunk").removesuffix("Message").lower()
    if short in _ROLES:
        return _ROLES[short]
    return role_of(value["role"]) if isinstance(value.get("role"), str) else _ROLES.get(str(value.get("type")))


def _openai(value: dict[str, Any]) -> Message:
    kept = {key: item for key, item in value.items() if item is not None or key == "content"}
    return {**kept, "role": role_of(value["role"])}


def _langchain(role: str, fields: dict[str, Any]) -> Message:
    more = fields.get("additional_kwargs")
    more = more if isinstance(more, dict) else {}
    content, reasoning = _content(fields.get("content"))
    calls = [
        tool_call(call.get("id"), call.get("name"), call.get("args"))
        for call in (*_dicts(fields.get("tool_calls")), *_dicts(fields.get("invalid_tool_calls")))
    ] or _dicts(more.get("tool_calls"))
    message: Message = {"role": role, "content": None if calls and content in ("", []) else content}
    if reasoning or more.get("reasoning_content"):
        message["reasoning_content"] = reasoning or more["reasoning_content"]
    if calls:
        message["tool_calls"] = calls
    for name in ("tool_call_id", "name"):
        if fields.get(name):
            message[name] = fields[name]
    if isinstance(more.get("refusal"), str):
        message["refusal"] = more["refusal"]
    return message


def _content(content: Any) -> tuple[Any, str]:
    """Content without what stands elsewhere in a message: reasoning, and calls of tools; a single text as text."""
    if not isinstance(content, list):
        return content, ""
    parts: list[Any] = []
    reasoning: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("thinking", "reasoning"):
            reasoning.append(str(part.get("thinking") or part.get("reasoning") or ""))
        elif kind not in ("tool_use", "tool_call", "function_call"):
            parts.append(part)
    only = parts[0] if len(parts) == 1 else None
    if isinstance(only, str):
        return only, "\n".join(reasoning)
    if isinstance(only, dict) and only.get("type") == "text":
        return only.get("text"), "\n".join(reasoning)
    return parts, "\n".join(reasoning)


def messages_of(inputs: Any) -> list[Message]:
    """The messages a run was given, or none: under ``messages`` (LangChain: a batch of one), ``input`` or ``prompts``."""
    if not isinstance(inputs, dict):
        return []
    found = inputs.get("messages")
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], list) and not _pair(found[0]):
        found = found[0]
    if isinstance(found, list):
        system = inputs.get("system")  # Anthropic has it beside the messages
        first: list[Message] = [] if not system else [{"role": "system", "content": system}]
        return [*first, *(message for message in map(message_of, found) if message is not None)]
    if "model" in inputs and "input" in inputs:
        return input_messages(inputs["input"], inputs.get("instructions"))
    prompts = inputs.get("prompts")
    if isinstance(prompts, list) and len(prompts) == 1 and isinstance(prompts[0], str):
        return [{"role": "user", "content": prompts[0]}]
    return []


def _pair(value: list[Any]) -> bool:
    return len(value) == 2 and all(isinstance(item, str) for item in value)


def answer_of(outputs: Any) -> dict[str, Any]:
    """Fields of what a model answered, as :mod:`tracemill.core.answers` names them; empty when it is unknown."""
    if not isinstance(outputs, dict):
        return {}
    if isinstance(outputs.get("generations"), list):
        return _generations(outputs)
    if isinstance(outputs.get("choices"), list):
        return chat_answer(outputs)
    if isinstance(outputs.get("output"), list) and outputs.get("object") == "response":
        return responses_answer(outputs)
    inner = outputs.get("message", outputs)
    message = message_of(inner)
    if message is None or not isinstance(inner, dict) or message["role"] != "assistant":
        return {}
    if inner.get("type") == "message" or isinstance(inner.get("content"), list):
        return _anthropic(inner)
    return {"response": message, "usage": _dict(inner.get("usage_metadata")) or _dict(outputs.get("usage_metadata"))}


def _anthropic(inner: dict[str, Any]) -> dict[str, Any]:
    calls = [part for part in _dicts(inner.get("content")) if part.get("type") == "tool_use"]
    named = [{"id": call.get("id"), "name": call.get("name"), "args": call.get("input")} for call in calls]
    return {
        "response": _langchain("assistant", {"content": inner.get("content"), "tool_calls": named}),
        "finish_reason": _text(inner.get("stop_reason")),
        "answered_by": _text(inner.get("model")),
        "response_id": _text(inner.get("id")),
        "usage": _dict(inner.get("usage")),
    }


def _generations(outputs: dict[str, Any]) -> dict[str, Any]:
    """LangChain's result: the first generation is the answer, the others are choices."""
    entries = outputs["generations"]
    flat = entries[0] if entries and isinstance(entries[0], list) else entries
    made = [_generation(entry) for entry in _dicts(flat)]
    if not made:
        return {}
    fields = made[0]
    told = _dict(outputs.get("llm_output"))
    if not fields.get("usage"):
        fields["usage"] = _dict(told.get("token_usage"))
    fields["answered_by"] = fields.get("answered_by") or _text(told.get("model_name"))
    others = [entry["response"] for entry in made[1:]]
    return {**fields, "choices": others} if others else fields


def _generation(entry: dict[str, Any]) -> dict[str, Any]:
    message = message_of(entry.get("message")) or {"role": "assistant", "content": entry.get("text")}
    inner = _dict(entry.get("message"))
    inner = _dict(inner.get("kwargs")) or inner
    about = {**_dict(entry.get("generation_info")), **_dict(inner.get("response_metadata"))}
    return {
        "response": message,
        "finish_reason": _text(about.get("finish_reason") or about.get("stop_reason")),
        "answered_by": _text(about.get("model_name") or about.get("model")),
        "response_id": _text(about.get("id") or inner.get("id")),
        "usage": _dict(inner.get("usage_metadata")) or _dict(about.get("token_usage")),
    }


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
