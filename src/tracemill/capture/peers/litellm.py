"""LiteLLM's ``generic_api`` callback (1.106): a StandardLoggingPayload a call, as an Interaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tracemill.core.answers import chat_answer, input_messages, responses_answer
from tracemill.core.ids import derived_id, from_microseconds
from tracemill.core.messages import tool_calls
from tracemill.core.records import SCHEMA_VERSION, Failure, Interaction, Model, User

_TAKEN = frozenset(
    {"id", "trace_id", "session_id", "call_type", "stream", "response_cost", "status", "custom_llm_provider", "total_tokens",
     "prompt_tokens", "completion_tokens", "startTime", "endTime", "completionStartTime", "response_time", "model",
     "messages", "response", "error_str", "error_information", "model_parameters", "request_tags", "end_user"}
)  # fmt: skip
_PERSONAL = frozenset(
    {"user_api_key_end_user_id", "user_api_key_user_id", "user_api_key_user_email", "user_api_key_hash",
     "requester_ip_address"}
)  # fmt: skip
_NOT_SETTINGS = ("tools", "functions", "messages", "user", "metadata")
_LAST = 253_402_300_799.0


def read_call(entry: Any, pseudonymize: Callable[[str], User], platform: str | None) -> Interaction:
    """One logged call. Raises ValueError when it is none, with what is missing."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or "call_type" not in entry:
        raise ValueError("a logged call is an object with id and call_type")
    parameters = entry["model_parameters"] if isinstance(entry.get("model_parameters"), dict) else {}
    answer = _answer(entry.get("response"))
    response = answer.get("response")
    called = [call.name for call in tool_calls(response or {}) if call.name]
    failure = _failure(entry)
    metadata = entry["metadata"] if isinstance(entry.get("metadata"), dict) else {}
    begin, end = _seconds(entry.get("startTime")), _seconds(entry.get("endTime"))
    tools = parameters.get("tools")
    user = entry.get("end_user") or parameters.get("user") or metadata.get("user_api_key_end_user_id")
    left = {name: value for name, value in entry.items() if name not in _TAKEN}
    if metadata:  # it repeats who asked, and with which key
        left["metadata"] = {name: value for name, value in metadata.items() if name not in _PERSONAL}
    return Interaction(
        id=derived_id("litellm", entry["id"]),
        time=begin or datetime.fromtimestamp(0, UTC),
        schema_version=SCHEMA_VERSION,
        producer="litellm",
        sequence=0,
        platform=platform or "default",
        kind="chat",
        conversation_id=_text(entry.get("session_id")),
        session_id=_text(entry.get("session_id")),
        trace_id=_text(entry.get("trace_id")),
        user=pseudonymize(str(user)) if user else None,
        model_requested=_model(entry, _text(entry.get("model")), parameters),
        model=_model(entry, answer.get("answered_by") or _text(entry.get("model")), parameters),
        messages=_messages(entry.get("messages")),
        tools=[tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else [],
        response=response,
        response_id=answer.get("response_id"),
        finish_reason=answer.get("finish_reason"),
        success=failure is None,
        error=failure,
        tools_used=list(dict.fromkeys(called)),
        tool_call_count=len(called) or None,
        duration_ms=(end - begin).total_seconds() * 1000 if begin and end and end >= begin else None,
        input_tokens=_count(entry.get("prompt_tokens")),
        output_tokens=_count(entry.get("completion_tokens")),
        usage=answer.get("usage") or {},
        cost_usd=_cost(entry.get("response_cost")),
        completion_status="successful" if failure is None else "failed",
        tags=[tag for tag in entry.get("request_tags") or () if isinstance(tag, str)],
        extra={**left, "call_id": entry["id"], "call_type": entry["call_type"]},
    )


def _answer(response: Any) -> dict[str, Any]:
    if not isinstance(response, dict):
        return {}
    if "output" in response:
        return responses_answer(response)
    return chat_answer(response) if "choices" in response else {}


def _messages(asked: Any) -> list[dict[str, Any]]:
    if isinstance(asked, str):
        return [{"role": "user", "content": asked}]
    found = [entry for entry in asked if isinstance(entry, dict)] if isinstance(asked, list) else []
    return found if all("role" in entry for entry in found) else input_messages(found, None)


def _failure(entry: dict[str, Any]) -> Failure | None:
    if entry.get("status") != "failure" and not entry.get("error_str"):
        return None
    told = entry["error_information"] if isinstance(entry.get("error_information"), dict) else {}
    detail = {"code": told.get("error_code"), "provider": told.get("llm_provider")}
    return Failure(
        type=_text(told.get("error_class")),
        message=str(told.get("error_message") or entry.get("error_str") or ""),
        detail={name: value for name, value in detail.items() if value} or None,
    )


def _model(entry: dict[str, Any], name: str | None, parameters: dict[str, Any]) -> Model | None:
    if name is None:
        return None
    configuration = {key: value for key, value in parameters.items() if key not in _NOT_SETTINGS}
    return Model(provider=_text(entry.get("custom_llm_provider")), name=name, configuration=configuration)


def _seconds(value: Any) -> datetime | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < _LAST:
        return from_microseconds(int(value * 1_000_000))
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _cost(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
