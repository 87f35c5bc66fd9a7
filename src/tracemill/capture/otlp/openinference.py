"""OpenInference (Arize): flattened lists of messages, tools and documents, and annotations on spans.

Source: openinference-semantic-conventions 0.1.42.
"""

from __future__ import annotations

from typing import Any

from tracemill.capture.otlp.found import Attributes, Found, Operation, entries_of, from_json, texts, under
from tracemill.capture.otlp.messages import chat_messages, role_of, split_response, tool_call
from tracemill.core.records import Message

KINDS: dict[str, Operation] = {
    "LLM": "llm",
    "EMBEDDING": "embedding",
    "AGENT": "agent",
    "CHAIN": "workflow",
    "TOOL": "tool",
    "RETRIEVER": "retriever",
    "RERANKER": "retriever",
    "GUARDRAIL": "evaluator",
    "EVALUATOR": "evaluator",
    "PROMPT": "other",
    "DECISION": "other",
    "UNKNOWN": "other",
}
_TOOL_REASONS = {"tool_use": "tool_calls", "end_turn": "stop", "max_tokens": "length"}


def read_openinference(attributes: Attributes, found: Found) -> None:
    """Take what OpenInference names."""
    kind = attributes.text("openinference.span.kind")
    if kind is None:
        return
    found.set("operation", KINDS.get(kind.upper(), "other"))
    found.set("provider", attributes.text("llm.provider", "llm.system"))
    answered = attributes.text("llm.response.model_name")
    name = attributes.text("llm.model_name", "embedding.model_name")
    asked = attributes.text("llm.request.model_name")
    found.set("finish_reason", attributes.text("llm.finish_reason"))
    parameters = attributes.structured("llm.invocation_parameters")
    if isinstance(parameters, dict):
        asked = asked or parameters.pop("model", None)
        found.set("tools", parameters.pop("tools", None))
        found.configuration.update({key: value for key, value in parameters.items() if key not in found.configuration})
    found.set("requested", asked if isinstance(asked, str) else name)
    found.set("answered", answered or name)
    _read_messages(attributes, found)
    _read_usage(attributes, found)
    _read_around(attributes, found)
    for prefix in ("annotations.", "evaluations.", "trace.annotations.", "trace.evaluations."):
        inner = "annotation." if "annotation" in prefix else "evaluation."
        for entry in attributes.entries(prefix):
            about = "trace" if prefix.startswith("trace.") else "span"
            found.annotations.append({**under(entry, inner), "about": about})


def _read_messages(attributes: Attributes, found: Found) -> None:
    asked = [_message(under(entry, "message.")) for entry in attributes.entries("llm.input_messages.")]
    answers = [_message(under(entry, "message.")) for entry in attributes.entries("llm.output_messages.")]
    found.set("messages", asked or None)
    if answers:
        found.set("response", {**answers[0], "role": "assistant"})
        found.set("choices", answers[1:] or None)
    schemas = [from_json(entry.get("tool.json_schema")) for entry in attributes.entries("llm.tools.")]
    found.set("tools", [schema for schema in schemas if isinstance(schema, dict)] or None)


def _message(flat: dict[str, Any]) -> Message:
    message: Message = {"role": role_of(flat.get("role")), "content": flat.get("content")}
    parts = [_part(under(entry, "message_content.")) for entry in entries_of(under(flat, "contents."))]
    if parts and message["content"] is None:
        only = parts[0].get("text") if len(parts) == 1 and parts[0].get("type") == "text" else None
        message["content"] = only if only is not None else parts
    calls = [under(entry, "tool_call.") for entry in entries_of(under(flat, "tool_calls."))]
    if calls:
        message["tool_calls"] = [
            tool_call(call.get("id"), call.get("function.name"), call.get("function.arguments")) for call in calls
        ]
    for name in ("name", "tool_call_id"):
        if flat.get(name):
            message[name] = flat[name]
    return message


def _part(flat: dict[str, Any]) -> dict[str, Any]:
    if flat.get("type") == "image" and flat.get("image.image.url"):
        return {"type": "image_url", "image_url": {"url": flat["image.image.url"]}}
    return flat


def _read_usage(attributes: Attributes, found: Found) -> None:
    found.set("input_tokens", attributes.count("llm.token_count.prompt"))
    found.set("output_tokens", attributes.count("llm.token_count.completion"))
    details = attributes.nested("llm.token_count.")
    found.add_usage({name.replace(".", "_"): value for name, value in details.items()})
    costs = attributes.nested("llm.cost.")
    total = costs.pop("total", None)
    if isinstance(total, (int, float)) and not isinstance(total, bool):
        found.set("cost_usd", float(total))
    if costs:
        found.extra["cost"] = costs


def _read_around(attributes: Attributes, found: Found) -> None:
    """What a span was given and gave, and what it belongs to."""
    inputs, outputs = attributes.structured("input.value"), attributes.structured("output.value")
    attributes.take("input.mime_type")
    attributes.take("output.mime_type")
    found.set("inputs", inputs)
    found.set("outputs", outputs)
    if found.operation == "llm":  # wrappers that know no messages put the call itself there
        found.set("messages", chat_messages(inputs) or None)
    if found.operation in ("agent", "workflow"):
        history, answer = split_response([*chat_messages(inputs), *chat_messages(outputs)])
        found.set("messages", history or None)
        found.set("response", answer)
    found.set("session_id", attributes.text("session.id"))
    found.set("user_id", attributes.text("user.id"))
    found.set("agent", attributes.text("agent.name", "graph.node.name"))
    found.set("tool", attributes.text("tool.name"))
    found.set("call_id", attributes.text("tool_call.id", "tool.id"))
    found.set("arguments", attributes.structured("tool.parameters"))
    if found.operation == "tool":
        found.set("arguments", inputs)
        found.set("result", outputs)
    found.set("tags", list(texts(attributes.take("tag.tags"))) or None)
    metadata = attributes.structured("metadata")
    if metadata is not None:
        found.extra["metadata"] = metadata
    for prefix in ("retrieval.documents.", "reranker.output_documents."):
        documents = [under(entry, "document.") for entry in attributes.entries(prefix)]
        found.set("chunks", [{name: from_json(value) for name, value in each.items()} for each in documents] or None)
