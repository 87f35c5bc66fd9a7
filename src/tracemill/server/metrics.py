"""Prometheus metrics of one server process; docs/server.md lists each (a test compares)."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tracemill.store.base import Refusal

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters and histograms. Labels hold route templates, sources and reasons: never ids, names or content."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "tracemill_http_requests", "Requests answered.", ("method", "route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "tracemill_http_request_seconds", "Time to answer.", ("route",), buckets=_SECONDS, registry=registry
        )
        self.in_flight = Gauge("tracemill_http_requests_in_flight", "Requests under way.", registry=registry)
        self.stored = Counter("tracemill_records_stored", "Records committed.", ("source",), registry=registry)
        self.duplicates = Counter(
            "tracemill_records_duplicate", "Records that were stored already.", ("source",), registry=registry
        )
        self.refused = Counter("tracemill_records_refused", "Records refused.", ("source", "reason"), registry=registry)
        self.commit_seconds = Histogram(
            "tracemill_commit_seconds", "Time of one commit to the store.", buckets=_SECONDS, registry=registry
        )
        self.commit_records = Histogram(
            "tracemill_commit_records", "Records in one commit.", buckets=(1, 3, 10, 30, 100, 300, 1000, 3000),
            registry=registry,
        )  # fmt: skip
        self.queue_bytes = Gauge(
            "tracemill_ingest_queue_bytes", "Encoded records waiting for the store.", registry=registry
        )
        self.ignored_spans = Counter(
            "tracemill_otlp_spans_ignored", "Spans that say nothing of a model, an agent or a tool.", registry=registry
        )
        self.pending = Gauge("tracemill_pending_parts", "Parts that wait for the rest of a record.", registry=registry)
        self.capture_failures = Counter(
            "tracemill_capture_failures",
            "Answers that were given to a client and could not be recorded.",
            ("source",),
            registry=registry,
        )
        self.upstream_seconds = Histogram(
            "tracemill_upstream_seconds", "Time until an upstream API's answer began.", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip

    def count(self, source: str, stored: int, duplicates: int, refused: Iterable[Refusal]) -> None:
        """Count what became of a batch."""
        self.stored.labels(source).inc(stored)
        self.duplicates.labels(source).inc(duplicates)
        for reason, number in Tally(refusal.reason for refusal in refused).items():
            self.refused.labels(source, reason).inc(number)

    def page(self) -> bytes:
        """The metrics as Prometheus reads them."""
        return generate_latest(self.registry)
