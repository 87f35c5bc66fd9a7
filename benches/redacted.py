"""What redaction before the store costs: `python -m benches.redacted`.

Records committed to SQLite per second and core with it off and on, and the time on the caller's thread to capture one
interaction with it off, before the store, and in the process before the spool.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from time import perf_counter

from benches import results
from benches.trajectories import REAL, logged_calls, single_turns
from tracemill.collector import DataCollector
from tracemill.core.codec import encode
from tracemill.core.settings import load_settings
from tracemill.workspace import Workspace

ROUNDS = 3
BATCH = 500
CALLS, PAUSE = 1500, 0.004
MODES = {
    "off": {},
    "before the store": {"redaction": "standard"},
    "before the spool": {"redaction": "standard", "redact_in_process": True},
}


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _ingest(items: list[bytes], redaction: str) -> tuple[float, float]:
    """Seconds of wall and of processor to commit all items into an empty workspace."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings({"workspace": folder, "redaction": redaction}, environment={})
        with Workspace.open(settings=settings) as workspace:
            if workspace.redacting.gate is not None:
                workspace.redacting.gate.clean(items[:1], lambda _ids: {})  # loaded once a process
            wall, cpu = perf_counter(), _cpu()
            for start in range(0, len(items), BATCH):
                workspace.store.append_encoded(items[start : start + BATCH])
            return perf_counter() - wall, _cpu() - cpu


def _captured(mode: str) -> None:
    """In a process of its own: microseconds that each call took on the caller's thread."""
    taken = []
    turns = [(turn.messages, turn.response) for turn in single_turns(CALLS)]
    with tempfile.TemporaryDirectory() as folder, DataCollector(folder, **MODES[mode]) as collector:  # type: ignore[arg-type]
        collector.log_conversation("Where is my parcel?", "It arrives tomorrow.")
        collector.deliver(timeout=30)
        for messages, response in turns:
            began = perf_counter()
            collector.log_interaction(platform="bench", messages=messages, response=response, success=True)
            taken.append((perf_counter() - began) * 1e6)
            time.sleep(PAUSE)
        dropped = sum(collector.counts().dropped.values())
    taken.sort()
    print(json.dumps({"p50": taken[len(taken) // 2], "p99": taken[len(taken) * 99 // 100], "dropped": dropped}))


def _capture_row(mode: str) -> dict[str, object]:
    rounds = []
    for _ in range(ROUNDS):
        command = [sys.executable, "-m", "benches.redacted", mode]
        rounds.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return {
        "what": "capture of a single turn, every 4 ms",
        "redaction": mode,
        "p50 µs": results.middle([one["p50"] for one in rounds]),
        "p99 µs": results.middle([one["p99"] for one in rounds]),
        "dropped": max(one["dropped"] for one in rounds),
    }


def main() -> None:
    """Measure and write the results."""
    cases = [("single turns", [encode(record) for record in single_turns(3000)])]
    if REAL.exists():
        calls = islice(logged_calls(), 500)
        cases.append(("real trajectories, as logged calls", [encode(record) for record in calls]))
    rows: list[dict[str, object]] = []
    for name, items in cases:
        for redaction in ("", "mask", "standard"):
            rounds = [_ingest(items, redaction) for _ in range(ROUNDS)]
            rows.append(
                {
                    "what": f"ingest, {name}",
                    "redaction": redaction or "off",
                    "bytes each": round(sum(map(len, items)) / len(items)),
                    "records/s": results.middle([len(items) / wall for wall, _ in rounds]),
                    "records/s/core": results.middle([len(items) / cpu for _, cpu in rounds]),
                }
            )
    rows += [_capture_row(mode) for mode in MODES]
    every = ("what", "redaction", "bytes each", "records/s", "records/s/core", "p50 µs", "p99 µs", "dropped")
    results.write(
        "redacted",
        "Redaction before the store",
        "python -m benches.redacted",
        [{column: row.get(column) for column in every} for row in rows],
        [
            f"Median of {ROUNDS} rounds, each into an empty workspace. The redactor is loaded before (0.3 s once a process).",
            "Capture: on the caller's thread, while the background threads redact, spool and store in the same process.",
        ],
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _captured(sys.argv[1])
    else:
        main()
