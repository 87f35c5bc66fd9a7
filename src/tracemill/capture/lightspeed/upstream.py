"""Asking the model: an OpenAI-compatible chat completions API, at once or streamed, and what its errors mean here.

Needs aiohttp, which the extra ``tracemill[server]`` installs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from tracemill.capture.lightspeed.redact import redact
from tracemill.capture.lightspeed.turns import Answer
from tracemill.core.errors import TracemillError
from tracemill.core.messages import text
from tracemill.core.records import Failure, Message

MOST_BYTES = 64 * 1024 * 1024
"""An answer that is larger is given up: no model writes so much, and a broken server may never end."""
_MOST_ERROR_BYTES = 64 * 1024
_MOST_LINE_BYTES = 4 * 1024 * 1024
_MOST_TOOL_CALLS = 128
_FAILED = "Error while processing query"


@dataclass(frozen=True, slots=True)
class Target:
    """Where the model is. ``url`` is the API's with its ``/v1``."""

    url: str
    api_key: str
    provider: str
    model: str

    @property
    def name(self) -> str:
        """Provider and model in one, as messages name it."""
        return f"{self.provider}/{self.model}"


class ModelError(TracemillError):
    """The model did not answer. ``status`` and ``message`` are for the client, ``hint`` is Lightspeed's ``cause``.

    ``failure`` is what the API said, for the record; it is not told to the client.
    """

    def __init__(
        self, status: int, response: str, cause: str, failure: Failure, *, retry_after: str | None = None
    ) -> None:
        super().__init__(response, hint=cause)
        self.status = status
        self.failure = failure
        self.retry_after = retry_after


async def ask(client: aiohttp.ClientSession, target: Target, messages: Sequence[Message]) -> Answer:
    """The whole answer. Raises ModelError."""
    answer = Answer()
    try:
        async with _call(client, target, {"messages": messages}) as response:
            body = await _read(response, MOST_BYTES if response.status == 200 else _MOST_ERROR_BYTES)
            if response.status != 200:
                raise _refused(target, response, body)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _unreachable(target, error) from error
    _take_whole(answer, _object(body, target), target)
    return answer


