"""The demo's sample and the real trajectories as stores, and their statistics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dataset.support import open_store, tau_bench
from tracemill.collector import DataCollector
from tracemill.core.records import AnyRecord
from tracemill.demo.replay import replay
from tracemill.insight.figures import Statistics
from tracemill.insight.statistics import collect_statistics
from tracemill.store.hot import HotStore


@pytest.fixture(scope="session")
def sample_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HotStore]:
    """The sample, as it comes out of the collector."""
    folder = tmp_path_factory.mktemp("sample")
    with DataCollector(folder, database="", raise_errors="always") as collector:
        replay(collector)
        assert collector.deliver(60)
    store = open_store(folder)
    yield store
    store.close()


@pytest.fixture(scope="session")
def sample_records(sample_store: HotStore) -> list[AnyRecord]:
    return list(sample_store.scan())


@pytest.fixture(scope="session")
def sample(sample_store: HotStore) -> Statistics:
    return collect_statistics(sample_store)


@pytest.fixture(scope="session")
def real_store(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HotStore]:
    """The 200 real trajectories with their rewards."""
    records = list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json"))
    store = open_store(tmp_path_factory.mktemp("real"), records)
    yield store
    store.close()
