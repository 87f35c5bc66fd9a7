"""OpenAI's client (tested with openai 2.54): chat completions, responses and embeddings, sync and async, whole and streamed.

client = wrap_openai(openai.OpenAI(), get_data_collector())
"""

from __future__ import annotations

from typing import Any, TypeVar

import openai

from tracemill.core.answers import (
    chat_answer,
    chat_stream,
    embeddings_answer,
    input_messages,
    responses_answer,
    responses_stream,
)
from tracemill.sdk.collector import Collector
from tracemill.sdk.integrations.recording import Recorder, answered, plain

Client = TypeVar("Client", openai.OpenAI, openai.AsyncOpenAI)
_NOT_SETTINGS = frozenset(
    {"model", "messages", "input", "tools", "stream", "stream_options", "user", "metadata", "instructions", "extra_headers",
     "extra_query", "extra_body", "timeout", "safety_identifier"}
)  # fmt: skip
_CONVERSATION = ("conversation_id", "thread_id", "session_id")
PROVIDER = "openai"


def wrap_openai(client: Client, collector: Collector) -> Client:
    """Record every call that a client makes; returns the same client. Wrapping it twice records once."""
    chat = Recorder(
        collector,
        lambda given: {**_request(given), "messages": plain_list(given.get("messages"))},
        lambda found: answered(chat_answer(found), PROVIDER, {}),
        lambda pieces: answered(chat_stream(pieces), PROVIDER, {}),
    )
    responses = Recorder(
        collector,
        lambda given: {
            **_request(given),
            "messages": input_messages(plain_list(given.get("input")), given.get("instructions")),
        },
        lambda found: answered(responses_answer(found), PROVIDER, {}),
        lambda pieces: answered(responses_stream(pieces), PROVIDER, {}),
    )
    embeddings = Recorder(
        collector,
        lambda given: {**_request(given), "extra": {"operation": "embeddings", "input": given.get("input")}},
        lambda found: answered(embeddings_answer(found), PROVIDER, {}),
        lambda _: {},
    )
    chat.wrap(client.chat.completions, "create")
    responses.wrap(client.responses, "create")
    embeddings.wrap(client.embeddings, "create")
    return client


def plain_list(value: Any) -> Any:
    """A list whose entries may be models of pydantic, as the client's own answers are; text as it is."""
    return value if isinstance(value, str) or value is None else [plain(entry) for entry in value]


def _request(given: dict[str, Any]) -> dict[str, Any]:
    """What the arguments of a call tell."""
    given = {name: value for name, value in given.items() if not isinstance(value, (openai.NotGiven, openai.Omit))}
    configuration = {name: plain(value) for name, value in given.items() if name not in _NOT_SETTINGS}
    metadata = given["metadata"] if isinstance(given.get("metadata"), dict) else {}
    fields: dict[str, Any] = {
        "kind": "chat",
        "model_requested": {"provider": PROVIDER, "name": given.get("model"), "configuration": configuration},
        "tools": plain_list(given.get("tools")) or None,
        "user_id": given.get("safety_identifier") or given.get("user"),
        "conversation_id": next((metadata[name] for name in _CONVERSATION if metadata.get(name)), None),
    }
    if metadata:
        fields["extra"] = {"metadata": metadata}
    return {name: value for name, value in fields.items() if value is not None}
