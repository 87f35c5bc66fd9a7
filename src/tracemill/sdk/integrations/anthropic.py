"""Anthropic's client (tested with anthropic 2.11): messages, sync and async, whole, streamed, and by ``messages.stream``.

    client = wrap_anthropic(anthropic.Anthropic(), get_data_collector())

Blocks become OpenAI chat messages: text is content, ``tool_use`` a tool call, ``tool_result`` a tool message, ``thinking``
``reasoning_content``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeVar

import anthropic

from tracemill.sdk.collector import Collector
from tracemill.sdk.integrations.recording import Recorder, note_interaction, plain

Client = TypeVar("Client", anthropic.Anthropic, anthropic.AsyncAnthropic)
PROVIDER = "anthropic"
_SETTINGS = ("max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "tool_choice", "thinking", "service_tier")
_FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


def wrap_anthropic(client: Client, collector: Collector) -> Client:
    """Record every call that a client makes; returns the same client. Wrapping it twice records once."""
    recorder = Recorder(collector, _request, _answer, _stream)
    recorder.wrap(client.messages, "create")
    if not getattr(client.messages.stream, "__tracemill_wrapped__", False):
        _wrap_stream(client, collector, recorder)
    return client


def _wrap_stream(client: Any, collector: Collector, recorder: Recorder) -> None:
    """``messages.stream`` gives a manager whose stream begins when it is entered: that is where reading along begins."""
    made = client.messages.stream

    def stream(*positional: Any, **arguments: Any) -> Any:
        manager = made(*positional, **arguments)
        call = collector.interaction()

        def begin() -> None:
            call.begin()
            note_interaction(call.interaction_id)
            collector.attempt(lambda: call.set(**_request(arguments)), None)

        kind = type(manager)
        if hasattr(kind, "__aenter__"):

            class AsyncManager(kind):  # type: ignore[misc, valid-type]
                async def __aenter__(self) -> Any:
                    begin()
                    try:
                        entered = await super().__aenter__()
                    except BaseException as error:  # told of and passed on
                        call.end(error)
                        raise
                    recorder.follow(call, _raw(entered))
                    return entered

            manager.__class__ = AsyncManager
        else:

            class Manager(kind):  # type: ignore[misc, valid-type]
                def __enter__(self) -> Any:
                    begin()
                    try:
                        entered = super().__enter__()
                    except BaseException as error:  # told of and passed on
                        call.end(error)
                        raise
                    recorder.follow(call, _raw(entered))
                    return entered

            manager.__class__ = Manager
        return manager

    stream.__tracemill_wrapped__ = True  # type: ignore[attr-defined]
    client.messages.stream = stream


def _raw(stream: Any) -> Any:
    """The stream of raw events inside a message stream."""
    return getattr(stream, "_raw_stream", stream)


def _request(given: dict[str, Any]) -> dict[str, Any]:
    left = {
        name: plain(value)
        for name, value in given.items()
        if not isinstance(value, (anthropic.NotGiven, anthropic.Omit))
    }
    metadata = left["metadata"] if isinstance(left.get("metadata"), dict) else {}
    configuration = {name: left[name] for name in _SETTINGS if name in left}
    return {
        "kind": "chat",
        "messages": [*_system(left.get("system")), *_messages(left.get("messages"))],
        "tools": [_tool(tool) for tool in left.get("tools") or ()],
        "model_requested": {"provider": PROVIDER, "name": left.get("model"), "configuration": configuration},
        **({"user_id": metadata["user_id"]} if metadata.get("user_id") else {}),
    }


def _system(system: Any) -> Iterator[dict[str, Any]]:
    if isinstance(system, str):
        yield {"role": "system", "content": system}
    elif system:
        yield {"role": "system", "content": "\n".join(str(block.get("text", "")) for block in system)}


def _messages(messages: Any) -> Iterator[dict[str, Any]]:
    for message in messages or ():
        content = plain(message).get("content")
        if isinstance(content, str):
            yield {"role": message["role"], "content": content}
        else:
            yield from _blocks(message["role"], [plain(block) for block in content or ()])


def _blocks(role: str, blocks: list[Any]) -> Iterator[dict[str, Any]]:
    """The chat messages of a list of blocks: tool results first, each its own, as they answer the message before."""
    parts: list[Any] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for block in blocks:
        match block.get("type"):
            case "tool_result":
                yield {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": _text(block.get("content"))}
            case "tool_use":
                function = {"name": block.get("name"), "arguments": json.dumps(block.get("input"), ensure_ascii=False)}
                calls.append({"id": block.get("id"), "type": "function", "function": function})
            case "thinking":
                thoughts.append(str(block.get("thinking", "")))
            case "text":
                parts.append({"type": "text", "text": block.get("text", "")})
            case _:
                parts.append(block)
    if not (parts or calls or thoughts):
        return
    found: dict[str, Any] = {"role": role, "content": _text(parts) if parts else None}
    if calls:
        found["tool_calls"] = calls
    if thoughts:
        found["reasoning_content"] = "\n".join(thoughts)
    yield found


def _text(content: Any) -> Any:
    """Blocks that are all text as one text; others as they are."""
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        return "".join(str(part.get("text", "")) for part in content)
    return content


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if "input_schema" not in tool:
        return tool
    function = {"name": tool.get("name"), "parameters": tool["input_schema"]}
    if tool.get("description"):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _answer(message: dict[str, Any]) -> dict[str, Any]:
    usage = message["usage"] if isinstance(message.get("usage"), dict) else {}
    reason = message.get("stop_reason")
    fields: dict[str, Any] = {
        "response": next(_blocks("assistant", message.get("content") or []), None),
        "response_id": message.get("id"),
        "finish_reason": _FINISH.get(str(reason), reason),
        "usage": usage,
        "input_tokens": usage.get("input_tokens"),
        "output_tokens": usage.get("output_tokens"),
    }
    if message.get("model"):
        fields["model"] = {"provider": PROVIDER, "name": message["model"]}
    return {name: value for name, value in fields.items() if value is not None}


def _stream(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a stream's events build."""
    message: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    inputs: dict[int, str] = {}
    for event in events:
        index = event.get("index", 0)
        match event.get("type"):
            case "message_start":
                message = dict(event["message"])
            case "content_block_start":
                blocks[index] = dict(event["content_block"])
            case "content_block_delta":
                _add(blocks.setdefault(index, {"type": "text"}), event["delta"], inputs, index)
            case "message_delta":
                message.update({name: value for name, value in event["delta"].items() if value is not None})
                message["usage"] = {**message.get("usage", {}), **(event.get("usage") or {})}
    for index, text in inputs.items():
        blocks[index]["input"] = _parsed(text)
    message["content"] = [blocks[index] for index in sorted(blocks)]
    return _answer(message)


def _add(block: dict[str, Any], delta: dict[str, Any], inputs: dict[int, str], index: int) -> None:
    match delta.get("type"):
        case "text_delta":
            block["text"] = block.get("text", "") + delta.get("text", "")
        case "thinking_delta":
            block["thinking"] = block.get("thinking", "") + delta.get("thinking", "")
        case "input_json_delta":
            inputs[index] = inputs.get(index, "") + delta.get("partial_json", "")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return text  # cut off in the middle, or nested deeper than can be read
