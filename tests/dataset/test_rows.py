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


def test_what_json_has_no_word_for_survives() -> None:
    odd = {"nan": math.nan, "infinite": -math.inf, "large": 10**5000, "half": "\ud800", "raw": b"\x00\xff"}
    example = SupervisedExample(id=record_id("e"), sources=[], signal="s", messages=[says("user", "q", odd=odd)])
    back = decode_line(encode_line(example))
    assert isinstance(back, SupervisedExample)
    found = back.messages[0]["odd"]
    assert math.isnan(found.pop("nan"))
    assert found == {key: value for key, value in odd.items() if key != "nan"}


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"example":"other"}', b'{"example":"supervised"}', b"\xff"])
def test_what_is_no_example_is_refused(line: bytes) -> None:
    with pytest.raises(DatasetError, match="no example"):
        decode_line(line)
