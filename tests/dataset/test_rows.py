"""Examples come back from their lines as they were."""

from __future__ import annotations

import math

import pytest
from hypothesis import given

from tests.dataset.examples import examples
from tests.dataset.support import record_id, says
from tracemill.core.errors import DatasetError
from tracemill.core.examples import Example, SupervisedExample
from tracemill.dataset.rows import decode_line, encode_line


@given(examples)
def test_every_example_survives_its_line(example: Example) -> None:
    line = encode_line(example)
    assert b"\n" not in line
    assert decode_line(line) == example
    assert encode_line(decode_line(line)) == line


@pytest.mark.parametrize("value", [math.inf, -math.inf, 10**600, -(2**64), "\ud800", b"\x00\xff", "\x00tm:int:ff", 1.0])
def test_what_json_has_no_word_for_survives(value: object) -> None:
    message = says("user", "q", odd=[value])
    example = SupervisedExample(id=record_id("e"), sources=[], signal="s", messages=[message])
    back = decode_line(encode_line(example))
    assert back == example
    assert isinstance(back, SupervisedExample)
    assert type(back.messages[0]["odd"][0]) is type(value)


def test_nan_survives() -> None:
    example = SupervisedExample(id=record_id("e"), sources=[], signal="s", messages=[says("user", "q", odd=math.nan)])
    back = decode_line(encode_line(example))
    assert isinstance(back, SupervisedExample)
    assert math.isnan(back.messages[0]["odd"])


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"example":"other"}', b'{"example":"supervised"}', b"\xff"])
def test_what_is_no_example_is_refused(line: bytes) -> None:
    with pytest.raises(DatasetError, match="no example"):
        decode_line(line)
