"""A kill -9 at any line of writing and of draining: nothing acknowledged is lost, nothing is delivered or counted twice.

The child traces its own lines and kills itself at the given one, so every place gets its turn and none is left to chance.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sdk.support import MESSAGES, Memory, settings
from tracemill.core.records import Interaction
from tracemill.sdk.client import Client
from tracemill.sdk.spool import drain, inspect, read_summary

FAILPOINT = """
import os, signal, sys
from pathlib import Path

def kill_at(line, functions):
    '''Kill this process at the n-th line that runs in one of these functions of the SDK.'''
    left = line

    def lines(frame, event, argument):
        nonlocal left
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return lines

    def calls(frame, event, argument):
        code = frame.f_code
        return lines if "/sdk/" in code.co_filename and (not functions or code.co_name in functions) else None

    sys.settrace(calls)
"""
WRITER = (
    FAILPOINT
    + """
from tracemill.core.records import Interaction
from tracemill.core.settings import load_settings
from tracemill.sdk.client import Client

path = Path(sys.argv[1])
client = Client(path, load_settings({"workspace": str(path), "spool_segment_bytes": 65536}, environment={}))
for number in range(100):
    text = "x" * 600
    if number == 90:
        client.flush()
        kill_at(int(sys.argv[2]), ("write", "take_spare"))
    print(client.capture(Interaction, {"messages": [{"role": "user", "content": text}]}), flush=True)
    client.flush()
client.close()
"""
)
DRAINER = (
    FAILPOINT
    + """
from tracemill.sdk.delivery import Delivered
from tracemill.sdk.spool import drain
from tracemill.core import codec

class Store:
    def deliver(self, items):
        for item in items:
            os.write(1, codec.decode(item).id.encode() + b"\\n")
        return Delivered(len(items))

    def close(self):
        pass

kill_at(int(sys.argv[2]), ())
drain(Path(sys.argv[1]), Store(), batch_records=10)
"""
)


def run(code: str, path: Path, line: int) -> tuple[list[str], bool]:
    """The ids the child printed, and whether it was killed."""
    found = subprocess.run(
        [sys.executable, "-c", code, str(path), str(line)], capture_output=True, text=True, check=False, timeout=60
    )
    assert found.returncode in (0, -9), found.stderr
    return [name for name in found.stdout.split("\n")[:-1] if len(name) == 36], found.returncode == -9


@pytest.mark.parametrize("line", range(0, 200, 6))
def test_a_kill_at_any_line_of_a_capture_loses_nothing_acknowledged(tmp_path: Path, line: int) -> None:
    acknowledged, _ = run(WRITER, tmp_path, line)
    memory = Memory()
    drain(tmp_path, memory)
    counts = read_summary(tmp_path).counts
    assert len(acknowledged) >= 90
    assert set(acknowledged) <= set(memory.records)
    assert len(memory.records) <= len(acknowledged) + 1
    assert memory.taken == len(memory.records)
    assert counts.unaccounted == 0
    assert counts.stored == len(memory.records)


def test_a_kill_at_any_line_of_a_drain_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    line, killed, kills = 0, True, 0
    while killed:
        path = tmp_path / str(line)
        client = Client(path, settings(path))
        ids = {client.capture(Interaction, {"messages": MESSAGES}) for _ in range(35)}
        client.close()
        delivered, killed = run(DRAINER, path, line)
        kills += killed
        memory = Memory()
        drain(path, memory)
        counts = read_summary(path).counts
        assert set(delivered) | set(memory.records) == ids, line
        assert len(set(delivered) & set(memory.records)) <= 10, "one batch at most is sent again"
        assert (counts.captured, counts.stored, counts.dropped) == (35, 35, {}), line
        assert read_summary(path).producers == 1
        assert inspect(path).producers == []
        line += 29
    assert kills > 10
