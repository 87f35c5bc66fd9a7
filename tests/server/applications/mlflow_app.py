"""An application of MLflow's tracing, with assessments, by its tracking address alone."""

from __future__ import annotations

import os

import mlflow
from mlflow.entities import AssessmentSource, AssessmentSourceType

mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])


@mlflow.trace(span_type="TOOL")
def look_up(word: str) -> str:
    """A tool."""
    return word.upper()


@mlflow.trace(name="answer", span_type="AGENT")
def answer(question: str) -> str:
    """An agent."""
    with mlflow.start_span("model", span_type="CHAT_MODEL") as span:
        span.set_inputs({"messages": [{"role": "user", "content": question}]})
        span.set_outputs({"choices": [{"message": {"role": "assistant", "content": look_up("hello")}}]})
    return "HELLO"


answer("Say hello")
trace_id = mlflow.get_last_active_trace_id()
assert trace_id is not None
mlflow.flush_trace_async_logging()
person = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="ada")
mlflow.log_feedback(trace_id=trace_id, name="user_feedback", value=True, rationale="yes", source=person)
mlflow.log_expectation(trace_id=trace_id, name="expected", value="Hello!", source=person)
