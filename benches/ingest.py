"""Records committed to SQLite per second and core: `python -m benches.ingest`."""

from __future__ import annotations

import resource
import tempfile
from time import perf_counter

from benches import results
from benches.trajectories import REAL, logged_calls, single_turns, whole
from tracemill.core.codec import encode
from tracemill.core.settings import load_settings
from tracemill.store.tiered import open_store

ROUNDS = 3


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _round(items: list[bytes], batch: int) -> tuple[float, float]:
    """Seconds of wall and of processor to commit all items, from an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(load_settings({"workspace": folder}, environment={}))
        wall, cpu = perf_counter(), _cpu()
        for start in range(0, len(items), batch):
            stored = store.append_encoded(items[start : start + batch]).stored
            assert stored == len(items[start : start + batch])
        wall, cpu = perf_counter() - wall, _cpu() - cpu
        store.close()
    return wall, cpu


def main() -> None:
    """Measure and write the results."""
    cases = [("single turns", [encode(record) for record in single_turns(60_000)])]
    if REAL.exists():
        cases.append(("real trajectories, whole", [encode(record) for record in whole()]))
        cases.append(("real trajectories, as logged calls", [encode(record) for record in logged_calls()]))
    rows = []
    for name, items in cases:
        for batch in (1000, 100) if name == "single turns" else (1000,):
            rounds = [_round(items, batch) for _ in range(ROUNDS)]
            size = sum(map(len, items)) / len(items)
            rows.append(
                {
                    "records": name,
                    "count": len(items),
                    "bytes each": round(size),
                    "batch": batch,
                    "records/s": results.middle([len(items) / wall for wall, _ in rounds]),
                    "records/s/core": results.middle([len(items) / cpu for _, cpu in rounds]),
                    "µs of processor a record": results.middle([cpu / len(items) * 1e6 for _, cpu in rounds]),
                }
            )
    results.write(
        "ingest",
        "Ingest into SQLite, every batch committed and synced",
        "python -m benches.ingest",
        rows,
        [
            f"Median of {ROUNDS} rounds, each into an empty store; training of dictionaries is included.",
            "WAL with synchronous=FULL: a batch is on the device when its append returns.",
        ],
    )


if __name__ == "__main__":
    main()
