"""The recipe of `benches.build` in datatrove, run by a Python that has it: `python -m benches.build_datatrove FOLDER WORKERS`.

Filters of the same meaning, then its four stages of MinHash deduplication with bands and rows for the same threshold, then
OpenAI chat rows. It keeps the first of near duplicates, not the best, verifies no candidate, and records no fates.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

BUCKETS, ROWS = 16, 6
_WORD = re.compile(r"[^\W_]+")
_REFUSAL = re.compile(r"\bI(?:'m sorry, but I)? can(?:no|')t (?:help|assist) with", re.IGNORECASE)


def keeps(document: Any) -> bool:
    """Completed, successful, of four messages or more, each with a text, no refusal, no circles."""
    metadata = document.metadata
    messages = metadata["messages"]
    if metadata.get("finish_reason") == "length" or metadata.get("success") is not True or len(messages) < 4:
        return False
    roles = [message["role"] for message in messages if message["role"] != "system"]
    if roles != ["user", "assistant"] * (len(roles) // 2) or not all(message["content"] for message in messages):
        return False
    said = [message["content"] for message in messages if message["role"] == "assistant"]
    return not _REFUSAL.search(said[-1]) and not any(repeats(content) for content in said)


def repeats(content: str) -> bool:
    """Whether one n-gram makes too much of a turn, as Gopher's rules have it."""
    found = _WORD.findall(content.lower())
    if len(found) < 50:
        return False
    total = sum(map(len, found))
    for size, limit in ((2, 0.20), (3, 0.18), (4, 0.16)):
        gram, times = Counter(zip(*(found[at:] for at in range(size)), strict=False)).most_common(1)[0]
        if times > 2 and times * sum(map(len, gram)) > limit * total:
            return True
    return False


def chat(_writer: Any, document: Any) -> dict[str, Any]:
    """The row of a conversation."""
    return {"messages": document.metadata["messages"]}


def main() -> None:
    """Filter, deduplicate, write; prints the seconds of the two halves and the rows."""
    folder, workers = Path(sys.argv[1]), int(sys.argv[2])
    config = MinhashConfig(n_grams=3, num_buckets=BUCKETS, hashes_per_bucket=ROWS)

    def stage(name: str, pipeline: list[Any], tasks: int) -> None:
        LocalPipelineExecutor(
            pipeline=pipeline, tasks=tasks, workers=min(workers, tasks), logging_dir=str(folder / "logs" / name)
        ).run()

    began = perf_counter()
    kept, signatures, buckets, removed = (str(folder / name) for name in ("kept", "signatures", "buckets", "removed"))
    stage(
        "filter",
        [JsonlReader(str(folder / "input")), LambdaFilter(keeps), JsonlWriter(kept, compression=None)],
        workers,
    )
    filtered = perf_counter() - began
    reader = JsonlReader(kept)
    stage("signatures", [reader, MinhashDedupSignature(signatures, config=config)], workers)
    stage("buckets", [MinhashDedupBuckets(signatures, buckets, config=config)], BUCKETS)
    stage("cluster", [MinhashDedupCluster(buckets, removed, config=config)], 1)
    writer = JsonlWriter(str(folder / "output"), compression=None, adapter=chat)
    stage("rows", [reader, MinhashDedupFilter(removed), writer], workers)
    rows = sum(1 for path in (folder / "output").iterdir() for _ in path.open())
    print(json.dumps({"filter": filtered, "duplicates": perf_counter() - began - filtered, "rows": rows}))


if __name__ == "__main__":
    main()
