"""One call that was passed through, from its first byte to its last, as the fields of an Interaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tracemill.capture.proxy.sse import events
from tracemill.core.answers import (
    chat_answer,
    chat_stream,
    embeddings_answer,
    input_messages,
    responses_answer,
    responses_stream,
)
from tracemill.core.codec import parse_json
from tracemill.core.consent import GLOBAL_PRIVACY_CONTROL
from tracemill.core.errors import RecordError
from tracemill.core.messages import tool_calls
from tracemill.core.records import Failure, Model, User

Operation = Literal["chat", "responses", "embeddings"]
LONGEST_STREAM = 32 * 1024 * 1024
"""Bytes of a streamed answer that are kept for the record; the client gets all of it."""
_NOT_SETTINGS = {"model", "messages", "input", "tools", "stream", "stream_options", "user", "metadata", "instructions",
                 "prompt", "safety_identifier", "conversation"}  # fmt: skip
_CONVERSATION = ("conversation_id", "thread_id", "chat_id", "session_id")


@dataclass
class Exchange:
    """A call as it went over the wire. ``status`` is 0 while nothing was answered; times are in milliseconds.

    ``private`` says that it came with the signal Global Privacy Control.
    """

    operation: Operation
    request: bytes
    headers: Mapping[str, str]
    provider: str
    platform: str | None = None
    private: bool = False
    status: int = 0
    streamed: bool = False
    answer: list[bytes] = field(default_factory=list)
    kept: int = 0
    truncated: bool = False
    duration_ms: float | None = None
    first_byte_ms: float | None = None
    interrupted: bool = False
    failure: Failure | None = None

    def keep(self, chunk: bytes) -> None:
        """Remember a piece of the answer, up to a limit."""
        if self.kept + len(chunk) > LONGEST_STREAM:
            self.truncated = True
            return
        self.kept += len(chunk)
        self.answer.append(chunk)

    def fields(self, pseudonymize: Callable[[str], User]) -> dict[str, Any]:
        """The fields of its Interaction, without id and time."""
        asked = _object(self.request)
        said = self._said()
        user = self.named_user(asked)
        response = said.pop("response", None)
        called = [call.name for call in tool_calls(response or {}) if call.name]
        failure = self.failure or self._failure(said.pop("stream_error", None))
        ended = not self.interrupted and failure is None
        answered_by = said.pop("answered_by", None)
        requested = asked["model"] if isinstance(asked.get("model"), str) else None
        extra = {
            "operation": self.operation,
            "status": self.status or None,
            "streamed": self.streamed or None,
            "time_to_first_byte_ms": self.first_byte_ms,
            "metadata": asked.get("metadata") or None,
            "choices": said.pop("choices", None),
            "embeddings": said.pop("embeddings", None),
            "input": asked.get("input") if self.operation == "embeddings" else None,
            GLOBAL_PRIVACY_CONTROL: self.private or None,
            "unreadable_request": None if asked or not self.request else True,
        }
        return {
            **said,
            "platform": self.platform,
            "kind": "chat",
            "messages": self._messages(asked),
            "tools": [tool for tool in asked.get("tools") or () if isinstance(tool, dict)],
            "response": response,
            "model_requested": _model(self.provider, requested, asked),
            "model": _model(self.provider, answered_by or requested, asked),
            "user": pseudonymize(user) if user is not None else None,
            "conversation_id": self._conversation(asked),
            "session_id": self.headers.get("x-tracemill-session-id"),
            "duration_ms": self.duration_ms,
            "success": failure is None and not self.interrupted,
            "error": failure,
            "completion_status": "successful" if ended else "interrupted" if self.interrupted else "failed",
            "tools_used": list(dict.fromkeys(called)),
            "tool_call_count": len(called) or None,
            "truncated": self.truncated or None,
            "extra": {name: value for name, value in extra.items() if value is not None},
        }

    def named_user(self, asked: dict[str, Any] | None = None) -> str | None:
        """Whom the request names, if anybody, by the id the application knows."""
        asked = _object(self.request) if asked is None else asked
        user = self.headers.get("x-tracemill-user-id") or asked.get("safety_identifier") or asked.get("user")
        return str(user) if isinstance(user, (str, int)) and user != "" else None

    def _said(self) -> dict[str, Any]:
        body = b"".join(self.answer)
        if self.status >= 400 or not body:
            return {}
        if self.streamed:
            return (responses_stream if self.operation == "responses" else chat_stream)(events(body))
        read = {"chat": chat_answer, "responses": responses_answer, "embeddings": embeddings_answer}[self.operation]
        return read(_object(body))

    def _failure(self, told: Any) -> Failure | None:
        """The error of the upstream's own shape, or of a stream that broke off with one."""
        if self.status >= 400:
            body = _object(b"".join(self.answer))
            told = body.get("error", body)
            told = told if isinstance(told, dict) else {"message": told}
        if not isinstance(told, dict):
            return None
        kind = told.get("type") or told.get("code")
        return Failure(
            type=str(kind) if kind else f"http_{self.status}",
            message=str(told.get("message") or ""),
            detail={"status": self.status, "code": told.get("code")},
        )

    def _messages(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        if self.operation == "responses":
            return input_messages(asked.get("input"), asked.get("instructions"))
        messages = asked.get("messages")
        return [entry for entry in messages if isinstance(entry, dict)] if isinstance(messages, list) else []

    def _conversation(self, asked: dict[str, Any]) -> str | None:
        if named := self.headers.get("x-tracemill-conversation-id"):
            return named
        metadata = asked.get("metadata")
        if isinstance(metadata, dict):
            named = next((metadata[name] for name in _CONVERSATION if metadata.get(name)), None)
        conversation = asked.get("conversation")
        named = named or (conversation.get("id") if isinstance(conversation, dict) else conversation)
        return str(named) if named else None


def _model(provider: str, name: str | None, asked: dict[str, Any]) -> Model | None:
    if name is None:
        return None
    configuration = {key: value for key, value in asked.items() if key not in _NOT_SETTINGS}
    return Model(provider=provider, name=name, configuration=configuration)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = parse_json(body) if body else {}
    except RecordError:
        return {}
    return found if isinstance(found, dict) else {}
