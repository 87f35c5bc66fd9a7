"""From a store of a million conversations to a training file: `python -m benches.build [--sizes 10000,100000] [--peer N]`.

The recipe: well formed, completed, sound text, at least four messages, near duplicates left out; imitation of what
succeeded; a hold-out split; then OpenAI chat JSON Lines. Each size is built in a process of its own, whose memory is
watched together with that of its workers. With ``--peer`` datatrove does the like with so many of the same conversations,
from JSON Lines, with as many processes (``--datatrove`` is a Python that has it); see :mod:`benches.build_datatrove`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil

from benches import results
from benches.conversations import encoded, interactions
from tracemill.core.settings import Settings, load_settings
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe, parse_recipe
from tracemill.export.write import export_version
from tracemill.store.hot import HotStore
from tracemill.store.tiered import open_store

SIZES = (10_000, 100_000, 1_000_000)
MIB = 1024 * 1024


def recipe() -> Recipe:
    """What is measured."""
    steps = ["well_formed", "completed", "sound_text", {"minimum_messages": {"count": 4}}, "duplicate_patterns"]
    split = {"train": 0.98, "test": 0.02}
    return parse_recipe({"name": "bench", "steps": steps, "signals": ["supervised"], "split": split})


def fill(folder: Path, count: int) -> None:
    """A store with so many conversations; one that is there is used again."""
    if (folder / "filled").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    store = HotStore(f"sqlite:///{folder / 'store.db'}", Settings())
    records = encoded(count)
    while batch := list(islice(records, 1000)):
        store.append_encoded(batch)
    store.close()
    (folder / "filled").touch()


def build(folder: Path) -> dict[str, float]:
    """Build and export; gives the seconds of each stage and the rows."""
    settings = load_settings({"workspace": str(folder)}, environment={})
    seconds: dict[str, float] = {}
    began = last = perf_counter()

    def note(stage: str, _done: int, _total: int | None) -> None:
        nonlocal last
        now = perf_counter()
        seconds[stage] = seconds.get(stage, 0.0) + now - last
        last = now

    for name in ("datasets", "exports"):
        shutil.rmtree(folder / name, ignore_errors=True)
    store = open_store(settings)
    version = build_version(store, recipe(), folder / "datasets", settings=settings, progress=note)
    seconds["build"] = perf_counter() - began
    report = export_version(version, "openai-chat", folder / "exports", progress=note)
    seconds["whole"] = perf_counter() - began
    seconds["rows"] = float(report.rows)
    store.close()
    return seconds


class Watched:
    """What a process and all it started took, looked at three times a second: the most memory at once, processor time.

    ``resident`` counts pages that several of them share once a process; ``proportional`` (Linux) divides them up.
    """

    def __init__(self, process: int) -> None:
        self.resident = self.proportional = 0
        self._used: dict[tuple[int, float], float] = {}
        self._process = psutil.Process(process)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.3):
            resident = proportional = 0
            try:
                for one in (self._process, *self._process.children(recursive=True)):
                    memory, times = one.memory_full_info(), one.cpu_times()
                    self._used[one.pid, one.create_time()] = times.user + times.system
                    resident += memory.rss
                    proportional += getattr(memory, "pss", memory.rss)
            except psutil.Error:
                continue
            self.resident, self.proportional = max(self.resident, resident), max(self.proportional, proportional)

    @property
    def processor_seconds(self) -> float:
        """What all of them took of processors, up to the last look at each."""
        return sum(self._used.values())

    def end(self) -> None:
        """Watch no more."""
        self._over.set()
        self._thread.join()


def run(command: list[str], environment: dict[str, str] | None = None) -> tuple[dict[str, Any], Watched, float]:
    """What a process prints as JSON on its last line, what it took of memory and processors, and its seconds."""
    began = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    watched = Watched(process.pid)
    output, _ = process.communicate()
    watched.end()
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return json.loads(output.splitlines()[-1]), watched, perf_counter() - began


def measure(folder: Path, count: int) -> dict[str, Any]:
    """One row of the table."""
    store = folder / str(count)
    fill(store, count)
    load = os.getloadavg()[0]
    found, watched, _ = run([sys.executable, "-m", "benches.build", "--one", str(store)])
    compare = found.get("compare texts", 0.0)
    merge = found.get("write examples", 0.0)
    return {
        "by": "tracemill",
        "interactions": count,
        "rows": int(found["rows"]),
        "seconds": found["whole"],
        "processor seconds": watched.processor_seconds,
        "read": found["read records"],
        "duplicates": compare,
        "rows written": merge,
        "fates": found.get("write fates", 0.0),
        "documents": found.get("describe examples", 0.0),
        "export": found["whole"] - found["build"],
        "interactions/s": count / found["whole"],
        "peak resident MiB": watched.resident / MIB,
        "peak proportional MiB": watched.proportional / MIB,
        "load before": load,
    }


def peer(folder: Path, count: int, python: str) -> dict[str, Any]:
    """The same by datatrove."""
    work = folder / f"datatrove-{count}"
    shutil.rmtree(work, ignore_errors=True)
    (work / "input").mkdir(parents=True)
    workers = os.cpu_count() or 1
    files = [(work / "input" / f"{number:02d}.jsonl").open("w") for number in range(workers)]
    for number, one in enumerate(interactions(count)):
        messages = [*one.messages, one.response]
        said = "\n".join(m["content"] for m in messages if m is not None and m["role"] != "system")
        metadata = {"messages": messages, "finish_reason": one.finish_reason, "success": one.success}
        row = {"id": one.id, "text": said, "metadata": metadata}
        files[number % workers].write(json.dumps(row) + "\n")
    for file in files:
        file.close()
    command = [python, "-m", "benches.build_datatrove", str(work), str(workers)]
    load = os.getloadavg()[0]
    found, watched, seconds = run(command, {**os.environ, "PYTHONPATH": str(Path.cwd())})
    shutil.rmtree(work)
    return {
        "by": "datatrove",
        "interactions": count,
        "rows": found["rows"],
        "seconds": seconds,
        "processor seconds": watched.processor_seconds,
        "read": found["filter"],
        "duplicates": found["duplicates"],
        "rows written": 0.0,
        "fates": None,
        "documents": None,
        "export": None,
        "interactions/s": count / seconds,
        "peak resident MiB": watched.resident / MIB,
        "peak proportional MiB": watched.proportional / MIB,
        "load before": load,
    }


def notes(rows: list[dict[str, Any]]) -> list[str]:
    """What the figures say."""
    ours = {row["interactions"]: row for row in rows if row["by"] == "tracemill"}
    found = []
    for small, large in zip(sorted(ours), sorted(ours)[1:], strict=False):
        ratio = ours[large]["seconds"] / ours[small]["seconds"]
        found.append(
            f"{large // small} times the conversations took {ratio:.1f} times as long ({small:,} to {large:,})."
        )
    for row in rows:
        if row["by"] == "datatrove":
            nearest = ours[min(ours, key=lambda count: abs(count - row["interactions"]))]
            ratio = nearest["interactions/s"] / row["interactions/s"]
            spent = (
                row["processor seconds"] / row["interactions"] * nearest["interactions"] / nearest["processor seconds"]
            )
            found.append(
                f"tracemill does {ratio:.1f} times the conversations a second of datatrove, with 1/{spent:.1f} of the "
                f"processor time ({nearest['interactions']:,} against {row['interactions']:,} of them)."
            )
    return found


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--folder", type=Path, default=Path("bench-build"))
    parser.add_argument("--peer", type=int, default=0)
    parser.add_argument("--datatrove", default=sys.executable)
    parser.add_argument("--one", type=Path)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(build(given.one)))
        return
    rows = [measure(given.folder, int(size)) for size in given.sizes.split(",")]
    if given.peer:
        rows.append(peer(given.folder, given.peer, given.datatrove))
    results.write("build", "Building a dataset", "python -m benches.build", rows, [*NOTES, *notes(rows)])


NOTES = (
    "Conversations of about 4.4 KB each, of which some are planted to be left out; see `benches/conversations.py`.",
    "seconds is from the open store to the checked OpenAI chat file, the other columns are its stages.",
    "load before is the machine's load average of one minute: with others at work, seconds are many times what they are alone.",
    "Memory is that of the process and its workers together; pages that they share are counted once a process as resident.",
)

if __name__ == "__main__":
    main()
