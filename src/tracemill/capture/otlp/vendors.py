"""What frameworks add to the conventions under names of their own.

Sources, read in the packages: traceloop semconv-ai 0.5.1, langfuse 5.0.4, mlflow-skinny 3.17.2, pydantic-ai 2.31.
"""

from __future__ import annotations

from typing import Any

from tracemill.capture.otlp.found import Attributes, Found, Operation, from_json, texts
from tracemill.capture.otlp.messages import chat_messages, split_response

_TRACELOOP: dict[str, Operation] = {
    "workflow": "workflow",
    "task": "workflow",
    "agent": "agent",
    "tool": "tool",
    "unknown": "other",
}
_LANGFUSE: dict[str, Operation] = {
    "generation": "llm",
    "embedding": "embedding",
    "agent": "agent",
    "tool": "tool",
    "chain": "workflow",
    "span": "workflow",
    "retriever": "retriever",
    "evaluator": "evaluator",
    "guardrail": "evaluator",
    "event": "other",
}
_MLFLOW: dict[str, Operation] = {
    "LLM": "llm",
    "CHAT_MODEL": "llm",
    "EMBEDDING": "embedding",
    "AGENT": "agent",
    "CHAIN": "workflow",
    "WORKFLOW": "workflow",
    "TASK": "workflow",
    "TOOL": "tool",
    "RETRIEVER": "retriever",
    "RERANKER": "retriever",
    "EVALUATOR": "evaluator",
    "GUARDRAIL": "evaluator",
    "PARSER": "other",
    "MEMORY": "other",
    "UNKNOWN": "workflow",
}


def read_traceloop(attributes: Attributes, found: Found) -> None:
    """Take what OpenLLMetry names: kinds, entities with their inputs and outputs, association properties, functions."""
    if not (attributes.has("traceloop.") or attributes.has("llm.")):
        return
    kind = attributes.text("traceloop.span.kind")
    if kind is not None:
        found.set("operation", _TRACELOOP.get(kind, "other"))
    request = attributes.text("llm.request.type")
    if request is not None:
        found.set("operation", "embedding" if request == "embedding" else "llm")
    name = attributes.text("traceloop.entity.name")
    if found.operation == "tool":
        found.set("tool", name)
    if found.operation == "agent":
        found.set("agent", name)
    inputs, outputs = (attributes.structured(f"traceloop.entity.{side}") for side in ("input", "output"))
    found.set("inputs", inputs)
    found.set("outputs", outputs)
    if found.operation == "tool":
        found.set("arguments", inputs)
        found.set("result", outputs)
    found.add_usage({"total_tokens": attributes.count("llm.usage.total_tokens")})
    tools = [
        {
            "type": "function",
            "function": {
                "name": str(entry.get("name", "")),
                **({"description": entry["description"]} if entry.get("description") else {}),
                "parameters": from_json(entry.get("parameters")) or {},
            },
        }
        for entry in attributes.entries("llm.request.functions.")
    ]
    found.set("tools", tools or None)
    properties = attributes.nested("traceloop.association.properties.")
    _associate(properties, found)
    if properties:
        found.extra["association_properties"] = properties


def _associate(properties: dict[str, Any], found: Found) -> None:
    for field, names in {
        "conversation_id": ("conversation_id", "chat_id", "thread_id"),
        "session_id": ("session_id", "session.id"),
        "user_id": ("user_id", "user.id"),
    }.items():
        found.set(field, next((str(properties[name]) for name in names if properties.get(name)), None))


def read_langfuse(attributes: Attributes, found: Found) -> None:
    """Take what Langfuse's SDK names. A span that states no type is an ordinary one of its traces."""
    if not attributes.has("langfuse."):
        return
    kind = attributes.text("langfuse.observation.type")
    found.set("operation", _LANGFUSE.get(kind or "span", "workflow"))
    model = attributes.text("langfuse.observation.model.name")
    found.set("requested", model)
    parameters = attributes.structured("langfuse.observation.model.parameters")
    if isinstance(parameters, dict):
        found.configuration.update(parameters)
    inputs, outputs = (attributes.structured(f"langfuse.observation.{side}") for side in ("input", "output"))
    trace_in, trace_out = (attributes.structured(f"langfuse.trace.{side}") for side in ("input", "output"))
    found.set("inputs", inputs if inputs is not None else trace_in)
    found.set("outputs", outputs if outputs is not None else trace_out)
    _talk(found)
    usage = attributes.structured("langfuse.observation.usage_details")
    if isinstance(usage, dict):
        counts = Attributes(usage)
        found.set("input_tokens", counts.count("input", "input_tokens", "prompt_tokens"))
        found.set("output_tokens", counts.count("output", "output_tokens", "completion_tokens"))
        found.add_usage(usage)
    costs = attributes.structured("langfuse.observation.cost_details")
    if isinstance(costs, dict) and isinstance(costs.get("total"), (int, float)):
        found.set("cost_usd", float(costs["total"]))
    if attributes.text("langfuse.observation.level") == "ERROR":
        found.set("error_type", "ERROR")
    found.extra.update(
        {
            name: value
            for name, value in {
                "status_message": attributes.text("langfuse.observation.status_message"),
                "observation_metadata": attributes.nested("langfuse.observation.metadata") or None,
                "trace_metadata": attributes.nested("langfuse.trace.metadata") or None,
                "trace_name": attributes.text("langfuse.trace.name"),
            }.items()
            if value is not None
        }
    )
    found.set("tags", list(texts(attributes.take("langfuse.trace.tags"))) or None)


