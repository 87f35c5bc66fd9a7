"""A request by every route of the server that takes what people said, with the same text wherever a stranger may write one."""

from __future__ import annotations

import io
import json
import tarfile
import time
from itertools import count
from typing import Any

import httpx
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from tests.server.conftest import Served
from tracemill.core.codec import encode, encode_json
from tracemill.core.ids import new_id, now
from tracemill.core.records import Feedback, Interaction, User
from tracemill.server.access import scopes_of
from tracemill.server.batches import MEDIA_TYPE
from tracemill.server.routes import FAMILIES

NO_CONTENT = {
    ("POST", "/sessions"),  # LangSmith's projects, of which nothing is stored
    ("POST", "/api/v1/sessions"),
    ("POST", "/streaming_query/interrupt"),  # stops a stream and says nothing
    ("POST", "/v1/streaming_query/interrupt"),
    ("POST", "/v1/consent"),  # consent itself
}
"""Routes for those who send, by which nothing is stored that people said."""
PRODUCERS = {
    "feedback-api", "langfuse", "langsmith", "lightspeed", "litellm", "mlflow", "otlp", "phoenix", "sender"
}  # fmt: skip
"""Who made the records, by the beginnings of their names."""
PROTOBUF = {"Content-Type": "application/x-protobuf"}
PERSON = "ann"


def routes_that_store() -> set[tuple[str, str]]:
    """Method and path of every route by which an application or a person sends something."""
    found = set()
    for family in FAMILIES:
        for route in family.router.routes:
            needed = [scopes_of(one.call) for one in route.dependant.dependencies]
            if any(scopes is not None and "ingest" in scopes for scopes in needed):
                found |= {(method, route.path) for method in route.methods - {"GET", "HEAD"}}
    return found - NO_CONTENT


