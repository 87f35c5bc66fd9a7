"""A model server of the tests' own: OpenAI's and Anthropic's HTTP interfaces on the loopback address, streams included.

It answers by what it is asked: "weather" with a tool call (where tools are given), "error 429" and "error 500" with that
error, "slow" with pauses between the pieces of a stream, anything else with a sentence that repeats the question.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

MODEL = "fake-model-2026"
PAUSE = 0.05


class FakeModel:
    """Use as a context manager; ``url`` has no slash at its end, ``requests`` is every request it saw."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.reply: Callable[[dict[str, Any]], str | int] | None = None
        """What chat completions answer instead: a text, or an error's status."""
        self.gone = threading.Event()
        """Set when a client went away while it was being answered."""
        owner = self

        class Handler(_Handler):
            model = owner

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    model: FakeModel
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def do_GET(self) -> None:
        """Models."""
        self._note(None)
        entry = {"id": MODEL, "object": "model", "created": 1, "owned_by": "tests"}
        if self.path == "/v1/models":
            self._json({"object": "list", "data": [entry]})
        elif self.path == f"/v1/models/{MODEL}":
            self._json(entry)
        else:
            self._error(404, "not found")

    def do_POST(self) -> None:
        """Calls."""
        try:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        except ValueError:
            self._note(None)
            self._error(400, "this is no JSON")
            return
        self._note(body)
        text = _question(body)
        if self.model.reply is not None and self.path == "/v1/chat/completions":
            self._reply(self.model.reply(body))
            return
        if failing := re.search(r"error (\d+)", text):
            self._error(int(failing[1]), "as asked for")
            return
        answers = {
            "/v1/chat/completions": _chat,
            "/v1/responses": _responses,
            "/v1/messages": _anthropic,
        }
        if self.path == "/v1/embeddings":
            asked = body["input"] if isinstance(body["input"], list) else [body["input"]]
            data = [{"object": "embedding", "index": i, "embedding": [0.1, 0.2]} for i in range(len(asked))]
            self._json(
                {"object": "list", "data": data, "model": MODEL, "usage": {"prompt_tokens": 3, "total_tokens": 3}}
            )
        elif self.path in answers:
            found = answers[self.path](body, text)
            if isinstance(found, dict):
                self._json(found)
            else:
                self._stream(found, PAUSE if "slow" in text else 0)
        else:
            self._error(404, "not found")

    def _reply(self, reply: str | int) -> None:
        if isinstance(reply, int):
            self._error(reply, "as asked for")
            return
        message = {"role": "assistant", "content": reply}
        self._json(
            {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        )

    def _note(self, body: Any) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.model.requests.append({"method": self.command, "path": self.path, "headers": headers, "body": body})

    def _json(self, value: Any, status: int = 200, **headers: str) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"content-type": "application/json", "x-request-id": "req_fake", **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _error(self, status: int, message: str) -> None:
        error = {"message": message, "type": "fake_error", "param": None, "code": f"fake_{status}"}
        self._json({"error": error}, status, **({"retry_after": "7"} if status == 429 else {}))

    def _stream(self, pieces: Iterator[bytes], pause: float) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for piece in pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
                time.sleep(pause)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.model.gone.set()
            self.close_connection = True


def _question(body: dict[str, Any]) -> str:
    """The last thing a person said."""
    asked = body.get("messages") or body.get("input") or ""
    if isinstance(asked, list):
        said = [entry for entry in asked if isinstance(entry, dict) and entry.get("role") == "user"]
        asked = said[-1].get("content", "") if said else ""
    if isinstance(asked, list):
        asked = " ".join(str(part.get("text", "")) for part in asked if isinstance(part, dict))
    return str(asked)


def _wants_tool(body: dict[str, Any], text: str) -> bool:
    entries = body.get("messages") or body.get("input") or []
    last = entries[-1] if isinstance(entries, list) and entries else {}
    answered = last.get("role") == "tool" or last.get("type") == "function_call_output"
    content = last.get("content")
    answered = answered or (isinstance(content, list) and any(part.get("type") == "tool_result" for part in content))
    return bool(body.get("tools")) and "weather" in text and not answered


def _events(*entries: Any) -> Iterator[bytes]:
    for entry in entries:
        name = f"event: {entry['type']}\n" if isinstance(entry, dict) and "type" in entry else ""
        yield f"{name}data: {entry if isinstance(entry, str) else json.dumps(entry)}\n\n".encode()


def _chat(body: dict[str, Any], text: str) -> Any:
    words = f"You said: {text}".split(" ")
    usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
    tool = _wants_tool(body, text)
    reason = "tool_calls" if tool else "stop"
    base = {"id": "chatcmpl-1", "created": 1, "model": MODEL}
    if not body.get("stream"):
        message = {"role": "assistant", "content": None if tool else " ".join(words), "refusal": None}
        if tool:
            message["tool_calls"] = [call]  # type: ignore[assignment]
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        return {**base, "object": "chat.completion", "choices": [choice], "usage": usage}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return {**base, "object": "chat.completion.chunk", "choices": choices}

    pieces: list[Any] = [chunk({"role": "assistant", "content": None if tool else ""})]
    if tool:
        first = {**call, "index": 0, "function": {"name": "get_weather", "arguments": ""}}
        pieces.append(chunk({"tool_calls": [first]}))
        pieces += [
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}) for part in ('{"city":', ' "Oslo"}')
        ]
    else:
        pieces += [chunk({"content": word if number == 0 else f" {word}"}) for number, word in enumerate(words)]
    pieces.append(chunk({}, reason))
    if (body.get("stream_options") or {}).get("include_usage"):
        pieces.append({**base, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    return _events(*pieces, "[DONE]")


def _responses(body: dict[str, Any], text: str) -> Any:
    answer = f"You said: {text}"
    if _wants_tool(body, text):
        output: list[dict[str, Any]] = [
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_weather",
             "arguments": '{"city": "Oslo"}', "status": "completed"}
        ]  # fmt: skip
    else:
        content = [{"type": "output_text", "text": answer, "annotations": []}]
        output = [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}]
    whole = {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": MODEL, "output": output,
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": body.get("tools", []), "error": None,
        "incomplete_details": None, "instructions": None, "metadata": {}, "temperature": 1.0, "top_p": 1.0,
        "usage": {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16,
                  "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}},
    }  # fmt: skip
    if not body.get("stream"):
        return whole
    created = {
        "type": "response.created",
        "sequence_number": 0,
        "response": {**whole, "status": "in_progress", "output": []},
    }
    deltas = [
        {"type": "response.output_text.delta", "sequence_number": number, "item_id": "msg_1", "output_index": 0,
         "content_index": 0, "delta": word, "logprobs": []}
        for number, word in enumerate(re.findall(r"\S+\s*", answer), 1)
    ]  # fmt: skip
    done = {"type": "response.completed", "sequence_number": len(deltas) + 1, "response": whole}
    return _events(created, *deltas, done)


def _anthropic(body: dict[str, Any], text: str) -> Any:
    answer = f"You said: {text}"
    tool = _wants_tool(body, text)
    block: dict[str, Any] = {"type": "text", "text": answer}
    if tool:
        block = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}}
    whole = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [block],
        "stop_reason": "tool_use" if tool else "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 5},
    }  # fmt: skip
    if not body.get("stream"):
        return whole
    start = {**whole, "content": [], "stop_reason": None, "usage": {"input_tokens": 11, "output_tokens": 1}}
    empty = {**block, "input": {}} if tool else {"type": "text", "text": ""}
    if tool:
        deltas: list[dict[str, Any]] = [
            {"type": "input_json_delta", "partial_json": part} for part in ('{"city":', '"Oslo"}')
        ]
    else:
        deltas = [{"type": "text_delta", "text": word} for word in re.findall(r"\S+\s*", answer)]
    return _events(
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None},
         "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    )  # fmt: skip
