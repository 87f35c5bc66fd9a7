"""The SDK against the real server."""

from __future__ import annotations

from pathlib import Path

from tests.server.conftest import Serve
from tracemill import DataCollector
from tracemill.core.records import Interaction


def test_what_an_application_captures_is_in_the_server_s_store(serve: Serve, tmp_path: Path) -> None:
    served = serve()
    key = served.key("ingest", project="support")
    collector = DataCollector(
        tmp_path / "application", endpoint=served.url, api_key=key, platform="support", delivery_interval_ms=20
    )
    sent = {collector.log_conversation(f"question {number}", "x" * 20_000) for number in range(50)}
    assert collector.deliver(30)
    counts = collector.counts()
    collector.close(5)
    assert (counts.stored, counts.unaccounted) == (50, 0)
    assert {record.id for record in served.records("interaction")} == sent


def test_a_collector_with_a_revoked_key_waits(serve: Serve, tmp_path: Path) -> None:
    served = serve()
    served.key("admin")
    collector = DataCollector(tmp_path / "a", endpoint=served.url, api_key="tm_wrong", delivery_interval_ms=20)
    collector.log_conversation("q", "a")
    assert not collector.deliver(1)
    assert collector.counts().spooled == 1
    collector.close(0)


def test_a_batch_larger_than_the_server_takes_is_sent_in_parts(serve: Serve, tmp_path: Path) -> None:
    served = serve(batch_max_records=7)
    collector = DataCollector(tmp_path / "a", endpoint=served.url, delivery_interval_ms=20)
    for number in range(40):
        collector.log_conversation(f"q{number}", "a")
    assert collector.deliver(30)
    collector.close(5)
    stored = served.records("interaction")
    assert len(stored) == 40
    assert [record.sequence for record in stored if isinstance(record, Interaction)] == list(range(40))
