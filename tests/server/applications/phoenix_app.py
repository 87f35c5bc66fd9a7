"""Annotations through Phoenix's own client, of spans that are named on the command line."""

from __future__ import annotations

import sys

from phoenix.client import Client

trace, root, inner = sys.argv[1:]
client = Client()
done = client.spans.add_span_annotation(
    span_id=inner,
    annotation_name="correctness",
    annotator_kind="LLM",
    label="right",
    score=0.9,
    explanation="it is",
    sync=True,
)
assert done is not None
assert done["id"]
client.spans.add_span_annotation(span_id=root, annotation_name="thumbs_up", annotator_kind="HUMAN", score=1)
client.traces.add_trace_annotation(
    trace_id=trace, annotation_name="quality", annotator_kind="CODE", score=0.25, sync=True
)
client.sessions.add_session_annotation(
    session_id="session-7", annotation_name="mood", annotator_kind="HUMAN", label="happy", sync=True
)
client.spans.add_span_note(span_id=inner, note="look at this")