async def stream(
    client: aiohttp.ClientSession, target: Target, messages: Sequence[Message], answer: Answer
) -> AsyncGenerator[str, None]:
    """The pieces of the answer's text as they come; everything is also put into ``answer``.

    Raises ModelError, also in the middle: what came before it stays in ``answer``.
    """
    options = {"messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    places: dict[int, int] = {}
    ended = False
    try:
        async with _call(client, target, options) as response:
            if response.status != 200:
                raise _refused(target, response, await _read(response, _MOST_ERROR_BYTES))
            async with aclosing(_events(response, target)) as events:
                async for data in events:
                    if data == b"[DONE]":
                        ended = True
                        break
                    if piece := _take_chunk(answer, places, _object(data, target), target):
                        yield piece
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _unreachable(target, error) from error
    if not ended and answer.finish_reason is None:
        failure = Failure(type="stream_ended_early", message="the stream ended before the answer did")
        raise ModelError(500, _FAILED, "The model's answer ended before it was complete.", failure)


def wrong_end(answer: Answer, target: Target) -> ModelError | None:
    """The error that the reason an answer ended for stands for; None where it ended well."""
    if answer.finish_reason == "length":
        return _too_long(target, Failure(type="length", message="the answer was cut off at the token limit"))
    if answer.finish_reason == "content_filter":
        cause = "The model refused to generate a response due to content policy."
        return ModelError(500, _FAILED, cause, Failure(type="content_filter", message="a content filter held it back"))
    return None


def _call(
    client: aiohttp.ClientSession, target: Target, options: Mapping[str, Any]
) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    if target.api_key:
        headers["Authorization"] = f"Bearer {target.api_key}"
    content = msgspec.json.encode({"model": target.model, **options})
    address = f"{target.url.rstrip('/')}/chat/completions"
    return client.post(address, data=content, headers=headers, allow_redirects=False)


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            break
    return b"".join(chunks)[:most]


async def _events(response: aiohttp.ClientResponse, target: Target) -> AsyncGenerator[bytes, None]:
    """The data of server-sent events. Lines end at line feeds only: JSON may hold every other line separator as it is."""
    rest, size = b"", 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MOST_BYTES:
            raise _unusable(target, "the answer is too large")
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _MOST_LINE_BYTES:
            raise _unusable(target, "a line of the answer is too long")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
    if rest.startswith(b"data:"):
        yield rest[5:].strip()


def _object(body: bytes, target: Target) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        value = None
    if not isinstance(value, dict):
        raise _unusable(target, "the answer is no JSON object")
    return value


def _take_whole(answer: Answer, body: dict[str, Any], target: Target) -> None:
    message = _choice(answer, body).get("message")
    if not isinstance(message, dict):
        raise _said(target, body) if "error" in body else _unusable(target, "the answer holds no message")
    if content := text(message):
        answer.parts.append(content)
    _take_aside(answer, message)
    calls = message.get("tool_calls")
    answer.tool_calls += [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def _take_chunk(answer: Answer, places: dict[int, int], body: dict[str, Any], target: Target) -> str:
    if body.get("error"):
        raise _said(target, body)
    delta = _choice(answer, body).get("delta")
    if not isinstance(delta, dict):
        return ""
    _take_aside(answer, delta)
    calls = delta.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            _merge(answer, places, call)
    piece = delta.get("content")
    if not isinstance(piece, str) or not piece:
        return ""
    answer.parts.append(piece)
    return piece


def _choice(answer: Answer, body: dict[str, Any]) -> dict[str, Any]:
    """The first choice of an answer or chunk, after taking what stands around it."""
    for name, key in (("response_id", "id"), ("model", "model")):
        if isinstance(value := body.get(key), str) and value:
            setattr(answer, name, value)
    if isinstance(usage := body.get("usage"), dict):
        answer.usage = usage
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    if not isinstance(choice, dict):
        return {}
    if isinstance(reason := choice.get("finish_reason"), str):
        answer.finish_reason = reason
    return choice


def _take_aside(answer: Answer, message: dict[str, Any]) -> None:
    """Reasoning (under the names servers give it) and refusals."""
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str):
        answer.reasoning.append(thought)
    if isinstance(refusal := message.get("refusal"), str):
        answer.refusal = (answer.refusal or "") + refusal


def _merge(answer: Answer, places: dict[int, int], piece: dict[str, Any]) -> None:
    """Put a piece of a tool call to the call it belongs to, by ``index``."""
    index = piece.get("index")
    number = index if isinstance(index, int) else len(answer.tool_calls)
    function = piece.get("function") if isinstance(piece.get("function"), dict) else {}
    assert isinstance(function, dict)
    if number not in places:
        if len(answer.tool_calls) >= _MOST_TOOL_CALLS:
            return
        places[number] = len(answer.tool_calls)
        answer.tool_calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
    call = answer.tool_calls[places[number]]
    if isinstance(piece.get("id"), str):
        call["id"] = piece["id"]
    for name in ("name", "arguments"):
        if isinstance(function.get(name), str):
            call["function"][name] += function[name]


def _refused(target: Target, response: aiohttp.ClientResponse, body: bytes) -> ModelError:
    try:
        content = _object(body, target)
    except ModelError:
        content = {}
    failure = _failure(content, default=f"http_{response.status}")
    return _meaning(target, response.status, failure, response.headers.get("retry-after"))


def _said(target: Target, body: dict[str, Any]) -> ModelError:
    """An error inside an answer that began well."""
    return _meaning(target, 200, _failure(body, default="error"), None)


def _failure(body: dict[str, Any], *, default: str) -> Failure:
    found = body.get("error", body)
    error: dict[str, Any] = found if isinstance(found, dict) else {"message": found}
    kind = error.get("code") or error.get("type") or default
    return Failure(type=str(kind)[:200], message=redact(str(error.get("message") or "")[:4000]))


def _meaning(target: Target, status: int, failure: Failure, retry_after: str | None) -> ModelError:
    """What an error of the API is to a Lightspeed client: 413, 429, 404, and 500 for everything else."""
    words = f"{failure.type} {failure.message}".lower()
    if "context_length" in words or "context length" in words:
        return _too_long(target, failure)
    if status == 429 or "resource_exhausted" in words:
        cause = f"The token quota for model {target.name} has been exceeded."
        wait = retry_after if retry_after and retry_after.isdecimal() and len(retry_after) < 7 else None
        return ModelError(429, "The model quota has been exceeded", cause, failure, retry_after=wait)
    if status == 404 and "model" in words:
        return ModelError(404, "Model not found", f"Model with ID {target.name} does not exist", failure)
    cause = "An unexpected error occurred while processing the request."
    return ModelError(500, "Internal server error", cause, failure)


def _too_long(target: Target, failure: Failure) -> ModelError:
    cause = f"The input exceeds the context window size of model '{target.name}'."
    return ModelError(413, "Prompt is too long", cause, failure)


def _unreachable(target: Target, error: Exception) -> ModelError:
    late = isinstance(error, TimeoutError)
    cause = "The model did not answer in time." if late else "Connection error while trying to reach the model."
    failure = Failure(type=type(error).__name__, message=str(error))
    return ModelError(503, f"Unable to connect to {target.provider}", cause, failure)


def _unusable(target: Target, why: str) -> ModelError:
    failure = Failure(type="unusable_answer", message=f"{target.name}: {why}")
    return ModelError(500, _FAILED, "The model gave an answer that cannot be used.", failure)
