"""Objects of the host become plain values; what is lost is marked and nothing of the host is run that could do harm."""

from __future__ import annotations

import dataclasses
import decimal
import enum
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given

from tests import strategies
from tracemill.core import codec
from tracemill.core.ids import new_id, now
from tracemill.core.records import Interaction
from tracemill.sdk.plain import to_plain


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    inner: Any = None


class Raising:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Lazy:
    @property
    def data(self) -> Any:
        pytest.fail("a property of the host was run")

    def __iter__(self) -> Iterator[Any]:
        pytest.fail("the host was iterated")


@given(strategies.json_values)
def test_json_like_values_stay_as_they_are(value: Any) -> None:
    assert to_plain(value) == value


def test_common_objects_become_their_values() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    value = {
        "enum": Colour.RED,
        "point": Point(1, Point(2)),
        "decimal": decimal.Decimal("1.50"),
        "path": Path("/a/b"),
        "set": {3, 1, 2},
        "delta": timedelta(seconds=90),
        "moment": moment,
        "ordered": OrderedDict(a=1),
        "bytes": bytearray(b"x"),
        7: "number key",
    }
    assert to_plain(value) == {
        "enum": "red",
        "point": {"x": 1, "inner": {"x": 2, "inner": None}},
        "decimal": "1.50",
        "path": "/a/b",
        "set": [1, 2, 3],
        "delta": 90.0,
        "moment": moment,
        "ordered": {"a": 1},
        "bytes": b"x",
        "7": "number key",
    }


def test_odd_objects_are_marked_and_never_run() -> None:
    cycle: list[Any] = [1]
    cycle.append(cycle)
    found = to_plain([Lazy(), Raising(), (number for number in [1]), cycle, object, lambda: 1])
    assert found[0]["$type"].endswith("Lazy")
    assert "RuntimeError" in found[1]["$repr"]
    assert "generator" in found[2]["$type"]
    assert found[3][1]["$cut"] == "holds itself"
    codec.encode(Interaction(id=new_id(), time=now(), schema_version=1, producer="p", sequence=0, extra={"x": found}))


def test_a_bomb_is_cut() -> None:
    bomb: Any = 1
    for _ in range(900):
        bomb = [bomb]
    assert codec.nesting(to_plain(bomb)) < codec.MAX_DEPTH


def test_a_whole_record_is_made_plain() -> None:
    record = Interaction(
        id=new_id(),
        time=now(),
        schema_version=1,
        producer="p",
        sequence=0,
        artifact=Point(1),
        extra={"e": msgspec.msgpack.Ext(1, b"x")},
    )
    plain = to_plain(record)
    assert plain.artifact == {"x": 1, "inner": None}
    assert codec.decode(codec.encode(plain)) == plain


def test_numpy_values_become_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    assert to_plain(
        {"a": numpy.float64(1.5), "b": numpy.int32(3), "c": numpy.array([1, 2]), "d": numpy.bool_(True)}
    ) == {
        "a": 1.5,
        "b": 3,
        "c": [1, 2],
        "d": True,
    }