def _talk(found: Found) -> None:
    """Inputs and outputs as messages, where they are some; text in and text out of a model are a question and an answer."""
    if found.operation == "tool":
        found.set("arguments", found.inputs)
        found.set("result", found.outputs)
        return
    asked, answers = chat_messages(found.inputs), chat_messages(found.outputs)
    if found.operation == "llm":
        if not asked and isinstance(found.inputs, str):
            asked = [{"role": "user", "content": found.inputs}]
        if not answers and isinstance(found.outputs, str):
            answers = [{"role": "assistant", "content": found.outputs}]
    if found.operation in ("llm", "agent", "workflow"):
        found.set("messages", asked or None)
        found.set("response", answers[-1] if answers and answers[-1]["role"] == "assistant" else None)


def read_mlflow(attributes: Attributes, found: Found) -> None:
    """Take what MLflow writes: every value is JSON text."""
    if not attributes.has("mlflow."):
        return
    kind = _unquoted(attributes.take("mlflow.spanType"))
    found.set("operation", _MLFLOW.get(str(kind).upper(), "workflow"))
    inputs = _parsed(attributes.take("mlflow.spanInputs"))
    outputs = _parsed(attributes.take("mlflow.spanOutputs"))
    found.set("inputs", inputs)
    found.set("outputs", outputs)
    messages = chat_messages(attributes.take("mlflow.chat.messages"))
    if messages:
        history, answer = split_response(messages)
        found.set("messages", history or None)
        found.set("response", answer)
    tools = _parsed(attributes.take("mlflow.chat.tools"))
    found.set("tools", tools if isinstance(tools, list) else None)
    usage = _parsed(attributes.take("mlflow.chat.tokenUsage"))
    if isinstance(usage, dict):
        counts = Attributes(usage)
        found.set("input_tokens", counts.count("input_tokens"))
        found.set("output_tokens", counts.count("output_tokens"))
        found.add_usage(usage)
    choices = outputs.get("choices") if isinstance(outputs, dict) else None
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        found.set("response", choices[0].get("message"))
    _talk(found)
    found.set("requested", _unquoted(attributes.take("mlflow.llm.model")))
    found.set("provider", _unquoted(attributes.take("mlflow.llm.provider")))
    if found.operation == "tool":
        found.set("tool", _unquoted(attributes.take("mlflow.spanFunctionName")))
    found.set("session_id", _unquoted(attributes.take("mlflow.trace.session")))
    found.set("user_id", _unquoted(attributes.take("mlflow.trace.user")))


def _parsed(value: Any) -> Any:
    return from_json(_unquoted(value))


def _unquoted(value: Any) -> Any:
    """A text that is itself a JSON text without its quotes."""
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        inner = from_json(f"[{value}]")
        return inner[0] if isinstance(inner, list) and inner else value
    return value


def read_pydantic_ai(attributes: Attributes, found: Found) -> None:
    """Take what pydantic-ai and Logfire add: the whole conversation of an agent's run, and its result."""
    whole = chat_messages(attributes.take("pydantic_ai.all_messages", "all_messages_events"))
    if whole:
        history, answer = split_response(whole)
        found.set("messages", history or None)
        found.set("response", answer)
    found.set("outputs", attributes.structured("final_result"))
    attributes.take("logfire.json_schema")


def read_common(attributes: Attributes, found: Found) -> None:
    """Take what several of them and OpenTelemetry itself share."""
    found.set("session_id", attributes.text("session.id"))
    found.set("user_id", attributes.text("user.id", "enduser.id"))
    found.set("error_type", attributes.text("error.type"))
