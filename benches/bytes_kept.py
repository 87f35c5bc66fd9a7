"""Bytes kept hot and cold against raw JSON, gzip and gzip-in-hex: `python -m benches.bytes_kept`."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benches import results
from benches.trajectories import REAL, logged_calls, real_turns, single_turns, whole
from tracemill.core.codec import encode_json
from tracemill.core.records import Interaction
from tracemill.core.settings import load_settings
from tracemill.store.keeping import run_archive
from tracemill.store.tiered import open_store


def measure(name: str, records: list[Interaction], hot_aim: str, cold_aim: str) -> dict[str, object]:
    """One row: what the same records take in each form. The store is measured as its file, indexes included."""
    lines = [encode_json(record) for record in records]
    messages = sum(len(encode_json_messages(record)) for record in records)
    raw = sum(len(line) + 1 for line in lines)
    zipped = sum(len(gzip.compress(line, 6)) for line in lines)
    hot, cold = _kept(records, "parquet")
    _, lines_cold = _kept(records, "jsonl.gz")
    return {
        "records": name,
        "count": len(records),
        "raw JSON": raw,
        "of it messages": messages,
        "gzip": zipped,
        "gzip in hex": 2 * zipped,
        "hot": hot,
        "cold": cold,
        "cold jsonl.gz": lines_cold,
        "bytes a turn hot": hot / len(records),
        "bytes a turn cold": cold / len(records),
        "raw / gzip": raw / zipped,
        "raw / gzip in hex": raw / (2 * zipped),
        "raw / hot": raw / hot,
        "aim hot": hot_aim,
        "raw / cold": raw / cold,
        "aim cold": cold_aim,
    }


def _kept(records: list[Interaction], archive_format: str) -> tuple[int, int]:
    """Bytes of the database that holds the records, and then of the archive's objects that do."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(load_settings({"workspace": folder, "archive_format": archive_format}, environment={}))
        for start in range(0, len(records), 500):
            store.append(records[start : start + 500])
        assert list(store.scan()) == records, "reading did not give back what was written"
        store.close()
        hot = sum(path.stat().st_size for path in Path(folder).glob("store.db*"))
        store = open_store(load_settings({"workspace": folder, "archive_format": archive_format}, environment={}))
        assert run_archive(store, days_old=0).records == len(records)
        assert list(store.scan()) == records, "the archive did not give back what was written"
        cold = sum(file.stored_bytes for file in store.archived_files())
        store.close()
    return hot, cold


def encode_json_messages(record: Interaction) -> bytes:
    """Only what was said, as JSON."""
    return msgspec.json.encode({"messages": record.messages, "response": record.response})


def _cases() -> Iterator[tuple[str, list[Interaction], str, str]]:
    if REAL.exists():
        yield "real trajectories, whole", list(whole()), "≥ 5", "≥ 15"
        yield "real trajectories, as logged calls", list(logged_calls()), "≥ 35", "≥ 80"
        yield "real single turns", list(real_turns()), "", "≥ 5"
    yield "single turns of random words", list(single_turns(5000)), "", "≥ 5"


def main() -> None:
    """Measure and write the results."""
    results.write(
        "bytes_kept",
        "Bytes kept by the database and by the archive",
        "python -m benches.bytes_kept",
        [measure(*case) for case in _cases()],
        [
            "Raw JSON is each record as one line; gzip is each record by itself.",
            "Hot is the whole database file after closing, indexes and roll-ups included. Cold is the archive's objects.",
            "Real single turns are each question of the real trajectories with the answer to it, and nothing before it.",
            "Random words share nothing and follow no grammar: their own entropy bounds what any format can do.",
            "gzip in hex is each record by itself, as one of the systems we unite keeps large workflows.",
        ],
    )


if __name__ == "__main__":
    main()
