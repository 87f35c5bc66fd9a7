"""How fast examples become rows of a training file, against Hugging Face `datasets` with the same rows.

`python -m benches.export`: both write the same JSON Lines on the same machine in the same run. Ours reads a dataset
version, makes each row, parses its bytes again and accounts for every value; theirs is ``Dataset.from_list(rows)`` and
``to_json``, from rows that lie in memory. Every run begins with nothing at its place, and ends when the file is closed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from benches import results, trajectories
from tracemill.core.examples import Example
from tracemill.core.ids import new_id
from tracemill.core.records import AnyRecord, Interaction
from tracemill.core.settings import Settings
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.version import Version
from tracemill.export import formats
from tracemill.export.rows import Format
from tracemill.export.write import export_version
from tracemill.store.hot import HotStore

RUNS = 5
FORMATS = ("openai-chat", "trl-sft")


def sample(name: str) -> Iterator[Interaction]:
    """Successful interactions of one kind; copies of a trajectory differ in their first message."""
    if name == "single turns of 2 KB":
        yield from trajectories.single_turns(20_000)
        return
    real = list(trajectories.whole())
    for copy in range(10):
        for record in real:
            first = {**record.messages[0], "content": f"{record.messages[0]['content']}\n\nCopy {copy}."}
            messages = [first, *record.messages[1:]]
            yield msgspec.structs.replace(record, id=new_id(), messages=messages, success=True, task_id=None)


def version_of(name: str, folder: Path) -> Version:
    """A version with one supervised example an interaction."""
    store = HotStore(f"sqlite:///{folder / 'store.db'}", Settings())
    records: Iterator[AnyRecord] = sample(name)
    while batch := list(islice(records, 1000)):
        store.append(batch)
    version = build_version(store, Recipe(name="bench", signals=("supervised",), split={"train": 1.0}), folder)
    store.close()
    return version


def timed(work: Callable[[], object]) -> float:
    """Seconds that a piece of work takes."""
    began = perf_counter()
    work()
    return perf_counter() - began


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def write_only(examples: list[Example], made: Format, path: Path) -> None:
    """Rows made and written, from examples in memory, unchecked and unsynced: what is left when only the file counts."""
    encode = msgspec.json.Encoder().encode
    with path.open("wb") as file:
        for example in examples:
            file.write(encode(made.row(example)[0]) + b"\n")


def measure(name: str, format: str, version: Version, folder: Path) -> dict[str, Any]:  # noqa: A002
    """One line of the table: both writers take turns, so that a busy moment of the machine meets both."""
    import datasets

    datasets.disable_progress_bars()
    from_list = datasets.Dataset.from_list
    ours, theirs = folder / "ours", folder / "theirs.jsonl"
    export_version(version, format, ours)
    rows = rows_of(ours / "train.jsonl")
    size = (ours / "train.jsonl").stat().st_size
    examples = list(version.examples())
    our_times, bare_times, their_times, json_times = [], [], [], []
    for _ in range(RUNS):
        shutil.rmtree(ours)
        our_times.append(timed(lambda: export_version(version, format, ours)))
        bare_times.append(timed(lambda: write_only(examples, formats.FORMATS[format], folder / "bare.jsonl")))
        theirs.unlink(missing_ok=True)
        their_times.append(timed(lambda: from_list(rows).to_json(str(theirs))))
        their_rows = rows_of(theirs)
        theirs.unlink()
        json_times.append(timed(lambda: from_list(rows, on_mixed_types="use_json").to_json(str(theirs))))
    kept = sum(one == other for one, other in zip(their_rows, rows, strict=True))
    shutil.rmtree(ours)
    assert rows_of(theirs) == rows
    times = (our_times, bare_times, their_times, json_times)
    our_time, bare_time, their_time, json_time = map(results.middle, times)
    return {
        "rows": f"{len(rows):,} {name}",
        "format": format,
        "MB": size / 1e6,
        "tracemill rows/s": round(len(rows) / our_time),
        "tracemill MB/s": size / 1e6 / our_time,
        "unchecked rows/s": round(len(rows) / bare_time),
        "datasets rows/s": round(len(rows) / their_time),
        "datasets MB/s": size / 1e6 / their_time,
        "rows it changed": len(rows) - kept,
        "datasets use_json rows/s": round(len(rows) / json_time),
    }


def main() -> None:
    """Measure and write benches/results/export.*"""
    import datasets

    table: list[dict[str, Any]] = []
    for name in ("real trajectories", "single turns of 2 KB"):
        if name == "real trajectories" and not trajectories.REAL.exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            version = version_of(name, Path(folder))
            table.extend(measure(name, made, version, Path(folder)) for made in FORMATS)
    results.write(
        "export",
        "Export speed",
        "python -m benches.export",
        table,
        [
            (
                f"Median of {RUNS} runs. Hugging Face datasets {datasets.__version__}, default settings: "
                "`Dataset.from_list(rows).to_json(path)`, from rows in memory, unchecked."
            ),
            (
                "tracemill: `export_version`. It reads the dataset version from disk, makes each row, parses its bytes again, "
                "accounts for every message, call id, name and argument value, and syncs the files to the device."
            ),
            (
                "unchecked: the same rows made from examples in memory and written, without checks and sync, to compare like "
                "with like. tracemill itself never does this."
            ),
            (
                "datasets changes a row when it gives every message the keys of all others, with null for those it lacks; "
                'with `on_mixed_types="use_json"` it keeps rows as they are.'
            ),
        ],
    )


if __name__ == "__main__":
    main()
