"""How a process ends: at its exit, in a child made by multiprocessing, and out of file descriptors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.sdk.support import Memory
from tracemill.sdk.spool import drain, inspect, read_summary

BEGIN = """
import atexit, os, sys, time
from pathlib import Path
from tracemill.core.records import Interaction
from tracemill.core.settings import load_settings
from tracemill.sdk.client import Client
from tracemill.sdk.delivery import Delivered

path = Path(sys.argv[1])
given = {"workspace": str(path), "exit_timeout_seconds": 1, "delivery_interval_ms": 5, "raise_errors": "never"}
settings = load_settings(given, environment={})
fields = {"messages": [{"role": "user", "content": "hello"}]}
large = {"messages": [{"role": "user", "content": "x" * 100_000}]}

class Store:
    def deliver(self, items):
        if sys.argv[2] == "hung":
            time.sleep(3600)
        return Delivered(len(items))

    def close(self):
        pass
"""


def run(code: str, path: Path, *arguments: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", BEGIN + code, str(path), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.returncode == 0, found.stderr
    assert "Traceback" not in found.stderr
    return found.stdout


def test_what_is_captured_just_before_the_end_is_delivered(tmp_path: Path) -> None:
    run(
        "client = Client(path, settings, Store)\n"
        "for _ in range(200): client.capture(Interaction, fields)\n"
        "client.capture(Interaction, large)",
        tmp_path,
        "alive",
    )
    counts = read_summary(tmp_path).counts
    assert (counts.captured, counts.stored, counts.unaccounted) == (201, 201, 0)
    assert inspect(tmp_path).producers == []


def test_a_hung_store_does_not_keep_a_process_from_ending(tmp_path: Path) -> None:
    run(
        "client = Client(path, settings, Store)\n"
        "for _ in range(200): client.capture(Interaction, fields)\n"
        "client.capture(Interaction, large)",
        tmp_path,
        "hung",
    )
    memory = Memory()
    assert drain(tmp_path, memory).stored == 201
    assert read_summary(tmp_path).counts.unaccounted == 0


def test_a_handler_that_captures_after_us_harms_nothing(tmp_path: Path) -> None:
    """Handlers run last registered first, so this one comes after ours, when everything is closed."""
    code = (
        "client = None\n"
        "def late(): print(bool(client.capture(Interaction, large)), client.counts().dropped)\n"
        "atexit.unregister(__import__('tracemill.sdk.client').sdk.client._close_all)\n"
        "atexit.register(late)\n"
        "atexit.register(__import__('tracemill.sdk.client').sdk.client._close_all)\n"
        "client = Client(path, settings, Store)\n"
        "client.capture(Interaction, fields)"
    )
    assert run(code, tmp_path, "alive") == "True {'closed': 1}\n"
    assert read_summary(tmp_path).counts.stored == 1


def test_a_first_capture_at_exit_is_kept(tmp_path: Path) -> None:
    code = "client = Client(path, settings, Store)\natexit.register(lambda: client.capture(Interaction, large))"
    run(code, tmp_path, "alive")
    memory = Memory()
    drain(tmp_path, memory)
    counts = read_summary(tmp_path).counts
    assert (counts.captured, counts.stored, counts.unaccounted) == (1, 1, 0)


def test_children_of_multiprocessing_leave_their_records_to_the_parent(tmp_path: Path) -> None:
    """Such a child ends without its exit handlers."""
    code = (
        "import multiprocessing\n"
        "client = Client(path, settings)\n"
        "client.capture(Interaction, fields)\n"
        "def work():\n"
        "    for _ in range(50): client.capture(Interaction, fields)\n"
        "    client.flush(10)\n"
        "context = multiprocessing.get_context('fork')\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "children = [context.Process(target=work) for _ in range(3)]\n"
        "[child.start() for child in children]; [child.join() for child in children]\n"
        "print(client.counts().captured)"
    )
    assert run(code, tmp_path, "alive") == "1\n"
    memory = Memory()
    drained = drain(tmp_path, memory)
    assert (len(memory.records), drained.producers) == (151, 4)
    assert len({record.producer for record in memory.records.values()}) == 4
    assert read_summary(tmp_path).counts.unaccounted == 0


def test_without_file_descriptors_records_are_counted_and_it_recovers(tmp_path: Path) -> None:
    code = (
        "import resource\n"
        "tight = load_settings({**given, 'queue_max_records': 5, 'spool_segment_bytes': 65536}, environment={})\n"
        "client = Client(path, tight)\n"
        "client.capture(Interaction, fields); client.flush(10)\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))\n"
        "held = []\n"
        "try:\n"
        "    while True: held.append(os.open('/dev/null', os.O_RDONLY))\n"
        "except OSError: pass\n"
        "text = {'messages': [{'role': 'user', 'content': 'x' * 5000}]}\n"
        "for _ in range(500): client.capture(Interaction, text); client.flush(0.002)\n"
        "counts = client.counts()\n"
        "print(counts.dropped.get('spool_error', 0) > 100, counts.unaccounted)\n"
        "for descriptor in held: os.close(descriptor)\n"
        "client.flush(20)\n"
        "before = client.counts().spooled\n"
        "client.capture(Interaction, fields)\n"
        "print(client.flush(20), client.counts().spooled - before, client.counts().unaccounted)"
    )
    assert run(code, tmp_path, "alive") == "True 0\nTrue 1 0\n"
