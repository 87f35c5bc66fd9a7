"""OpenTelemetry's GenAI conventions, those in force and the older names still in the field.

Source: open-telemetry/semantic-conventions-genai (status Development), semantic-conventions up to 1.41. Operations are told by
``gen_ai.operation.name`` alone; span names differ between instrumentations and say nothing reliable.
"""

from __future__ import annotations

from typing import Any

from tracemill.capture.otlp.found import Attributes, Found, Operation, from_json, texts, under
from tracemill.capture.otlp.messages import chat_messages, from_parts, tool_call
from tracemill.core.records import Message

OPERATIONS: dict[str, Operation] = {
    "chat": "llm",
    "generate_content": "llm",
    "text_completion": "llm",
    "completion": "llm",
    "embeddings": "embedding",
    "execute_tool": "tool",
    "invoke_agent": "agent",
    "create_agent": "agent",
    "invoke_workflow": "workflow",
    "retrieval": "retriever",
}
_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "stop_sequences",
    "choice.count",
    "encoding_formats",
    "stream",
)
_FINISH = {"tool_call": "tool_calls"}


def read_genai(attributes: Attributes, found: Found) -> None:
    """Take what the GenAI conventions name."""
    if not attributes.has("gen_ai."):
        return
    operation = attributes.text("gen_ai.operation.name")
    if operation is not None:
        found.set("operation", OPERATIONS.get(operation, "other"))
        found.extra["operation"] = operation
    elif "gen_ai.tool.name" in attributes.left:
        found.set("operation", "tool")
    elif "gen_ai.request.model" in attributes.left:
        found.set("operation", "llm")
    found.set("provider", attributes.text("gen_ai.provider.name", "gen_ai.system"))
    found.set("requested", attributes.text("gen_ai.request.model"))
    found.set("answered", attributes.text("gen_ai.response.model"))
    found.set("response_id", attributes.text("gen_ai.response.id"))
    found.set("conversation_id", attributes.text("gen_ai.conversation.id"))
    found.set("agent", attributes.text("gen_ai.agent.name", "agent_name"))
    found.set("error_type", attributes.text("error.type"))
    reasons = list(texts(attributes.take("gen_ai.response.finish_reasons")))
    if reasons:
        found.set("finish_reason", _FINISH.get(reasons[0], reasons[0]))
    for name in _SAMPLING:
        value = attributes.take(f"gen_ai.request.{name}")
        if value is not None:
            found.configuration.setdefault({"choice.count": "n", "stop_sequences": "stop"}.get(name, name), value)
    _read_usage(attributes, found)
    _read_content(attributes, found)
    _read_tool(attributes, found)


def _read_usage(attributes: Attributes, found: Found) -> None:
    for prefix in ("gen_ai.usage.", "gen_ai.aggregated_usage."):
        usage = {name.replace(".", "_"): value for name, value in attributes.nested(prefix).items()}
        counts = Attributes(usage)
        found.set("input_tokens", counts.count("input_tokens", "prompt_tokens"))
        found.set("output_tokens", counts.count("output_tokens", "completion_tokens"))
        found.add_usage(usage)
    cost = attributes.take("operation.cost")
    if isinstance(cost, (int, float)) and not isinstance(cost, bool):
        found.set("cost_usd", float(cost))


def _read_content(attributes: Attributes, found: Found) -> None:
    instructions = attributes.structured("gen_ai.system_instructions")
    messages = chat_messages(attributes.take("gen_ai.input.messages"))
    if instructions is not None and not any(message["role"] == "system" for message in messages):
        parts = instructions if isinstance(instructions, list) else [{"type": "text", "content": instructions}]
        messages = [*from_parts({"role": "system", "parts": parts}), *messages]
    answers = attributes.structured("gen_ai.output.messages")
    found.set("messages", messages or None)
    choices = chat_messages(answers)
    if choices:
        found.set("response", choices[0])
        found.set("choices", choices[1:] or None)
        first = answers[0] if isinstance(answers, list) and isinstance(answers[0], dict) else {}
        reason = first.get("finish_reason")
        found.set("finish_reason", _FINISH.get(reason, reason) if isinstance(reason, str) else None)
    definitions = attributes.structured("gen_ai.tool.definitions")
    if isinstance(definitions, list):
        found.set("tools", [_definition(entry) for entry in definitions if isinstance(entry, dict)] or None)
    _read_flattened(attributes, found)


def _definition(entry: dict[str, Any]) -> dict[str, Any]:
    """A tool's definition in OpenAI's shape, which nests what the conventions have side by side."""
    if "function" in entry or entry.get("type") not in (None, "function"):
        return entry
    return {"type": "function", "function": {name: value for name, value in entry.items() if name != "type"}}


def _read_flattened(attributes: Attributes, found: Found) -> None:
    """``gen_ai.prompt.0.role`` and ``gen_ai.completion.0.content``: OpenLLMetry's form before the conventions had one."""
    found.set("messages", [_flat(entry) for entry in attributes.entries("gen_ai.prompt.")] or None)
    choices = attributes.entries("gen_ai.completion.")
    if choices:
        reason = choices[0].get("finish_reason")
        found.set("response", {**_flat(choices[0]), "role": "assistant"})
        found.set("finish_reason", _FINISH.get(reason, reason) if isinstance(reason, str) else None)
    for name in ("gen_ai.prompt", "gen_ai.completion"):  # the oldest form: everything as one text
        whole = chat_messages(attributes.take(name))
        if name == "gen_ai.prompt":
            found.set("messages", whole or None)
        elif whole:
            found.set("response", whole[0])


def _flat(entry: dict[str, Any]) -> Message:
    message: Message = {"role": str(entry.get("role") or "user"), "content": from_json(entry.get("content"))}
    calls = sorted({name.split(".")[1] for name in under(entry, "tool_calls") if name.count(".") > 1}, key=_number)
    if calls:
        each = [under(entry, f"tool_calls.{number}.") for number in calls]
        message["tool_calls"] = [tool_call(call.get("id"), call.get("name"), call.get("arguments")) for call in each]
    if entry.get("tool_call_id"):
        message["tool_call_id"] = entry["tool_call_id"]
    return message


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0


def _read_tool(attributes: Attributes, found: Found) -> None:
    found.set("tool", attributes.text("gen_ai.tool.name"))
    found.set("call_id", attributes.text("gen_ai.tool.call.id"))
    found.set("arguments", attributes.structured("gen_ai.tool.call.arguments", "tool_arguments"))
    found.set("result", attributes.structured("gen_ai.tool.call.result", "tool_response"))
    documents = attributes.structured("gen_ai.retrieval.documents")
    if isinstance(documents, list):
        found.set("chunks", documents)
    found.set("inputs", attributes.structured("gen_ai.retrieval.query.text"))
