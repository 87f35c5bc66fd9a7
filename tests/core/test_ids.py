"""Ids sort by time, never repeat, and can be derived from content."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.core import ids

PATTERN = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_ids_of_one_process_are_distinct_and_sort_in_the_order_made() -> None:
    made = [ids.new_id() for _ in range(20_000)]
    assert all(PATTERN.fullmatch(identity) for identity in made)
    assert made == sorted(set(made))


def test_an_id_carries_the_time_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    milliseconds = int(ids.new_id().replace("-", "")[:12], 16)
    assert before <= milliseconds <= before + 60_000


def test_a_clock_set_back_does_not_take_ids_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ids.new_id()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    made = [ids.new_id() for _ in range(10_000)]
    assert [first, *made] == sorted({first, *made})


def test_threads_never_get_the_same_id() -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend([ids.new_id() for _ in range(3000)])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 18_000


def test_a_forked_child_makes_other_ids() -> None:
    ids.new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "".join(ids.new_id() for _ in range(50)).encode())
        os._exit(0)
    own = {ids.new_id() for _ in range(50)}
    os.waitpid(child, 0)
    os.close(writing)
    data = os.read(reading, 50 * 36).decode()
    os.close(reading)
    theirs = {data[start : start + 36] for start in range(0, len(data), 36)}
    assert len(theirs) == 50
    assert not own & theirs
    assert not {identity[-16:] for identity in own} & {identity[-16:] for identity in theirs}


def test_a_signal_handler_may_make_ids() -> None:
    made: list[str] = []
    previous = signal.signal(signal.SIGALRM, lambda *_: made.append(ids.new_id()))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        own = [ids.new_id() for _ in range(60_000)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert made
    assert len({*own, *made}) == len(own) + len(made)


parts = st.lists(st.text() | st.integers(), min_size=1, max_size=4)


@given(parts)
def test_a_derived_id_is_a_function_of_its_parts(values: list[Any]) -> None:
    assert ids.derived_id(*values) == ids.derived_id(*values)
    assert PATTERN.fullmatch(ids.derived_id(*values))


def test_derived_ids_tell_parts_apart() -> None:
    variants = [("a", "b"), ("ab",), ("a", "b", ""), (1,), ("1",), ("a\x1fstr:b",)]
    assert len({ids.derived_id(*variant) for variant in variants}) == len(variants)


def test_a_derived_id_carries_the_moment_the_source_states() -> None:
    moment = datetime(2024, 5, 15, 19, tzinfo=UTC)
    assert ids.derived_id("x", moment=moment) < ids.derived_id("x", moment=moment + timedelta(milliseconds=1))
    assert int(ids.derived_id("x").replace("-", "")[:12], 16) == 0


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)))
def test_moments_survive_as_microseconds(moment: datetime) -> None:
    assert ids.from_microseconds(ids.microseconds(moment)) == moment


def test_id_bytes_and_text() -> None:
    identity = ids.new_id()
    assert ids.id_text(ids.id_bytes(identity)) == identity
    for wrong in ("", "abc", "zz" * 16, identity + "00"):
        with pytest.raises(ValueError, match=r".*"):
            ids.id_bytes(wrong)
