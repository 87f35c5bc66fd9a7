"""Leaks are looked for in every row, however many there are, from files: as an index in memory would find them."""

from __future__ import annotations

import gc
import random
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import interaction, says, user
from tracemill.core.certificate import Check
from tracemill.core.examples import SupervisedExample
from tracemill.core.records import AnyRecord
from tracemill.dataset import leaks
from tracemill.dataset.leaks import SIMILARITY, Leaks
from tracemill.quality.duplicates import Document, DuplicateIndex

SPLITS = ("train", "validation", "test")
BASES = [" ".join(f"{letter}{number}" for number in range(24)) for letter in "abcdef"]


@st.composite
def said(draw: st.DrawFn) -> str:
    """One of a few long texts with some words changed, so that some are alike, some equal and some neither."""
    words = draw(st.sampled_from(BASES)).split()
    for at in draw(st.lists(st.integers(0, 23), max_size=3)):
        words[at] = draw(st.sampled_from(["x", "y", "z"]))
    return (
        " ".join(words) if draw(st.booleans()) else draw(st.sampled_from(["", "yes", " ".join(words), "\ud800 half"]))
    )


def row(number: int, content: str) -> SupervisedExample:
    return SupervisedExample(id=str(number), sources=[], signal="supervised", messages=[says("user", content)])


def looked(rows: list[tuple[str, str]], folder: Path) -> dict[str, Check]:
    with Leaks(folder) as found:
        for number, (split, content) in enumerate(rows):
            found.add(split, row(number, content), [])
        return {check.name: check for check in found.checks()}


def expected(rows: list[tuple[str, str]]) -> tuple[int, int]:
    """Rows in clusters that reach over splits, and clusters, by the index in memory."""
    from tracemill.dataset.parts import content

    index = DuplicateIndex(SIMILARITY)
    index.add(Document(str(number), content(row(number, text))) for number, (_, text) in enumerate(rows))
    crossing = 0
    for cluster in index.clusters():
        members = [cluster.kept, *(one.id for one in cluster.duplicates)]
        if len({rows[int(member)][0] for member in members}) > 1:
            crossing += len(members)
    return crossing, len(index.clusters())


@given(st.lists(st.tuples(st.sampled_from(SPLITS), said()), min_size=1, max_size=40), st.integers(1, 15))
def test_near_duplicates_are_those_of_the_index(rows: list[tuple[str, str]], per_file: int) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaks, "SHARD_ROWS", per_file)
        check = looked(rows, Path(name))["split.near_duplicates"]
    if len({split for split, _ in rows}) < 2:
        assert (check.state, check.reason) == ("passed", "there is one split")
        return
    assert (check.hits, check.detail["clusters"]) == expected(rows)
    assert check.total == len(rows)


@given(st.lists(st.tuples(st.sampled_from(SPLITS), st.integers(0, 5), st.integers(0, 5)), max_size=30))
def test_what_splits_share_is_counted_through_files(rows: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as name, Leaks(Path(name), run_bytes=400) as found:
        for number, (split, person, talk) in enumerate(rows):
            who, where = user(f"p{person}"), f"c{talk}"
            source: AnyRecord = interaction(str(number), [says("user", "q")], user=who, conversation_id=where)
            example = SupervisedExample(
                id=str(number), sources=[source.id], signal="s", messages=[says("user", f"t{talk}")]
            )
            found.add(split, example, [source])
        checks = {check.name: check for check in found.checks()}
    for kind, at in (("shared_user", 1), ("shared_conversation", 2), ("equal_content", 2)):
        splits: dict[int, set[str]] = {}
        for one in rows:
            splits.setdefault(int(one[at]), set()).add(one[0])
        crossing = sum(len(places) > 1 for places in splits.values())
        check = checks[f"split.{kind}"]
        assert (check.hits or 0, check.total or 0) == (crossing, len(splits))
        assert check.state == ("failed" if crossing else "passed" if rows or kind != "equal_content" else "unknown")


def peak(total: int, folder: Path) -> int:
    """The most bytes that looking at some rows took at once."""
    draw = random.Random(3)
    gc.collect()
    tracemalloc.start()
    try:
        with Leaks(folder, run_bytes=50_000) as found:
            for number in range(total):
                said = " ".join(f"{letter}{draw.randrange(1 << 30)}" for letter in "abcdefgh" * 5)
                found.add("test" if number % 2 else "train", row(number, f"{said} {number}"), [])
            checks = {check.name: check for check in found.checks()}
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        assert checks["split.near_duplicates"].state == "passed"
        assert checks["split.near_duplicates"].total == total


def test_memory_grows_by_a_few_bytes_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index in memory takes 2.3 KB a row, which is why there was a number of rows beyond which nothing was compared."""
    monkeypatch.setattr(leaks, "SHARD_ROWS", 500)
    few, many = 1500, 4500
    for name in ("warm", "few", "many"):
        (tmp_path / name).mkdir()
    peak(100, tmp_path / "warm")
    grown = peak(many, tmp_path / "many") - peak(few, tmp_path / "few")
    assert grown / (many - few) < 250
