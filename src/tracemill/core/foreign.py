"""Ids of records made of what other systems name: pure functions, so that order and resending never matter.

A span can arrive before its parent, an annotation before its span; each computes the id of the record it means from the
foreign id alone. Foreign ids carry no time, so these ids do not sort by it.
"""

from __future__ import annotations

from tracemill.core.ids import derived_id


def trace_record_id(trace_id: str) -> str:
    """The id of the Interaction that is a whole OpenTelemetry trace, by the trace's id in hex."""
    return derived_id("trace", trace_id.lower())


def span_record_id(span_id: str) -> str:
    """The id of the record of any other span, by the span's id in hex.

    Span ids are 64 random bits, unique enough without their trace, and some annotations name nothing else.
    """
    return derived_id("span", span_id.lower())


def run_record_id(run_id: str) -> str:
    """The id of the record of a LangSmith run, by the run's UUID."""
    return derived_id("langsmith-run", run_id.lower())
