"""What a model answered: chat completions, the Responses interface and embeddings, whole or streamed.

Each function gives fields of an Interaction. Shapes: OpenAI's HTTP interface as the package ``openai`` 2.54 types it. What a
server sends beyond them is passed over, never an error: the call was answered, whatever we make of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tracemill.core.records import Message


def chat_answer(body: dict[str, Any]) -> dict[str, Any]:
    """A whole chat completion."""
    choices = [choice for choice in _dicts(body.get("choices")) if isinstance(choice.get("message"), dict)]
    fields = _common(body)
    if choices:
        fields["response"] = {
            key: value for key, value in choices[0]["message"].items() if value is not None or key == "content"
        }
        fields["finish_reason"] = _text(choices[0].get("finish_reason"))
        if len(choices) > 1:
            fields["choices"] = [choice["message"] for choice in choices[1:]]
    return fields


def chat_stream(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """A streamed chat completion, its pieces put together: text, refusals, reasoning, and tool calls by their index."""
    fields: dict[str, Any] = {}
    messages: dict[int, Message] = {}
    calls: dict[int, dict[int, dict[str, Any]]] = {}
    reasons: dict[int, str] = {}
    for chunk in chunks:
        fields.update({key: value for key, value in _common(chunk).items() if value})
        if isinstance(chunk.get("error"), dict):
            fields["stream_error"] = chunk["error"]
        for choice in _dicts(chunk.get("choices")):
            index = choice["index"] if isinstance(choice.get("index"), int) else 0
            delta = choice.get("delta")
            if isinstance(delta, dict):
                _add(messages.setdefault(index, {"role": "assistant", "content": None}), delta)
                for call in _dicts(delta.get("tool_calls")):
                    _add_call(calls.setdefault(index, {}), call)
            if isinstance(choice.get("finish_reason"), str):
                reasons[index] = choice["finish_reason"]
    for index, found in calls.items():
        messages[index]["tool_calls"] = [found[number] for number in sorted(found)]
    ordered = [messages[index] for index in sorted(messages)]
    if ordered:
        fields["response"] = ordered[0]
        fields["finish_reason"] = reasons.get(min(messages))
        if len(ordered) > 1:
            fields["choices"] = ordered[1:]
    return fields


def _add(message: Message, delta: dict[str, Any]) -> None:
    if isinstance(delta.get("role"), str):
        message["role"] = delta["role"]
    for name in ("content", "refusal", "reasoning_content", "reasoning"):
        if isinstance(delta.get(name), str):
            message[name] = (message.get(name) or "") + delta[name]


def _add_call(calls: dict[int, dict[str, Any]], piece: dict[str, Any]) -> None:
    number = piece["index"] if isinstance(piece.get("index"), int) else len(calls)
    call = calls.setdefault(number, {"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
    if isinstance(piece.get("id"), str):
        call["id"] = piece["id"]
    function = piece.get("function")
    if isinstance(function, dict):
        for name in ("name", "arguments"):
            if isinstance(function.get(name), str):
                call["function"][name] += function[name]


def responses_answer(body: dict[str, Any]) -> dict[str, Any]:
    """A whole answer of the Responses interface: its output items as one assistant message."""
    fields = _common(body)
    fields["response"] = output_message(_dicts(body.get("output")))
    status, details = body.get("status"), body.get("incomplete_details")
    calls = (fields["response"] or {}).get("tool_calls")
    reason = details.get("reason") if isinstance(details, dict) else None
    fields["finish_reason"] = reason or ("tool_calls" if calls else "stop" if status == "completed" else _text(status))
    if isinstance(body.get("error"), dict):
        fields["stream_error"] = body["error"]
    return fields


def responses_stream(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """A streamed answer: the response that ends it, or what text had come before it was cut off."""
    last: dict[str, Any] = {}
    text: list[str] = []
    for event in events:
        if isinstance(event.get("response"), dict):
            last = event["response"]
        if event.get("type") == "response.output_text.delta" and isinstance(event.get("delta"), str):
            text.append(event["delta"])
    fields = responses_answer(last)
    if fields["response"] is None and text:
        fields["response"] = {"role": "assistant", "content": "".join(text)}
        fields["finish_reason"] = None
    return fields


def output_message(items: list[dict[str, Any]]) -> Message | None:
    """Output items as one assistant message; items that chat has no place for are kept under ``items``."""
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    reasoning: list[str] = []
    others: list[dict[str, Any]] = []
    for item in items:
        match item.get("type"):
            case "message":
                texts += [str(part.get("text") or part.get("refusal") or "") for part in _dicts(item.get("content"))]
            case "function_call":
                function = {"name": item.get("name"), "arguments": item.get("arguments")}
                calls.append({"id": item.get("call_id"), "type": "function", "function": function})
            case "reasoning":
                reasoning += [str(part.get("text", "")) for part in _dicts(item.get("summary"))]
            case _:
                others.append(item)
    if not items:
        return None
    message: Message = {"role": "assistant", "content": "".join(texts) if texts else None}
    if calls:
        message["tool_calls"] = calls
    if any(reasoning):
        message["reasoning_content"] = "\n".join(reasoning)
    if others:
        message["items"] = others
    return message


def input_messages(asked: Any, instructions: Any) -> list[Message]:
    """The input of the Responses interface as chat messages."""
    messages: list[Message] = []
    if isinstance(instructions, str) and instructions:
        messages.append({"role": "system", "content": instructions})
    if isinstance(asked, str):
        return [*messages, {"role": "user", "content": asked}]
    for item in _dicts(asked):
        match item.get("type", "message"):
            case "message":
                messages.append({"role": str(item.get("role", "user")), "content": _content(item.get("content"))})
            case "function_call":
                made = output_message([item])
                if made is not None:
                    messages.append(made)
            case "function_call_output":
                told = {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
                messages.append(told)
            case _:
                messages.append({"role": "assistant", "content": None, "items": [item]})
    return messages


def _content(content: Any) -> Any:
    """Parts under chat's names; a single text as text."""
    if not isinstance(content, list):
        return content
    parts: list[Any] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("input_text", "output_text"):
            parts.append({"type": "text", "text": part.get("text")})
        elif kind == "input_image" and part.get("image_url"):
            parts.append({"type": "image_url", "image_url": {"url": part["image_url"]}})
        else:
            parts.append(part)
    only = parts[0] if len(parts) == 1 else {}
    return only["text"] if isinstance(only, dict) and only.get("type") == "text" else parts


def embeddings_answer(body: dict[str, Any]) -> dict[str, Any]:
    """Embeddings: how many and how long they are. The vectors themselves can be made again and are not kept."""
    fields = _common(body)
    vectors = [entry.get("embedding") for entry in _dicts(body.get("data"))]
    fields["embeddings"] = {"count": len(vectors), "dimensions": _length(vectors[0]) if vectors else None}
    return fields


def _length(vector: Any) -> int | None:
    return len(vector) if isinstance(vector, list) else None


def _common(body: dict[str, Any]) -> dict[str, Any]:
    usage = body["usage"] if isinstance(body.get("usage"), dict) else {}
    return {
        "response_id": _text(body.get("id")),
        "answered_by": _text(body.get("model")),
        "usage": usage,
        "input_tokens": _count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        "output_tokens": _count(usage.get("completion_tokens", usage.get("output_tokens"))),
    }


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
