"""Bytes the hot store keeps against raw JSON and gzip-in-hex: `python -m benches.bytes_kept`."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benches import results
from benches.trajectories import REAL, logged_calls, single_turns, whole
from tracemill.core.codec import encode_json
from tracemill.core.records import Interaction
from tracemill.core.settings import load_settings
from tracemill.store.tiered import open_store


def measure(name: str, records: list[Interaction], aim: str) -> dict[str, object]:
    """One row: what the same records take in each form. The store is measured as its file, indexes included."""
    lines = [encode_json(record) for record in records]
    messages = sum(len(encode_json_messages(record)) for record in records)
    raw = sum(len(line) + 1 for line in lines)
    hexed = sum(2 * len(gzip.compress(line, 6)) for line in lines)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(load_settings({"workspace": folder}, environment={}))
        for start in range(0, len(records), 500):
            store.append(records[start : start + 500])
        assert list(store.scan()) == records, "reading did not give back what was written"
        store.close()
        kept = sum(path.stat().st_size for path in Path(folder).glob("store.db*"))
    return {
        "records": name,
        "count": len(records),
        "raw JSON": raw,
        "of it messages": messages,
        "gzip in hex": hexed,
        "hot store": kept,
        "raw / gzip in hex": raw / hexed,
        "raw / store": raw / kept,
        "messages / store": messages / kept,
        "aim": aim,
    }


def encode_json_messages(record: Interaction) -> bytes:
    """Only what was said, as JSON."""
    return msgspec.json.encode({"messages": record.messages, "response": record.response})


def _cases() -> Iterator[tuple[str, list[Interaction], str]]:
    if REAL.exists():
        yield "real trajectories, whole", list(whole()), "≥ 5"
        yield "real trajectories, as logged calls", list(logged_calls()), "≥ 35"
    yield "single turns of random words", list(single_turns(5000)), ""


def main() -> None:
    """Measure and write the results."""
    results.write(
        "bytes_kept",
        "Bytes kept by the hot store",
        "python -m benches.bytes_kept",
        [measure(*case) for case in _cases()],
        [
            "Raw JSON is each record as one line; the aim is for raw / store.",
            "The store is its whole file after closing: rows, indexes, dictionaries, roll-ups.",
            "gzip in hex is each record by itself, as one of the systems we unite keeps large workflows.",
        ],
    )


if __name__ == "__main__":
    main()
