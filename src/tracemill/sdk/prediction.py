"""What a model or agent gave back, of whatever form, as the fields of an Interaction and of its Steps.

Understood are text, an assistant message, a chat completion of the OpenAI shape, a DSPy Prediction, and mappings or
objects with fields such as ``response``, ``trajectory``, ``reasoning``, ``tools_used``, ``execution_time_ms``. What no field
names goes to ``extra["prediction"]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tracemill.core.records import Message, Model
from tracemill.sdk.events import fields_of, to_messages
from tracemill.sdk.execution import failure_of
from tracemill.sdk.react import read_trajectory

_RESPONSES = (
    "response",
    "answer",
    "final_answer",
    "ai_response",
    "llm_response",
    "output",
    "content",
    "text",
    "message",
)
_STRAIGHT = (
    "reasoning",
    "tools_used",
    "tool_call_count",
    "success",
    "finish_reason",
    "intent",
    "input_tokens",
    "output_tokens",
)
_RENAMED = {
    "execution_time_ms": "duration_ms",
    "duration_ms": "duration_ms",
    "cost_usd": "cost_usd",
    "cost_estimate": "cost_usd",
}


@dataclass(slots=True)
class Prediction:
    """Fields of the Interaction (an ``extra`` among them) and fields of its Steps."""

    fields: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)


def read_prediction(result: Any) -> Prediction:
    """What a result tells; empty for None."""
    if result is None:
        return Prediction()
    if isinstance(result, str):
        return Prediction({"response": _assistant(result)})
    left = fields_of(result)
    if not left:
        return Prediction({"extra": {"prediction": result}})
    if left.get("role") == "assistant":
        return Prediction({"response": _message(left)})
    if isinstance(left.get("choices"), list) and left["choices"]:
        return Prediction(_completion(left))
    return _fields(left, usage=_dspy_usage(result))


def _fields(left: dict[str, Any], usage: Mapping[str, Any]) -> Prediction:
    read = Prediction()
    trajectory = read_trajectory(left.get("trajectory"))
    if trajectory is not None:
        del left["trajectory"]
        read.steps = trajectory.steps
        read.fields = {
            "kind": "agent",
            "tools_used": trajectory.tools_used,
            "tool_call_count": trajectory.tool_call_count,
        }
        if trajectory.rest:
            left["trajectory"] = trajectory.rest
    for name in _STRAIGHT:
        if left.get(name) is not None:
            read.fields[name] = left.pop(name)
    for name, ours in _RENAMED.items():
        if left.get(name) is not None:
            read.fields[ours] = left.pop(name)
    error = next((left.pop(name) for name in ("error", "error_message") if left.get(name) is not None), None)
    if error is not None:
        read.fields["error"] = failure_of(error)
    model, version = left.pop("model_name", None), left.pop("model_version", None)
    if isinstance(model, str) or isinstance(version, str):
        read.fields["model"] = Model(name=model, version=version)
    read.fields.update(usage_fields(left.pop("usage", None) or usage))
    if left.get("tokens_used") is not None:
        read.fields["usage"] = {"total_tokens": left.pop("tokens_used"), **read.fields.get("usage", {})}
    _take_response(left, read)
    return read


def _take_response(left: dict[str, Any], read: Prediction) -> None:
    """The answer among what is left: under a name of its own, or else the first text (DSPy's outputs have any name)."""
    named = next((name for name in _RESPONSES if left.get(name) is not None), None)
    texts = [name for name, value in left.items() if isinstance(value, str)]
    if named is not None and isinstance(left[named], (str, list, Mapping)):
        read.fields["response"] = _message(left.pop(named))
    elif read.steps and texts:
        read.fields["response"] = _assistant(left[texts[0]])
    left = {name: value for name, value in left.items() if value is not None}
    if left:
        read.fields["extra"] = {"prediction": left}


def _completion(left: dict[str, Any]) -> dict[str, Any]:
    """The fields of a chat completion; further choices are kept under ``extra``."""
    first, *others = left.pop("choices")
    choice = fields_of(first)
    fields: dict[str, Any] = {
        "finish_reason": choice.pop("finish_reason", None),
        **usage_fields(left.pop("usage", None)),
    }
    message = fields_of(choice.pop("message", None))
    if message:
        fields["response"] = {name: value for name, value in message.items() if value is not None or name == "content"}
    model = left.pop("model", None)
    if isinstance(model, str):
        fields["model"] = Model(name=model)
    fields["response_id"] = left.pop("id", None)
    rest = {name: value for name, value in left.items() if value is not None}
    choice = {name: value for name, value in choice.items() if value is not None and name != "index"}
    extra = {**({"completion": rest} if rest else {}), **({"choice": choice} if choice else {})}
    if others:
        extra["choices"] = others
    return {**fields, "extra": extra} if extra else fields


def usage_fields(usage: Any) -> dict[str, Any]:
    """Token counts of a usage object, under the names of OpenAI or of Anthropic; the whole of it is kept beside them."""
    counts = fields_of(usage)
    if not counts:
        return {}
    fields: dict[str, Any] = {"usage": {name: value for name, value in counts.items() if value is not None}}
    for ours, theirs in (("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens")):
        value = counts.get(ours, counts.get(theirs))
        if isinstance(value, int):
            fields[ours] = value
    return fields


def _dspy_usage(result: Any) -> dict[str, Any]:
    """Token counts of a DSPy Prediction (kept by model), summed up, when usage was tracked."""
    by_model = getattr(result, "__dict__", {}).get("_lm_usage")
    if not isinstance(by_model, Mapping):
        return {}
    counts = [each for each in by_model.values() if isinstance(each, Mapping)]
    summed = {
        name: sum(each[name] for each in counts if isinstance(each.get(name), int))
        for name in ("prompt_tokens", "completion_tokens")
        if any(isinstance(each.get(name), int) for each in counts)
    }
    return {**summed, "by_model": dict(by_model)} if counts else {}


def _assistant(content: Any) -> Message:
    return {"role": "assistant", "content": content}


def _message(value: Any) -> Message:
    """An assistant message of an answer: text, content parts, or a message, whoever it says it is from."""
    if isinstance(value, (str, list)):
        return _assistant(value)
    return {**to_messages(value)[0], "role": "assistant"}
