"""Lightspeed's routes over real HTTP, with a model server behind them."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fake_model import MODEL, FakeModel
from tests.server.conftest import Serve, Served
from tests.server.test_process import Start, start
from tracemill.capture.lightspeed.files import read_file
from tracemill.capture.lightspeed.turns import INTERRUPTED
from tracemill.core.records import Feedback, Interaction
from tracemill.feedback.attach import attach
from tracemill.workspace import Workspace

__all__ = ["start"]

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 16).decode()
LOG = {"attachment_type": "log", "content_type": "text/plain", "content": "disk full, mail ops@example.org"}
IMAGE = {"attachment_type": "image", "content_type": "image/png", "content": PNG}
UNKNOWN = "123e4567-e89b-12d3-a456-426614174000"


@pytest.fixture
def ready(serve: Serve, fake_model: FakeModel, tmp_path: Path) -> Callable[..., Served]:
    """Starts a server in front of the model that writes transcripts and feedback."""

    def start(**arguments: Any) -> Served:
        collection = {
            "feedback_enabled": True,
            "feedback_storage": str(tmp_path / "feedback"),
            "transcripts_enabled": True,
            "transcripts_storage": str(tmp_path / "transcripts"),
            "data_collector": {"enabled": False, "collection_interval": 7200},
        }
        settings = {
            "upstream_url": f"{fake_model.url}/v1",
            "upstream_api_key": "upstream-secret",
            "upstream_model": MODEL,
            "user_data_collection": collection,
        }
        return serve(**{**settings, **arguments})

    return start


Script = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def scripted() -> Iterator[Callable[[Script], str]]:
    """Starts model servers that answer every call with what a test wants; gives their URLs, which end in /v1."""
    running: list[ThreadingHTTPServer] = []

    def start(answer: Script) -> str:
        running.append(scripted_server(answer))
        return f"http://127.0.0.1:{running[-1].server_port}/v1"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def scripted_server(answer: Script) -> ThreadingHTTPServer:
    """A server on a free port that reads a call and then lets a script answer it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

        def do_POST(self) -> None:
            """Read the call, then answer."""
            self.rfile.read(int(self.headers["content-length"]))
            answer(self)
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def events(body: str) -> list[dict[str, Any]]:
    """The frames of a stream; each is one data line and an empty line."""
    assert body.endswith("\n\n")
    frames = body[:-2].split("\n\n")
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [json.loads(frame[6:]) for frame in frames]


def interactions(served: Served) -> list[Interaction]:
    found = served.records("interaction")
    assert all(isinstance(record, Interaction) for record in found)
    return [record for record in found if isinstance(record, Interaction)]


