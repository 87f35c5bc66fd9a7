"""Rows certified per second: `python -m benches.certificate`."""

from __future__ import annotations

import json
import resource
import tempfile
from pathlib import Path
from time import perf_counter

import msgspec

from benches import results
from benches.trajectories import REAL, single_turns, whole
from tracemill.core.records import AnyRecord, Interaction
from tracemill.core.settings import load_settings
from tracemill.dataset.recipe import Recipe
from tracemill.workspace import Workspace

ITEMS = 1000


def _run(records: list[AnyRecord], evaluation: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings({"workspace": folder}, environment={})
        with Workspace.open(settings=settings) as workspace:
            for start in range(0, len(records), 1000):
                workspace.store.append(records[start : start + 1000])
            version = workspace.build_dataset(Recipe()).version
            began = perf_counter()
            made = workspace.certifying.certify(version.reference, [evaluation], actor="bench")
            seconds = perf_counter() - began
            assert len(made.checks) > 8
            return {"rows": version.count(), "seconds": seconds, "bytes": _bytes(version.path)}


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("*-*.jsonl"))


def main() -> None:
    """Measure and write the results."""
    with tempfile.TemporaryDirectory() as folder:
        evaluation = Path(folder) / "bench.jsonl"
        lines = (json.dumps({"question": " ".join(f"q{at}w{n}" for n in range(60))}) + "\n" for at in range(ITEMS))
        evaluation.write_text("".join(lines))
        turns: list[AnyRecord] = [_answered(record) for record in single_turns(20_000)]
        cases = [("single turns", turns)]
        if REAL.exists():
            cases.insert(0, ("real trajectories, whole", [_answered(record) for record in whole()]))
        _run(turns[:10], evaluation)  # what is imported once is not counted
        rows = []
        for name, records in cases:
            found = _run(records, evaluation)
            rows.append(
                {
                    "rows of": name,
                    "rows": found["rows"],
                    "KB each": round(found["bytes"] / max(found["rows"], 1) / 1000, 1),
                    "seconds": round(found["seconds"], 1),
                    "rows/s": round(found["rows"] / found["seconds"]),
                    "MB/s": round(found["bytes"] / found["seconds"] / 1e6, 2),
                }
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    results.write(
        "certificate",
        "Certifying a dataset version",
        "python -m benches.certificate",
        rows,
        [
            "Every check: files, leaks, near duplicates, personal data by kind, consent, anonymity, and contamination.",
            f"The evaluation set has {ITEMS:,} items of 60 words. Every trajectory counts as a success, so that each is a row.",
            f"Peak memory of the process, building included: {peak} MB. One process, one core at a time.",
        ],
    )


def _answered(record: AnyRecord) -> AnyRecord:
    return msgspec.structs.replace(record, success=True) if isinstance(record, Interaction) else record


if __name__ == "__main__":
    main()
