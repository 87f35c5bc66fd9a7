"""Runs every benchmark, one after the other."""

from __future__ import annotations

import subprocess
import sys

NAMES = (
    "capture",
    "ingest",
    "bytes_kept",
    "archive",
    "export",
    "server",
    "proxy",
    "duplicates",
    "planted",
    "redaction",
    "certificate",
)

for name in NAMES:
    print(f"== {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benches.{name}"], check=True)
