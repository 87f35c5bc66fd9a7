"""Batches of bytes: every entry is judged by itself, and none harms another."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strategies
from tracemill.capture.ingest import decode_batch
from tracemill.core import codec
from tracemill.core.errors import RecordError
from tracemill.core.ids import new_id, now
from tracemill.core.records import AnyRecord, Interaction

GOOD = codec.encode_json(Interaction(id=new_id(), time=now(), schema_version=1, producer="p", sequence=0))
POISON = {
    "a lone surrogate": (b'{"a": "\\ud800"}', "invalid"),
    "a long integer": (b'{"a": 1' + b"0" * 5000 + b"}", "invalid"),
    "nested too deeply": (b"[" * 300 + b"]" * 300, "too_deep"),
    "nested beyond every parser": (b'[{"a": "]"}, ' + b'{"a":[' * 50_000 + b"]}" * 50_000 + b"]", "too_deep"),
    "not a number": (b'{"a": NaN}', "invalid"),
    "marked bytes": (b'{"a": "\\u0000tm:bytes:QUI="}', "invalid"),
    "nothing": (b"null", "invalid"),
    "a text with commas and brackets": (b'"],["', "invalid"),
}


@pytest.mark.parametrize("name", POISON)
@pytest.mark.parametrize("separator", [b",", b" , \r\n"])
def test_a_poisoned_element_of_an_array_leaves_the_others_alone(name: str, separator: bytes) -> None:
    poison, reason = POISON[name]
    records, (reject,) = decode_batch(b"\xef\xbb\xbf [" + separator.join([GOOD, poison, GOOD]) + b" ]\n")
    assert records == [codec.decode_json(GOOD)] * 2
    assert (reject.place, reject.reason, reject.raw) == ("entry 1", reason, poison)


@pytest.mark.parametrize("name", POISON)
def test_a_poisoned_line_leaves_the_others_alone(name: str) -> None:
    poison, reason = POISON[name]
    records, (reject,) = decode_batch(GOOD + b"\r\n\n" + poison + b"\n" + GOOD)
    assert records == [codec.decode_json(GOOD)] * 2
    assert (reject.place, reject.reason, reject.raw) == ("line 3", reason, poison)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"[" + GOOD, "malformed"),
        (b"[" + GOOD + b",]", "malformed"),
        (b"[" + GOOD + b" " + GOOD + b"]", "malformed"),
        (b"[" + GOOD + b"] x", "malformed"),
        (b"[NaN] x", "malformed"),
        (b"[NaN NaN]", "malformed"),
        (b"[NaN;NaN]", "malformed"),
        (b"[\xff]", "malformed"),
        (b"[" * 200_000, "too_deep"),
        (b"[" * 50_000 + b"]" * 50_000 + b" x", "too_deep"),
        (b'["' + b"[" * 50_000, "malformed"),
        (b"[" + b"[" * 50_000 + b"]" * 50_000 + b', "', "too_deep"),
    ],
    ids=range(12),
)
def test_an_array_that_is_none_is_refused_whole(data: bytes, reason: str) -> None:
    records, (reject,) = decode_batch(data)
    assert records == []
    assert (reject.place, reject.reason, reject.raw) == ("batch", reason, data)


@pytest.mark.parametrize("data", [b"", b"\n \r\n", b"[]", b"\xef\xbb\xbf[ ]"])
def test_nothing_is_no_record_and_no_reject(data: bytes) -> None:
    assert decode_batch(data) == ([], [])


@settings(max_examples=30)
@given(st.lists(strategies.records, max_size=4))
def test_both_forms_give_the_records_that_were_sent(records: list[AnyRecord]) -> None:
    lines = [codec.encode_json(record) for record in records]
    assert decode_batch(b"\n".join(lines)) == (records, [])
    assert decode_batch(b"[" + b",".join(lines) + b"]") == (records, [])


@given(st.binary(max_size=60) | st.text('[]{},:" \n\\\\uNa1', max_size=40).map(str.encode))
def test_no_bytes_whatever_are_a_crash(data: bytes) -> None:
    records, rejects = decode_batch(data)
    assert records == []
    for reject in rejects:
        with pytest.raises(RecordError):
            codec.decode_json(reject.raw)
