"""Run by test_memory.py: ``python -m tests.dataset.memory_child COUNT FOLDER`` fills a store and builds, and prints peaks.

The peaks of resident memory, in bytes, of the building process and of its largest worker.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from itertools import islice
from pathlib import Path

from benches.build import recipe
from benches.conversations import encoded
from tracemill.core.settings import Settings
from tracemill.dataset.build import build_version
from tracemill.store.hot import HotStore


def main() -> None:
    """Fill in one process, build in another: filling must not count."""
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    url = f"sqlite:///{folder / 'store.db'}"
    store = HotStore(url, Settings())
    if count:
        records = encoded(count)
        while batch := list(islice(records, 1000)):
            store.append_encoded(batch)
        store.close()
        print(
            subprocess.check_output([sys.executable, "-m", "tests.dataset.memory_child", "0", str(folder)], text=True)
        )
        return
    version = build_version(store, recipe(), folder, settings=Settings(workers=2))
    store.close()
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(json.dumps({"own": peak(), "worker": workers, "rows": version.count()}))


def peak() -> int:
    """The most resident memory of this program. What ``getrusage`` says of oneself counts the program before it too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
