"""Ten times the conversations do not need more memory but for a few hundred bytes each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SMALL, LARGE = 2_000, 20_000
MESSAGES = 4_300
"""Bytes of the messages of one conversation: what must not be held."""
NARROW = 1_500
"""Bytes that ids, digests, groups and scores of one may take."""


def peaks(count: int, folder: Path) -> dict[str, int]:
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
    command = [sys.executable, "-m", "tests.dataset.memory_child", str(count), str(folder)]
    printed = subprocess.check_output(command, text=True, env=environment)
    found: dict[str, int] = json.loads(printed.strip().splitlines()[-1])
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
@pytest.mark.timeout(300)
def test_memory_does_not_grow_with_what_is_said(tmp_path: Path) -> None:
    small, large = peaks(SMALL, tmp_path / "small"), peaks(LARGE, tmp_path / "large")
    assert large["rows"] > 8 * small["rows"]
    more = LARGE - SMALL
    buffers = 40 * 1024 * 1024  # one range of drafts and one run, which 2,000 conversations do not fill
    assert large["own"] - small["own"] < buffers + NARROW * more
    assert buffers + NARROW * more < MESSAGES * more  # so that holding the messages would fail
    assert large["own"] < 300 * 1024 * 1024
    assert large["worker"] < 300 * 1024 * 1024