class EveryRoute:
    """Sends a text over one client. ``sent`` is what was sent to, as method and path of the route."""

    def __init__(self, client: httpx.Client, text: str) -> None:
        self.client, self.text = client, text
        self.ask = [{"role": "user", "content": text}]
        self.sent: set[tuple[str, str]] = set()
        self._numbers = count(1)

    def everything(self, user: User | None = None) -> None:
        """One request by each route at least, good ones and bad ones. ``user`` is whose records are that state a person."""
        self.records(user)
        for prefix in ("", "/api/public/otel"):
            self.spans(prefix)
            self.late_content(prefix)
        self.proxy()
        for prefix in ("", "/api/v1"):
            self.langsmith(prefix)
        self.langsmith_feedback()
        for prefix in ("", "/v1"):
            self.lightspeed(prefix)
        self.package()
        self.people()
        self.langfuse()
        self.phoenix()
        self.mlflow()
        self.litellm()

    def send(self, path: str, *, method: str = "POST", good: bool = True, at: str = "", **given: Any) -> httpx.Response:
        """A request to a route, at its own path or ``at`` where that has names in it; a good one must be taken."""
        self.sent.add((method, path))
        reply = self.client.request(method, at or path, **given)
        assert reply.is_success or not good, (path, reply.status_code, reply.text)
        return reply

    def number(self) -> int:
        """A number that was not used before."""
        return next(self._numbers)

    def run_id(self) -> str:
        """An id of a run of LangSmith's that was not used before."""
        return f"00000000-0000-7000-8000-{self.number():012x}"

    # -- our own records

    def turn(self, user: User | None = None) -> Interaction:
        """A record as another tracemill would send it, with the text in every place."""
        return Interaction(
            id=new_id(),
            time=now(),
            schema_version=1,
            producer="sender",
            sequence=0,
            user=user,
            messages=self.ask,
            response={"role": "assistant", "content": self.text},
            finish_reason=f"stopped by {self.text}",
            usage={"tokens": 3, "note": self.text, "by": {f"of {self.text}": 1}},
            reasoning={"why": self.text},
            intent=self.text,
            artifact={self.text: [self.text]},
            tags=[self.text],
            retrieved_chunks=[self.text],
            extra={"about": self.text},
        )

    def records(self, user: User | None = None) -> None:
        """``/v1/records`` in its three forms, with lines that are none."""
        packed = b"\x92" + encode(self.turn(user)) + encode(self.turn())
        self.send("/v1/records", content=packed, headers={"Content-Type": MEDIA_TYPE})
        said = Feedback(
            id=new_id(),
            time=now(),
            schema_version=1,
            producer="sender",
            sequence=1,
            kind="score",
            name=f"as said: {self.text}",
            score=1.0,
            label=self.text,
            identifier=self.text,
            categories=[self.text],
        )
        lines = [encode_json(self.turn()), encode_json(said), b'{"record": "interaction", "messages": "%b"}']
        body = b"\n".join(lines).replace(b"%b", self.text.encode())
        self.send("/v1/records", content=body, headers={"Content-Type": "application/x-ndjson"})
        self.send("/v1/records", content=b"[" + encode_json(self.turn()) + b"]")

    # -- OpenTelemetry

    def spans(self, prefix: str) -> None:
        """A whole trace in JSON: the root, a call, a tool's step, each with the text wherever a span says something."""
        trace, text = f"{self.number():032x}", self.text
        message = json.dumps([{"role": "user", "parts": [{"type": "text", "content": text}]}])
        answer = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": text}]}])
        root = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": text, "user.id": PERSON}
        call = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "m",
            "gen_ai.input.messages": message,
            "gen_ai.output.messages": answer,
            "gen_ai.response.finish_reasons": text,
            "gen_ai.usage.note": text,
            "user.id": PERSON,
            f"key of {text}": text,
        }
        tool = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "look",
            "gen_ai.tool.call.arguments": json.dumps({"email": text, text: 1}),
            "gen_ai.tool.call.result": text,
        }
        chain = {"openinference.span.kind": "CHAIN", "input.value": text, "output.value": text, "metadata": text}
        lang = {
            "langfuse.observation.type": "generation",
            "langfuse.observation.input": json.dumps(self.ask),
            "langfuse.observation.output": text,
            "langfuse.trace.name": text,
            "langfuse.trace.metadata.note": text,
            "langfuse.observation.usage_details": json.dumps({"input": 3, "note": text}),
            "langfuse.user.id": PERSON,
        }
        made = [self._span(trace, 1, None, root)]
        made += [self._span(trace, at, 1, one) for at, one in enumerate((call, tool, chain, lang), 2)]
        resource = {"attributes": _attributes({"service.name": "shop", "owner": text})}
        scope = {"scope": {"name": "s"}, "spans": [*made, {"traceId": "no id", "name": text}]}
        self.send(f"{prefix}/v1/traces", json={"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]})

    def _span(self, trace: str, number: int, parent: int | None, attributes: dict[str, str]) -> dict[str, Any]:
        event: dict[str, Any] = {"name": "exception", "timeUnixNano": "1771000000000000000"}
        event |= {"attributes": _attributes({"exception.message": self.text, "exception.type": "ValueError"})}
        return {
            "traceId": trace,
            "spanId": f"{int(trace, 16) * 16 + number:016x}",
            "parentSpanId": "" if parent is None else f"{int(trace, 16) * 16 + parent:016x}",
            "name": f"about {self.text}",
            "startTimeUnixNano": "1771000000000000000",
            "endTimeUnixNano": "1771000001000000000",
            "attributes": _attributes(attributes),
            "events": [event],
            "status": {"code": 2, "message": self.text},
        }

    def late_content(self, prefix: str) -> None:
        """A call in protobuf whose content comes as log events, an event of no call, and a judgement."""
        trace, number = self.number().to_bytes(16), self.number().to_bytes(8)
        logs = ExportLogsServiceRequest()
        scope = logs.resource_logs.add().scope_logs.add()
        for name, owner in (("gen_ai.user.message", number), (f"gen_ai.{self.text}", self.number().to_bytes(8))):
            event = scope.log_records.add()
            event.trace_id, event.span_id, event.event_name = trace, owner, name
            event.time_unix_nano = time.time_ns()
            event.body.kvlist_value.values.append(_pair("content", self.text))
        judged = scope.log_records.add()
        judged.trace_id, judged.span_id, judged.event_name = trace, number, "gen_ai.evaluation.result"
        judged.time_unix_nano = time.time_ns()
        for name in ("name", "explanation", "score.label"):
            judged.attributes.append(_pair(f"gen_ai.evaluation.{name}", self.text))
        self.send(f"{prefix}/v1/logs", content=logs.SerializeToString(), headers=PROTOBUF)
        spans = ExportTraceServiceRequest()
        span = spans.resource_spans.add().scope_spans.add().spans.add()
        span.trace_id, span.span_id, span.name = trace, number, f"chat {self.text}"
        span.start_time_unix_nano = span.end_time_unix_nano = time.time_ns()
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "user.id": PERSON}
        span.attributes.extend(_pair(name, value) for name, value in attributes.items())
        self.send(f"{prefix}/v1/traces", content=spans.SerializeToString(), headers=PROTOBUF)

    # -- the proxy

    def proxy(self) -> None:
        """Calls of every operation, whole, streamed, refused by the model and unreadable."""
        named = {"x-tracemill-user-id": PERSON, "x-tracemill-conversation-id": f"of {self.text}"}
        asked = {"model": "m", "messages": self.ask, "metadata": {"note": self.text, self.text: "x"}}
        self.send("/v1/chat/completions", json=asked, headers=named)
        self.send("/v1/chat/completions", json={**asked, "stream": True}, headers=named)
        refused = [{"role": "user", "content": f"error 500 {self.text}"}]
        self.send("/v1/chat/completions", json={**asked, "messages": refused}, good=False)
        self.send("/v1/chat/completions", content=b"{torn " + self.text.encode(), good=False)
        answered = {"model": "m", "input": self.text, "instructions": self.text, "user": PERSON}
        self.send("/v1/responses", json=answered)
        self.send("/v1/responses", json={**answered, "stream": True})
        self.send("/v1/embeddings", json={"model": "m", "input": [self.text], "user": PERSON})

    # -- LangSmith

    def run(self, **fields: Any) -> dict[str, Any]:
        """A run that begins."""
        identity = self.run_id()
        metadata = {"user_id": PERSON, "note": self.text, self.text: 1, "session_id": f"of {self.text}"}
        begun: dict[str, Any] = {"id": identity, "trace_id": identity, "name": f"run {self.text}", "run_type": "llm"}
        begun |= {"start_time": "2026-03-01T10:00:00", "inputs": {"messages": self.ask}, "tags": [self.text]}
        return {**begun, "extra": {"metadata": metadata, "runtime": {"note": self.text}}, **fields}

    def ending(self) -> dict[str, Any]:
        """What a run ends with."""
        usage = {"input_tokens": 3, "note": self.text}
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "finish_reason": f"stopped by {self.text}", "message": message}
        outputs = {"choices": [choice], "usage": usage, "usage_metadata": usage}
        return {"end_time": "2026-03-01T10:00:01", "outputs": outputs, "error": f"ValueError('{self.text}')"}

    def langsmith(self, prefix: str) -> None:
        """Runs whole and in two requests, in a batch, as a form and alone, and what is none."""
        begun, alone = self.run(), self.run()
        batch = {"post": [self.run(**self.ending()), begun, {"id": self.text, "inputs": self.text}]}
        self.send(f"{prefix}/runs/batch", json=batch)
        self.send(f"{prefix}/runs/batch", json={"patch": [{"id": begun["id"], **self.ending()}]})
        self.send(f"{prefix}/runs", json=alone)
        self.send(
            f"{prefix}/runs/{{run_id}}", at=f"{prefix}/runs/{alone['id']}", method="PATCH", json={**self.ending()}
        )
        self.send(f"{prefix}/runs/{{run_id}}", at=f"{prefix}/runs/no-id", method="PATCH", json=self.run(), good=False)
        whole = self.run(**self.ending())
        inputs = {"inputs": whole.pop("inputs")}
        parts = {
            f"post.{whole['id']}": (None, json.dumps(whole), "application/json"),
            f"post.{whole['id']}.inputs": (None, json.dumps(inputs["inputs"]), "application/json"),
            f"attachment.{whole['id']}.page": (None, self.text, "text/plain; length=9"),
            f"feedback.{self.run_id()}": (None, json.dumps(self.opinion()), "application/json"),
            "what is this": (None, self.text, "text/plain"),
        }
        self.send(f"{prefix}/runs/multipart", files=parts)

    def opinion(self) -> dict[str, Any]:
        """Feedback as LangSmith's clients send it."""
        source = {"type": "api", "user_id": PERSON, "metadata": {"note": self.text}}
        said = {"key": f"as said: {self.text}", "score": 1, "comment": self.text, "value": self.text}
        return {"run_id": self.run_id(), **said, "correction": {"output": self.text}, "feedback_source": source}

    def langsmith_feedback(self) -> None:
        """At both paths, good and bad."""
        agent = {"User-Agent": "langsmith-py/0.4"}
        self.send("/api/v1/feedback", json=self.opinion())
        self.send("/feedback", json=self.opinion(), headers=agent)
        self.send("/feedback", json={"key": "", "comment": self.text}, headers=agent, good=False)

    # -- Lightspeed

    def lightspeed(self, prefix: str) -> None:
        """Questions, whole and streamed, and feedback on the answer."""
        who = {"x-user-id": PERSON}
        asked = {
            "query": self.text,
            "system_prompt": self.text,
            "attachments": [{"attachment_type": "log", "content_type": "text/plain", "content": self.text}],
        }
        answer = self.send(f"{prefix}/query", json=asked, headers=who).json()
        self.send(f"{prefix}/streaming_query", json=asked, headers=who)
        opinion = {
            "conversation_id": answer["conversation_id"],
            "user_question": self.text,
            "llm_response": answer["response"],
            "sentiment": -1,
            "user_feedback": self.text,
        }
        self.send(f"{prefix}/feedback", json=opinion, headers=who)

    def package(self) -> None:
        """A package with a transcript, feedback, records, what is torn and what nobody knows."""
        moment = now().isoformat()
        about = {"user_id": PERSON, "conversation_id": new_id(), "timestamp": moment, "provider": "p", "model": "m"}
        transcript: dict[str, Any] = {
            "metadata": about,
            "redacted_query": self.text,
            "llm_response": self.text,
            "attachments": [],
        }
        transcript |= {"rag_chunks": [], "truncated": False, "tool_calls": [], "tool_results": []}
        said: dict[str, Any] = {
            "user_id": PERSON,
            "timestamp": moment,
            "conversation_id": new_id(),
            "user_question": self.text,
        }
        said |= {"llm_response": self.text, "sentiment": 1, "user_feedback": self.text}
        files = {
            "transcripts/a/b/c.json": json.dumps(transcript).encode(),
            "feedback/d.json": json.dumps(said).encode(),
            "records/e.jsonl": encode_json(self.turn()) + b"\n{torn " + self.text.encode() + b"\n",
            "feedback/f.json": b"{torn " + self.text.encode(),
            f"unknown/{self.text}": self.text.encode(),
        }
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        kind = "application/vnd.redhat.lightspeed.periodic+tar"
        reply = self.send("/api/ingress/v1/upload", files={"file": (self.text, packed.getvalue(), kind)})
        assert reply.json()["upload"]["stored"] >= 3, reply.text

    # -- what people say

    def people(self) -> None:
        """Feedback by an application's own page, and a workflow that was edited."""
        said = {
            "feedback_type": "edit",
            "conversation_id": f"of {self.text}",
            "user_question": self.text,
            "comment": self.text,
            "categories": [self.text[:200]],
            "correction": self.text,
            "user_id": PERSON,
        }
        self.send("/api/feedback/submit", json=said)
        node = {"id": "1", "name": self.text, "type": "mail", "parameters": {"email": self.text}}
        workflow = {"name": self.text, "nodes": [node], "connections": {}}
        before = {**workflow, "nodes": [{**node, "name": f"was {self.text}"}]}
        body = {"workflow": workflow, "original_workflow": before, "conversation_id": f"of {self.text}"}
        self.send("/api/workflow/validate", json=body)

    # -- clients of other tools

    def langfuse(self) -> None:
        """Scores alone and as a list, with one that is none."""
        score: dict[str, Any] = {
            "name": f"as said: {self.text}",
            "value": self.text,
            "dataType": "CATEGORICAL",
            "comment": self.text,
        }
        score |= {"metadata": {"note": self.text}, "environment": "e", "queueId": self.text}
        about = {"traceId": f"{self.number():032x}", "observationId": f"{self.number():016x}"}
        self.send("/api/public/scores", json={**score, **about, "id": f"score of {self.text}"})
        session = {**score, "sessionId": f"of {self.text}"}
        self.send("/api/public/scores", json=[session, {**score, "value": [self.text]}])

    def phoenix(self) -> None:
        """Annotations of each kind and a note, with one that is none."""
        result = {"label": self.text, "score": 0.5, "explanation": self.text}
        for about in ("span", "trace", "session", "document"):
            owner = "span" if about == "document" else about
            target = (
                f"of {self.text}" if about == "session" else f"{self.number():032x}"[-16 if owner == "span" else 0 :]
            )
            said: dict[str, Any] = {
                "name": f"as said: {self.text}",
                "annotator_kind": "HUMAN",
                "result": result,
                "identifier": self.text,
            }
            said |= {"metadata": {"note": self.text}, f"{owner}_id": target, "document_position": 0}
            self.send(f"/v1/{about}_annotations", json={"data": [said]})
            self.send(f"/v1/{about}_annotations", json={"data": [{"name": self.text, "result": result}]}, good=False)
        note = {"span_id": f"{self.number():016x}", "note": self.text}
        self.send("/v1/span_notes", json={"data": note})

    def mlflow(self) -> None:
        """What is said of a trace, and assessments of it, also changed."""
        path = "/api/3.0/mlflow/traces"
        trace = f"tr-{self.number():032x}"
        told = {"mlflow.trace.user": PERSON, "mlflow.traceInputs": self.text, self.text: "x"}
        info: dict[str, Any] = {
            "trace_id": trace,
            "request_preview": self.text,
            "tags": {"note": self.text},
            "trace_metadata": told,
        }
        self.send(path, json={"trace": {"trace_info": info}})
        source = {"source_type": "HUMAN", "source_id": self.text}
        said: dict[str, Any] = {"assessment_name": f"as said: {self.text}", "source": source, "rationale": self.text}
        said |= {"feedback": {"value": self.text}, "metadata": {"note": self.text}}
        at = f"{path}/{trace}/assessments"
        self.send(f"{path}/{{trace_id}}/assessments", at=at, json={"assessment": said})
        self.send(f"{path}/{{trace_id}}/assessments", at=at, json={"assessment": {**said, "feedback": 1}}, good=False)
        changed = {"source": source, "expectation": {"value": self.text}}
        again = f"{path}/{{trace_id}}/assessments/{{assessment_id}}"
        self.send(again, at=f"{at}/a-1", method="PATCH", json={"assessment": changed})

    def litellm(self) -> None:
        """Calls as an array and as lines, with what is none."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": f"stopped by {self.text}"}
        choice |= {"message": {"role": "assistant", "content": self.text}}
        answer = {"choices": [choice], "usage": {"prompt_tokens": 3, "note": self.text}}
        call = {"call_type": "completion", "model": "m", "messages": self.ask, "response": answer, "end_user": PERSON}
        call |= {"metadata": {"note": self.text}, "request_tags": [self.text], "session_id": f"of {self.text}"}
        bad = {"call_type": "completion", "messages": self.ask}
        first, second = ({**call, "id": f"{self.number()}"} for _ in range(2))
        reply = self.send("/litellm/v1/logs", json=[first, bad])
        assert reply.json()["accepted"] == 1, reply.text
        self.send("/litellm/v1/logs", content=json.dumps(second) + "\n" + json.dumps(bad) + "\n")


def settled(served: Served, seconds: float = 20) -> int:
    """Wait until nothing is on its way to the store and no part waits for others; how many parts still do."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        counts = served.context.recorder.counts()
        if not served.workspace.store.pending_count() and not counts.queued and not counts.spooled:
            break
        time.sleep(0.05)
    return served.workspace.store.pending_count()


def _attributes(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]


def _pair(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))
