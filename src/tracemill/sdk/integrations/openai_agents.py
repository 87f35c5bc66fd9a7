"""The OpenAI Agents SDK's tracing (tested with openai-agents 0.20).

    agents.add_trace_processor(TracemillTracingProcessor(get_data_collector()))

``agents.set_trace_processors([...])`` instead keeps traces from going to OpenAI as well.
"""

from __future__ import annotations

from typing import Any

from agents.tracing import Span, Trace, TracingProcessor

from tracemill.core.answers import input_messages, responses_answer
from tracemill.sdk.collector import Collector
from tracemill.sdk.integrations.recording import answered, plain
from tracemill.sdk.integrations.runs import Runs

_KINDS = {"generation": "llm", "response": "llm", "function": "tool"}


class TracemillTracingProcessor(TracingProcessor):
    """Records workflows: each trace as an Interaction, generations and responses inside it too; agents, functions, handoffs and
    guardrails as Steps. ``last_interaction_id`` is the newest trace's. A trace's ``group_id`` is its conversation.
    """

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._runs = Runs(collector)

    @property
    def last_interaction_id(self) -> str | None:
        """The id of the newest trace's interaction."""
        return self._runs.last_interaction_id

    def on_trace_start(self, trace: Trace) -> None:
        """A workflow begins."""
        metadata = getattr(trace, "metadata", None) or {}
        self._collector.attempt(
            lambda: self._runs.begin(
                trace.trace_id,
                None,
                "agent",
                trace.name,
                trace_id=trace.trace_id,
                conversation_id=getattr(trace, "group_id", None),
                user_id=metadata.get("user_id"),
                extra={"metadata": metadata} if metadata else {},
            ),
            None,
        )

    def on_trace_end(self, trace: Trace) -> None:
        """A workflow is over: what its last model call said is its answer."""

        def end() -> None:
            run = self._runs.get(trace.trace_id)
            fields = {} if run is None else {name: run.fields.get(f"_{name}") for name in ("messages", "response")}
            error = None if run is None else run.fields.get("_error")
            for name in ("_messages", "_response", "_error"):
                if run is not None:
                    run.fields.pop(name, None)
            self._runs.end(trace.trace_id, error, **fields)

        self._collector.attempt(end, None)

    def on_span_start(self, span: Span[Any]) -> None:
        """A part of a workflow begins."""
        kind = str(span.span_data.type)
        name = getattr(span.span_data, "name", None)
        self._collector.attempt(
            lambda: self._runs.begin(
                span.span_id, span.parent_id or span.trace_id, _KINDS.get(kind, kind), name or kind
            ),
            None,
        )

    def on_span_end(self, span: Span[Any]) -> None:
        """A part of a workflow ended."""
        self._collector.attempt(lambda: self._end(span), None)

    def _end(self, span: Span[Any]) -> None:
        data, told = span.span_data, span.error
        error = None
        if told:
            error = {"type": "agents", "message": str(told.get("message", "")), "detail": told.get("data")}
        fields = _fields(data)
        root = self._runs.get(span.trace_id)
        if root is not None:
            if data.type in ("generation", "response") and fields.get("response"):
                root.fields["_messages"], root.fields["_response"] = fields.get("messages"), fields["response"]
            if error is not None and span.parent_id is None:
                root.fields["_error"] = error
        self._runs.end(span.span_id, error, **fields)

    def shutdown(self) -> None:
        """Hand over what is captured to the spool."""
        self._collector.client.flush(5)

    def force_flush(self) -> None:
        """The same, when asked for."""
        self._collector.client.flush(5)


def _fields(data: Any) -> dict[str, Any]:
    """What a span's data says, by its type."""
    match data.type:
        case "generation":
            return _generation(data)
        case "response":
            return _response(data)
        case "function":
            return {"inputs": data.input, "outputs": data.output}
        case "agent":
            return {"agent": data.name, "inputs": {"tools": data.tools, "handoffs": data.handoffs}}
        case "handoff":
            return {"agent": data.from_agent, "outputs": {"to_agent": data.to_agent}}
        case "guardrail":
            return {"outputs": {"triggered": data.triggered}}
    return {"outputs": plain(data.export())}


def _generation(data: Any) -> dict[str, Any]:
    usage = data.usage or {}
    configuration = {name: value for name, value in (data.model_config or {}).items() if value is not None}
    answers = [plain(one) for one in data.output or ()]
    return {
        "messages": [plain(one) for one in data.input or ()],
        "response": answers[-1] if answers else None,
        "model": {"provider": "openai", "name": data.model},
        "model_requested": {"provider": "openai", "name": data.model, "configuration": configuration},
        "usage": usage or None,
        "input_tokens": usage.get("input_tokens"),
        "output_tokens": usage.get("output_tokens"),
    }


def _response(data: Any) -> dict[str, Any]:
    response = plain(data.response) or {}
    asked = data.input if isinstance(data.input, str) else [plain(one) for one in data.input or ()]
    fields = answered(responses_answer(response), "openai", {})
    fields["messages"] = input_messages(asked, response.get("instructions"))
    fields["tools"] = response.get("tools") or None
    return fields
