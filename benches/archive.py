"""A million interactions, half of them archived: what reading and erasing cost then. `python -m benches.archive [COUNT]`."""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

from benches import results
from tracemill.core.codec import encode
from tracemill.core.ids import derived_id, new_id, now
from tracemill.core.records import Feedback, Interaction, Model, User
from tracemill.core.settings import load_settings
from tracemill.store.base import Filter
from tracemill.workspace import Workspace

COUNT = 1_000_000
USERS = 10_000
DAYS = 60
RARE = "zyzzyva"


def interactions(count: int, workspace: Workspace, seed: int = 7) -> Iterator[Interaction]:
    """Conversations of four turns over sixty days: a thousand words, four platforms, ten thousand people."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(4000)]
    people = [workspace.pseudonym(f"user-{number}")[0] for number in range(USERS)]
    begin = now() - timedelta(days=DAYS)
    step = timedelta(days=DAYS) / count
    for number in range(count):
        conversation = number // 4
        person = conversation % USERS
        text = " ".join(draw.choices(words, k=40))
        if number % 100_000 == 17:
            text += f" {RARE}"
        yield Interaction(
            id=new_id(),
            time=begin + number * step,
            schema_version=1,
            producer="bench",
            sequence=number,
            platform=f"platform-{person % 4}",
            conversation_id=derived_id("bench", conversation),
            user=User(pseudonym=people[person], key_id="00000000"),
            model=Model(provider="openai", name=f"gpt-{draw.randint(1, 5)}"),
            messages=[{"role": "user", "content": text}],
            response={"role": "assistant", "content": " ".join(draw.choices(words, k=40))},
            success=draw.random() < 0.9,
            duration_ms=812.5,
            input_tokens=230,
            output_tokens=210,
        )


def feedback(about: Interaction, number: int) -> Feedback:
    """What one in a hundred people say."""
    return Feedback(
        id=new_id(),
        time=about.time,
        schema_version=1,
        producer="bench",
        sequence=number,
        platform=about.platform,
        interaction_id=about.id,
        kind="thumbs_up" if number % 300 else "thumbs_down",
        user=about.user,
    )


def fill(workspace: Workspace, count: int) -> tuple[float, int]:
    """Seconds to commit the records in batches of a thousand, and their bytes."""
    wall, size, batch = 0.0, 0, []
    for number, record in enumerate(interactions(count, workspace)):
        batch.append(encode(record))
        if number % 100 == 0:
            batch.append(encode(feedback(record, number)))
        if len(batch) >= 1000:
            began = perf_counter()
            workspace.store.append_encoded(batch)
            wall += perf_counter() - began
            size += sum(map(len, batch))
            batch = []
    return wall, size


def timed(verb: Callable[[], Any], rounds: int) -> list[float]:
    """Milliseconds of each round."""
    found = []
    for _ in range(rounds):
        began = perf_counter()
        verb()
        found.append((perf_counter() - began) * 1000)
    return found


def row(name: str, taken: list[float], aim: str = "") -> dict[str, Any]:
    """Median and 95th percentile of some milliseconds."""
    ordered = sorted(taken)
    return {
        "what": name,
        "rounds": len(taken),
        "p50 ms": results.middle(taken),
        "p95 ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))],
        "aim": aim,
    }


def reading(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """Statistics, pages and searches over both tiers."""
    draw = random.Random(3)
    store = workspace.store
    newest = store.watermark()

    def page(**fields: Any) -> Callable[[], Any]:
        return lambda: store.page(Filter(after=draw.randrange(newest), **fields), 100)

    def of_somebody() -> Any:
        return store.page(Filter(user=workspace.pseudonym(f"user-{draw.randrange(USERS)}")[0]), 100)

    def of_conversation() -> Any:
        return store.page(Filter(conversation_id=derived_id("bench", draw.randrange(newest // 4))), 100)

    aim = "p95 ≤ 200"
    yield row("statistics (sums)", timed(lambda: workspace.statistics(bodies=False), 20), aim)
    yield row("storage, costs, readiness: the first time", timed(workspace.storage_statistics, 1))
    yield row("storage, costs, readiness: again", timed(workspace.storage_statistics, 20), aim)
    yield row(
        "count by platform and outcome",
        timed(lambda: store.count(Filter(platforms=("platform-1",), success=False)), 20),
        aim,
    )
    yield row("page of 100, no filter", timed(page(), 60), aim)
    yield row("page of 100, platform and failure", timed(page(platforms=("platform-2",), success=False), 60), aim)
    yield row("page of 100, a model", timed(page(model="gpt-3"), 60), aim)
    yield row("page of 100, one person", timed(of_somebody, 60), aim)
    yield row("one conversation", timed(of_conversation, 60), aim)
    yield row("text search, a word said ten times", timed(lambda: store.search(RARE, Filter(), limit=100), 3))
    common = store.page(Filter(after=5), 1)[0][1]
    word = common.messages[0]["content"].split()[0] if isinstance(common, Interaction) else ""
    yield row("text search, a common word, first 100", timed(lambda: store.search(word, Filter(), limit=100), 5))


def main() -> None:
    """Measure and write the results."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings({"workspace": folder}, environment={})
        with Workspace.open(folder, settings=settings) as workspace:
            wall, raw = fill(workspace, count)
            hot = Path(folder, "store.db").stat().st_size
            stored = f"{count:,} interactions (some {raw / count:,.0f} bytes each) and {count // 100:,} feedbacks"
            notes = [f"{stored} were committed at {count * 1.01 / wall:,.0f} records/s."]
            report = workspace.archive(days_old=30)
            left = Path(folder, "store.db").stat().st_size
            pace = report.records / report.seconds
            cold = report.total("stored_bytes")
            objects = f"{len(report.objects)} objects at {pace:,.0f} rows/s, each read back and checked"
            sizes = f"{report.total('raw_bytes'):,} bytes raw, {cold:,} in the archive"
            notes.append(f"{report.records:,} records were archived into {objects}: {sizes}.")
            notes.append(f"The database went from {hot:,} to {left:,} bytes.")
        with Workspace.open(folder, settings=settings) as workspace:  # nothing in memory yet
            rows = list(reading(workspace))
            taken = timed(lambda: workspace.erase("user", "user-4321", reason="bench"), 1)
            rows.append(row("erasing one of 10,000 people", taken, "≤ 10,000"))
            rows.append(row("erasing another", timed(lambda: workspace.erase("user", "user-17"), 1), "≤ 10,000"))
            notes.append(
                f"A person has {count // USERS} interactions, half of them archived, over thirty days of objects."
            )
    results.write("archive", "Reading and erasing, half of it archived", "python -m benches.archive", rows, notes)


if __name__ == "__main__":
    main()