def only_json(folder: Path) -> list[Path]:
    """The JSON files under a folder, which are all files there are."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert all(path.suffix == ".json" for path in files)
    return files


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_a_question_is_answered_recorded_and_written(
    ready: Callable[..., Served], fake_model: FakeModel, tmp_path: Path, prefix: str
) -> None:
    served = ready()
    body = {"query": "Who reads ada@example.org?", "attachments": [LOG, IMAGE], "system_prompt": "Be brief."}
    reply = served.client().post(f"{prefix}/query", json=body, headers={"x-user-id": "ada"})
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    asked = f"Who reads ada@example.org?\n\n[Attachment: log]\n{LOG['content']}"
    assert answer == {
        "conversation_id": answer["conversation_id"],
        "response": f"You said: {asked} ",  # the model here puts a space before each part of a message
        "rag_chunks": [],
        "referenced_documents": [],
        "truncated": False,
        "input_tokens": 11,
        "output_tokens": 5,
        "available_quotas": {},
        "tool_calls": [],
        "tool_results": [],
    }
    sent = fake_model.requests[-1]
    assert sent["headers"]["authorization"] == "Bearer upstream-secret"
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    assert sent["body"] == {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": asked}, image]},
        ],
    }

    [record] = interactions(served)
    assert record.id == reply.headers["x-tracemill-interaction-id"]
    assert (record.kind, record.turn, record.completion_status, record.success) == ("query", 1, "successful", True)
    assert record.conversation_id == answer["conversation_id"]
    assert record.user == served.context.pseudonymizer.user("ada")
    assert record.messages == sent["body"]["messages"]
    assert record.response == {"role": "assistant", "content": answer["response"]}
    assert record.attachments == [LOG, IMAGE]
    assert (record.input_tokens, record.output_tokens, record.finish_reason) == (11, 5, "stop")
    assert (record.query_is_valid, record.truncated, record.retrieved_chunks) == (True, False, [])
    assert record.model is not None
    assert (record.model.provider, record.model.name) == ("openai", MODEL)

    [file] = only_json(tmp_path / "transcripts")
    assert record.user is not None
    inside = file.relative_to(tmp_path / "transcripts")
    assert inside.parts == (record.user.pseudonym, record.conversation_id, f"{record.id}.json")
    written = json.loads(file.read_bytes())
    assert list(written) == [
        "metadata", "redacted_query", "query_is_valid", "llm_response", "rag_chunks", "truncated", "attachments",
        "tool_calls", "tool_results",
    ]  # fmt: skip
    assert written["redacted_query"] == "Who reads [EMAIL]?"
    assert written["attachments"] == [{**LOG, "content": "disk full, mail [EMAIL]"}, IMAGE]
    assert "ada@" not in file.read_text()
    assert "example.org" not in file.read_text()
    back = read_file(file.read_bytes(), file.name, user=served.context.pseudonymizer.user, platform="default")
    assert isinstance(back, Interaction)
    assert (back.conversation_id, back.attachments, back.time) == (
        record.conversation_id,
        written["attachments"],
        record.time,
    )


def test_a_conversation_goes_on_in_either_form_of_its_id(ready: Callable[..., Served], fake_model: FakeModel) -> None:
    client = ready().client()
    first = client.post("/query", json={"query": "one"}).json()
    conversation = first["conversation_id"]
    second = client.post("/query", json={"query": "two", "conversation_id": f"{conversation}"}).json()
    assert second["conversation_id"] == conversation
    assert fake_model.requests[-1]["body"]["messages"] == [
        {"role": "system", "content": "You are a helpful assistant"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "You said: one"},
        {"role": "user", "content": "two"},
    ]


def test_others_conversations_stay_theirs(ready: Callable[..., Served], fake_model: FakeModel) -> None:
    served = ready()
    ada, bob = {"x-user-id": "ada"}, {"x-user-id": "bob"}
    client = served.client()
    mine = client.post("/query", json={"query": "mine"}, headers=ada).json()["conversation_id"]
    seen = len(fake_model.requests)
    for path in ("/query", "/streaming_query"):
        refused = client.post(path, json={"query": "what was said?", "conversation_id": mine}, headers=bob)
        assert refused.status_code == 403
        assert set(refused.json()["detail"]) == {"response", "cause"}
        missing = client.post(path, json={"query": "what was said?", "conversation_id": UNKNOWN}, headers=bob)
        assert (missing.status_code, missing.json()["detail"]["response"]) == (404, "Conversation not found")
    opinion = {"user_question": "mine", "llm_response": "You said: mine", "sentiment": 1}
    refused = client.post("/feedback", json={**opinion, "conversation_id": mine}, headers=bob)
    assert refused.status_code == 403
    assert client.post("/feedback", json={**opinion, "conversation_id": UNKNOWN}).status_code == 404
    assert len(fake_model.requests) == seen
    assert served.records("feedback") == []


def test_who_asks_is_the_keys_person_before_any_header(ready: Callable[..., Served]) -> None:
    served = ready()
    person = served.context.pseudonymizer.user
    own = served.client(served.key("user", user="ada", project="shop"))
    own.post("/query", json={"query": "one"}, headers={"x-user-id": "bob"})
    program = served.client(served.key("ingest"))
    program.post("/query?user_id=bob", json={"query": "two"})
    program.post("/query", json={"query": "three"})
    assert program.post("/query?user_id=", json={"query": "four"}).status_code == 400
    assert served.client(served.key("user")).post("/query", json={"query": "five"}).status_code == 403
    assert [record.user for record in interactions(served)] == [
        person("ada"),
        person("bob"),
        person("00000000-0000-0000-0000-000"),
    ]
    assert [record.platform for record in interactions(served)] == ["shop", "default", "default"]


BAD_QUESTIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "query"),
    ({"query": "a", "mood": "good"}, "mood"),
    ({"query": 1}, "query"),
    ({"query": "a", "conversation_id": "../../etc/passwd"}, "conversation ID"),
    ({"query": "a", "conversation_id": "conv_" + "0" * 47}, "conversation ID"),
    ({"query": "a", "model": "m"}, "provider"),
    ({"query": "a", "provider": "openai"}, "model"),
    ({"query": "a", "media_type": "text/html"}, "media_type"),
    ({"query": "a", "solr": {"mode": "fuzzy"}}, "mode"),
    ({"query": "a", "attachments": [{**LOG, "attachment_type": "poem"}]}, "attachment type"),
    ({"query": "a", "attachments": [{**LOG, "content_type": "text/html"}]}, "content type"),
    ({"query": "a", "attachments": [{**LOG, "name": "x"}]}, "name"),
    ({"query": "a", "attachments": [{**IMAGE, "attachment_type": "log"}]}, "inconsistent"),
    ({"query": "a", "attachments": [{**IMAGE, "content_type": "image/jpeg"}]}, "does not match"),
    ({"query": "a", "attachments": [{**IMAGE, "content": "not base64!"}]}, "base64"),
]


def test_what_is_no_question_is_refused(ready: Callable[..., Served], fake_model: FakeModel) -> None:
    served = ready()
    client = served.client()
    for body, says in BAD_QUESTIONS:
        for path in ("/query", "/streaming_query"):
            reply = client.post(path, json=body)
            assert reply.status_code == 422, body
            assert reply.json()["detail"]["response"] == "Invalid attribute value"
            assert says in reply.json()["detail"]["cause"]
    assert fake_model.requests == []
    assert interactions(served) == []


def test_models_and_shields_that_are_not_here_are_not_found(ready: Callable[..., Served]) -> None:
    served = ready(upstream_model="")
    client = served.client()
    for more, what in (
        ({"provider": "watsonx", "model": "m"}, "Provider"),
        ({"shield_ids": ["pii"]}, "Shield"),
        ({}, "Model"),
    ):
        reply = client.post("/query", json={"query": "a", **more})
        assert (reply.status_code, reply.json()["detail"]["response"]) == (404, f"{what} not found")
    named = client.post("/query", json={"query": "a", "provider": "openai", "model": "other"})
    assert named.status_code == 200
    [record] = interactions(served)
    assert record.model_requested is not None
    assert record.model_requested.name == "other"


def test_a_stream_has_the_services_frames(ready: Callable[..., Served], tmp_path: Path) -> None:
    served = ready()
    reply = served.client().post("/v1/streaming_query", json={"query": "hello there", "attachments": [LOG]})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    [record] = interactions(served)
    said = f"You said: hello there\n\n[Attachment: log]\n{LOG['content']}"
    frames = events(reply.text)
    tokens = [frame["data"]["token"] for frame in frames if frame["event"] == "token"]
    assert "".join(tokens) == said
    assert frames == [
        {"event": "start", "data": {"conversation_id": record.conversation_id, "request_id": record.id}},
        *({"event": "token", "data": {"id": number, "token": token}} for number, token in enumerate(tokens)),
        {"event": "turn_complete", "data": {"id": len(tokens), "token": said}},
        {
            "event": "end",
            "data": {"referenced_documents": [], "truncated": None, "input_tokens": 11, "output_tokens": 5},
            "available_quotas": {},
        },
    ]
    assert record.attachments == [LOG]
    assert record.response == {"role": "assistant", "content": said}
    assert (record.input_tokens, record.completion_status) == (11, "successful")
    [file] = only_json(tmp_path / "transcripts")
    assert json.loads(file.read_bytes())["attachments"][0]["attachment_type"] == "log"


def test_a_stream_as_text_is_the_bare_answer(ready: Callable[..., Served]) -> None:
    body = {"query": "hello", "media_type": "text/plain"}
    client = ready().client()
    reply = client.post("/streaming_query", json=body)
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.text == "You said: hello"
    failed = client.post("/streaming_query", json={**body, "query": "error 429"})
    assert failed.text.startswith("Status: 429 - The model quota has been exceeded - ")


def test_the_models_errors_are_lightspeeds(ready: Callable[..., Served]) -> None:
    served = ready()
    client = served.client()
    for question, status, response in (
        ("error 429", 429, "The model quota has been exceeded"),
        ("error 500", 500, "Internal server error"),
        ("error 401", 500, "Internal server error"),
    ):
        reply = client.post("/query", json={"query": question})
        assert (reply.status_code, reply.json()["detail"]["response"]) == (status, response)
        assert reply.headers.get("retry-after") == ("7" if status == 429 else None)
        frames = events(client.post("/streaming_query", json={"query": question}).text)
        assert [frame["event"] for frame in frames] == ["start", "error"]
        assert frames[1]["data"] == {"status_code": status, **reply.json()["detail"]}
        for record in interactions(served)[-2:]:
            assert (record.success, record.completion_status, record.response) == (False, "failed", None)
            assert record.error is not None
            assert (record.error.type, record.error.message) == (f"fake_{question[-3:]}", "as asked for")


def test_a_model_that_is_not_there_or_never_answers(serve: Serve, scripted: Callable[[Script], str]) -> None:
    asked = threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        del handler
        asked.set()
        time.sleep(3)

    url = scripted(hang)
    cases: list[dict[str, Any]] = [
        {"upstream_url": "http://127.0.0.1:9/v1"},
        {"upstream_url": url, "upstream_timeout_seconds": 0.2},
    ]
    for number, settings in enumerate(cases):
        served = serve(f"w{number}", upstream_model="m", **settings)
        reply = served.client().post("/query", json={"query": "a"})
        assert (reply.status_code, reply.json()["detail"]["response"]) == (503, "Unable to connect to openai")
        last = events(served.client().post("/streaming_query", json={"query": "a"}).text)[-1]
        assert (last["event"], last["data"]["status_code"]) == ("error", 503)
        assert [record.completion_status for record in interactions(served)] == ["failed", "failed"]
    assert asked.is_set()
    nothing = serve("w-none").client().post("/query", json={"query": "a"})
    assert (nothing.status_code, nothing.json()["error"]["type"]) == (503, "not_configured")


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    value = {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def answering(*pieces: bytes) -> Script:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("connection", "close")
        handler.end_headers()
        for piece in pieces:
            handler.wfile.write(piece)
            handler.wfile.flush()

    return answer


CALLED = [
    chunk({"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "get_pods", "arguments": ""}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"namespace":'}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": ' "web"}'}}]}),
    chunk({"tool_calls": [{"index": 1, "id": "call_2", "function": {"name": "now", "arguments": "oops"}}]}),
    chunk({}, "tool_calls"),
    b"data: [DONE]\n\n",
]


def test_calls_of_tools_are_reported(serve: Serve, scripted: Callable[[Script], str]) -> None:
    url = scripted(answering(*CALLED))
    served = serve(upstream_url=url, upstream_model="m")
    frames = events(served.client().post("/streaming_query", json={"query": "pods?"}).text)
    assert [frame["event"] for frame in frames] == ["start", "tool_call", "tool_call", "turn_complete", "end"]
    calls = [
        {"id": "call_1", "name": "get_pods", "args": {"namespace": "web"}, "type": "tool_call"},
        {"id": "call_2", "name": "now", "args": {"arguments": "oops"}, "type": "tool_call"},
    ]
    assert [frame["data"] for frame in frames[1:3]] == calls
    [record] = interactions(served)
    assert (record.tools_used, record.tool_call_count) == (["get_pods", "now"], 2)
    assert record.response is not None
    assert record.response["content"] is None
    assert record.response["tool_calls"][0]["function"] == {"name": "get_pods", "arguments": '{"namespace": "web"}'}
    text = served.client().post("/streaming_query", json={"query": "pods?", "media_type": "text/plain"}).text
    assert text == "[Tool Call: get_pods]\n[Tool Call: now]\n"


@pytest.mark.parametrize(
    ("pieces", "kinds", "status", "kept"),
    [
        pytest.param([chunk({"content": "half"})], ["token", "error"], "partial", "half", id="cut off"),
        pytest.param(
            [chunk({"content": "half"}), b'data: {"error": {"message": "boom", "code": "overloaded"}}\n\n'],
            ["token", "error"], "partial", "half", id="an error inside",
        ),
        pytest.param([b"data: nonsense\n\n"], ["error"], "failed", None, id="no JSON"),
        pytest.param(
            [chunk({"content": "so"}), chunk({}, "length"), b"data: [DONE]\n\n"],
            ["token", "turn_complete", "error", "end"], "partial", "so", id="the token limit",
        ),
        pytest.param(
            [chunk({}, "content_filter"), b"data: [DONE]\n\n"],
            ["turn_complete", "error", "end"], "failed", None, id="a content filter",
        ),
        pytest.param(
            [chunk({"content": "a\u2028b"}, "stop").rstrip(b"\n")], ["token", "turn_complete", "end"], "successful",
            "a\u2028b", id="a line separator inside, no line end",
        ),
    ],
)  # fmt: skip
def test_streams_that_end_otherwise(
    serve: Serve,
    scripted: Callable[[Script], str],
    pieces: list[bytes],
    kinds: list[str],
    status: str,
    kept: str | None,
) -> None:
    url = scripted(answering(*pieces))
    served = serve(upstream_url=url, upstream_model="m")
    frames = events(served.client().post("/streaming_query", json={"query": "q"}).text)
    assert [frame["event"] for frame in frames] == ["start", *kinds]
    [record] = interactions(served)
    assert record.completion_status == status
    assert record.response == (None if kept is None else {"role": "assistant", "content": kept})


def reading(client: httpx.Client, body: dict[str, Any], **arguments: Any) -> Any:
    return client.stream("POST", "/streaming_query", json=body, **arguments)


LONG = "slow " + "word " * 200


def test_a_stream_can_be_stopped_by_its_reader_only(
    ready: Callable[..., Served], fake_model: FakeModel, tmp_path: Path
) -> None:
    served = ready()
    client, other = served.client(), served.client()
    frames: list[dict[str, Any]] = []
    with reading(client, {"query": LONG, "attachments": [LOG]}, headers={"x-user-id": "ada"}) as reply:
        for line in reply.iter_lines():
            if not line:
                continue
            frames.append(json.loads(line[6:]))
            if len(frames) != 3:
                continue
            stop = {"request_id": frames[0]["data"]["request_id"]}
            refused = other.post("/streaming_query/interrupt", json=stop, headers={"x-user-id": "bob"})
            assert (refused.status_code, refused.json()["error"]["type"]) == (403, "not_your_stream")
            stopped = other.post("/v1/streaming_query/interrupt", json=stop, headers={"x-user-id": "ada"})
            assert stopped.json() == {**stop, "interrupted": True, "message": "Streaming request interrupted"}
    assert [frame["event"] for frame in frames[:2]] == ["start", "token"]
    assert frames[-1] == {"event": "interrupted", "data": stop}
    assert frames[-2]["data"]["token"] == INTERRUPTED
    assert [frame["data"]["id"] for frame in frames if frame["event"] == "token"] == list(range(len(frames) - 2))
    assert fake_model.gone.wait(10), "the model went on writing"
    [record] = interactions(served)
    shown = "".join(frame["data"]["token"] for frame in frames if frame["event"] == "token")
    assert (record.completion_status, record.success, record.attachments) == ("interrupted", None, [LOG])
    assert record.response == {"role": "assistant", "content": shown.removesuffix(INTERRUPTED)}
    [file] = only_json(tmp_path / "transcripts")
    assert json.loads(file.read_bytes())["llm_response"] == shown
    again = other.post("/streaming_query/interrupt", json=stop, headers={"x-user-id": "ada"})
    assert (again.status_code, again.json()["detail"]["response"]) == (404, "Streaming Request not found")
    opinion = {"conversation_id": record.conversation_id, "user_question": LONG, "llm_response": shown, "sentiment": -1}
    assert other.post("/feedback", json=opinion, headers={"x-user-id": "ada"}).status_code == 200
    assert [found.interaction_id for found in served.records("feedback") if isinstance(found, Feedback)] == [record.id]


def test_the_answer_to_a_reader_who_left_is_kept(ready: Callable[..., Served], fake_model: FakeModel) -> None:
    served = ready()
    with reading(served.client(), {"query": LONG}) as reply:
        lines = reply.iter_lines()
        for _ in range(7):
            next(lines)
    assert fake_model.gone.wait(10), "the model went on writing"
    [record] = served.wait_for(1, "interaction")
    assert isinstance(record, Interaction)
    assert (record.completion_status, record.extra["disconnected"]) == ("interrupted", True)
    assert record.response is not None
    assert record.response["content"].startswith("You said: slow")
    assert not served.app.state.lightspeed_streams


def test_feedback_is_joined_to_its_turn_and_written(ready: Callable[..., Served], tmp_path: Path) -> None:
    served = ready()
    client = served.client()
    body = {"query": "is 10.1.2.3 up?", "attachments": [LOG]}
    first = client.post("/query", json=body).json()
    client.post("/query", json={"query": "and now?", "conversation_id": first["conversation_id"]})
    opinion = {
        "conversation_id": first["conversation_id"],
        "user_question": body["query"],
        "llm_response": f"  {first['response']}",
        "sentiment": -1,
        "user_feedback": "call me: +49 30 901820",
        "categories": ["incorrect", "unsafe", "incorrect"],
    }
    reply = client.post("/v1/feedback", json=opinion)
    assert (reply.status_code, reply.json()) == (200, {"response": "feedback received"})
    praise = {key: opinion[key] for key in ("conversation_id", "user_question", "llm_response")}
    assert client.post("/feedback", json={**praise, "sentiment": 1}).status_code == 200
    assert client.post("/feedback", json={**praise, "llm_response": "never said", "user_feedback": "?"}).is_success
    turn = interactions(served)[0]
    down, up, lost = [record for record in served.records("feedback") if isinstance(record, Feedback)]
    assert (down.kind, down.interaction_id, down.comment) == ("thumbs_down", turn.id, opinion["user_feedback"])
    assert down.categories == ["incorrect", "unsafe"]
    assert (up.kind, up.interaction_id, lost.kind, lost.interaction_id) == ("thumbs_up", turn.id, "comment", None)
    joined = attach(served.workspace.store)
    assert [mark.kind for mark in joined.of(turn.id).feedback] == ["thumbs_down", "thumbs_up"]
    assert [unmatched.id for unmatched in joined.unmatched] == [lost.id]

    files = {path.stem: path for path in only_json(tmp_path / "feedback")}
    assert set(files) == {down.id, up.id, lost.id}
    written = json.loads(files[down.id].read_bytes())
    assert down.user is not None
    assert written == {
        "user_id": down.user.pseudonym,
        "timestamp": str(down.time),
        "conversation_id": first["conversation_id"],
        "user_question": "is [IP_ADDRESS] up?",
        "llm_response": written["llm_response"],
        "sentiment": -1,
        "user_feedback": "call me: [PHONE]",
        "categories": ["incorrect", "unsafe"],
    }
    back = read_file(files[down.id].read_bytes(), "f", user=served.context.pseudonymizer.user, platform="default")
    assert isinstance(back, Feedback)
    assert (back.kind, back.time, back.categories) == (down.kind, down.time, down.categories)


BAD_FEEDBACK: list[dict[str, Any]] = [
    {},
    {"user_feedback": ""},
    {"categories": []},
    {"sentiment": 0},
    {"sentiment": 1, "user_feedback": "x" * 4097},
    {"categories": ["boring"]},
    {"sentiment": 1, "rating": 5},
    {"sentiment": 1, "conversation_id": ".."},
]


def test_what_is_no_feedback_is_refused(ready: Callable[..., Served]) -> None:
    served = ready()
    client = served.client()
    for more in BAD_FEEDBACK:
        opinion = {"conversation_id": UNKNOWN, "user_question": "a", "llm_response": "b", **more}
        assert client.post("/feedback", json=opinion).status_code == 422, more
    assert served.records("feedback") == []


def test_feedback_is_switched_for_every_process_and_for_good(serve: Serve, fake_model: FakeModel) -> None:
    served = serve(upstream_url=f"{fake_model.url}/v1", upstream_model=MODEL)
    key = served.key("ingest")
    program, admin = served.client(key), served.client(served.key("admin", user="root"))
    assert program.get("/feedback/status").json() == {"functionality": "feedback", "status": {"enabled": False}}
    refused = program.post("/feedback", json={})
    assert (refused.status_code, refused.json()["detail"]["response"]) == (403, "Storing feedback is disabled")
    assert program.put("/feedback/status", json={"status": True}).status_code == 403
    status = admin.put("/v1/feedback/status", json={"status": True}).json()["status"]
    assert list(status) == ["previous_status", "updated_status", "updated_by", "timestamp"]
    assert (status["previous_status"], status["updated_status"]) == (False, True)
    assert status["updated_by"] == served.context.pseudonymizer.user("root").pseudonym
    assert admin.put("/feedback/status", json={"status": True, "more": 1}).status_code == 422
    later = serve(upstream_url=f"{fake_model.url}/v1", upstream_model=MODEL).client(key)
    assert later.get("/v1/feedback/status").json()["status"] == {"enabled": True}
    conversation = program.post("/query", json={"query": "a"}).json()["conversation_id"]
    opinion = {"conversation_id": conversation, "user_question": "a", "llm_response": "You said: a", "sentiment": 1}
    assert later.post("/feedback", json=opinion).status_code == 200


def test_a_disk_that_takes_no_files_loses_no_record(
    ready: Callable[..., Served], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "transcripts").write_text("a file where the folder should be")
    served = ready()
    assert served.client().post("/query", json={"query": "a"}).status_code == 200
    assert len(interactions(served)) == 1
    assert "lightspeed_file_not_written" in caplog.messages
    assert 'tracemill_capture_failures_total{source="lightspeed"} 1.0' in served.client().get("/metrics").text


def test_many_at_once_keep_their_turns(ready: Callable[..., Served]) -> None:
    served = ready()
    errors: list[str] = []

    def talk(name: str) -> None:
        client, conversation = served.client(), None
        for number in range(3):
            body = {"query": f"{name} {number}", "conversation_id": conversation}
            reply = client.post("/query", json=body, headers={"x-user-id": name})
            if reply.status_code != 200:
                errors.append(reply.text)
                return
            conversation = reply.json()["conversation_id"]

    threads = [threading.Thread(target=talk, args=(f"user-{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found = interactions(served)
    assert len(found) == 18
    for conversation in {record.conversation_id for record in found}:
        turns = [record for record in found if record.conversation_id == conversation]
        assert sorted(turn.turn or 0 for turn in turns) == [1, 2, 3]
        assert len({turn.user for turn in turns}) == 1


def test_a_server_told_to_stop_keeps_what_was_said(start: Start, fake_model: FakeModel, tmp_path: Path) -> None:
    process, url = start(
        TRACEMILL_UPSTREAM_URL=f"{fake_model.url}/v1",
        TRACEMILL_UPSTREAM_MODEL=MODEL,
        TRACEMILL_SHUTDOWN_TIMEOUT_SECONDS="0.3",
    )
    with (
        httpx.Client(base_url=url, trust_env=False) as client,
        contextlib.suppress(httpx.RemoteProtocolError),
        reading(client, {"query": LONG}) as reply,
    ):
        for number, _ in enumerate(reply.iter_lines()):
            if number == 9:
                process.send_signal(signal.SIGTERM)
    process.wait(20)
    with Workspace.open(tmp_path / "w") as workspace:
        [record] = workspace.records()
    assert isinstance(record, Interaction)
    assert record.completion_status == "interrupted"
    assert record.response is not None
    assert record.response["content"].startswith("You said: slow")


def test_servers_over_one_postgresql_share_conversations(serve: Serve, fake_model: FakeModel, postgres: str) -> None:
    import psycopg  # an optional package; the fixture skips where it is missing

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE lightspeed")
    database = postgres.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", "/lightspeed?")
    settings = {
        "database": database,
        "upstream_url": f"{fake_model.url}/v1",
        "upstream_model": MODEL,
        "user_data_collection": {"feedback_enabled": True},
    }
    one, other = serve("w", **settings), serve("w", **settings)
    ada = {"x-user-id": "ada"}
    first = one.client().post("/query", json={"query": "one"}, headers=ada).json()
    more = {"query": "two", "conversation_id": first["conversation_id"]}
    assert other.client().post("/query", json=more, headers={"x-user-id": "bob"}).status_code == 403
    assert other.client().post("/streaming_query", json=more, headers=ada).status_code == 200
    assert [message["content"] for message in fake_model.requests[-1]["body"]["messages"][1:]] == [
        "one", "You said: one", "two",
    ]  # fmt: skip
    opinion = {"user_question": "one", "llm_response": first["response"], "sentiment": -1}
    said = {**opinion, "conversation_id": first["conversation_id"]}
    assert other.client().post("/feedback", json=said, headers=ada).status_code == 200
    [feedback] = one.records("feedback")
    assert isinstance(feedback, Feedback)
    assert feedback.interaction_id == interactions(one)[0].id
