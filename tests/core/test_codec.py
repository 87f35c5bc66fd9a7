"""Records through both encodings, and what cannot pass through them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given

from tests import strategies
from tracemill.core import codec
from tracemill.core.errors import RecordError
from tracemill.core.ids import new_id, now
from tracemill.core.records import RECORD_TYPES, AnyRecord, Interaction

GOLDEN = Path(__file__).parent / "golden"


def interaction(**fields: Any) -> Interaction:
    return Interaction(id=new_id(), time=now(), schema_version=1, producer="test", sequence=0, **fields)


@given(strategies.records)
def test_a_record_survives_both_encodings(record: AnyRecord) -> None:
    data = codec.encode(record)
    assert codec.encode(codec.decode(data)) == data
    assert codec.decode(data) == record
    assert codec.decode_json(codec.encode_json(record)) == record


@given(strategies.json_values)
def test_plain_values_survive_and_equal_ones_have_equal_bytes(value: Any) -> None:
    data = codec.encode_plain(value)
    assert codec.encode_plain(codec.decode_plain(data)) == data


ODD = {
    "nan": math.nan,
    "infinity": math.inf,
    "minus_infinity": -math.inf,
    "bytes": b"\xff\x00",
    "lone_surrogate": "\ud800",
    "nul": "a\x00b",
    "5000_digits": 10**5000,
    "beyond_64_bits": -(10**30),
    "our_own_mark": "\x00tm:int:zz",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_odd_values_survive_anywhere(odd: Any) -> None:
    record = interaction(extra={"value": odd, "list": [odd], "deep": {"x": {"y": odd}}}, artifact=odd)
    for again in (codec.decode(codec.encode(record)), codec.decode_json(codec.encode_json(record))):
        assert codec.encode(again) == codec.encode(record)
        found = again.extra["value"]
        assert type(found) is type(odd)
        assert found == odd or (isinstance(odd, float) and math.isnan(odd) and math.isnan(found))


def test_json_is_standard_json_without_nan() -> None:
    line = codec.encode_json(interaction(extra={"value": math.nan}))
    assert b"\n" not in line
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def _document(**fields: Any) -> bytes:
    plain = {
        "record": "interaction",
        "id": new_id(),
        "time": "2026-01-02T03:04:05Z",
        "schema_version": 1,
        "producer": "p",
        "sequence": 0,
    }
    return json.dumps({**plain, **fields}).encode()


def test_what_other_programs_write_is_read() -> None:
    found = codec.decode_json(b"\xef\xbb\xbf" + _document(extra={"nan": math.nan, "half": "\ud83d", "big": 10**4000}))
    assert math.isnan(found.extra["nan"])
    assert found.extra["half"] == "\ud83d"
    assert found.extra["big"] == 10**4000


def test_fields_of_a_newer_version_are_kept() -> None:
    document = _document(schema_version=9, shade="blue", channel={"id": 7, "mood": "calm"}, extra={"own": 1})
    found = codec.decode_json(document)
    assert found.schema_version == 9
    assert found.extra == {"own": 1, "$unknown": {"shade": "blue", "channel.mood": "calm"}}
    assert codec.decode(codec.encode(found)) == found


REFUSED: list[tuple[bytes, str]] = [
    (b"", "malformed"),
    (b"{", "malformed"),
    (b"[" * 100_000, "too_deep"),
    (b"5", "invalid"),
    (b"null", "invalid"),
    (b'{"record":"nobody"}', "invalid"),
    (b'{"record":["x"]}', "invalid"),
    (_document(id="../../etc/passwd"), "invalid"),
    (_document(time="2026-01-02T03:04:05"), "invalid"),
    (_document(duration_ms="soon"), "invalid"),
    (_document(sequence=-1), "invalid"),
    (_document(unknown=1, turn="x"), "invalid"),
    (b'{"record": "interaction", "extra": ' + b"9" * 200_000 + b"}", "malformed"),
    (b"\xff\xfe", "malformed"),
]


@pytest.mark.parametrize(("data", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_record_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        codec.decode_json(data)
    assert caught.value.reason == reason
    assert caught.value.message


def test_a_depth_bomb_is_refused_in_both_directions() -> None:
    bomb: dict[str, Any] = {}
    inner = bomb
    for _ in range(5000):
        inner["x"] = {}
        inner = inner["x"]
    record = interaction(extra=bomb)
    for encoder in (codec.encode, codec.encode_json):
        with pytest.raises(RecordError, match="deep"):
            encoder(record)


def test_a_producer_cannot_send_the_stores_own_references() -> None:
    plain = msgspec.msgpack.decode(codec.encode(interaction()))
    data = msgspec.msgpack.encode({**plain, "extra": {"x": msgspec.msgpack.Ext(1, b"\x01")}})
    with pytest.raises(RecordError):
        codec.decode(data)
    with pytest.raises(RecordError):
        codec.canonical(data)


@pytest.mark.parametrize("tag", sorted(RECORD_TYPES))
def test_the_golden_file_of_each_version_is_read_whole(tag: str) -> None:
    """Files written by every released schema version; never edited, only added to."""
    for path in sorted(GOLDEN.glob(f"v*/{tag}.json")):
        document = path.read_bytes()
        record = codec.decode_json(document)
        assert isinstance(record, RECORD_TYPES[tag])
        assert json.loads(codec.encode_json(record)) == json.loads(document), path
        assert codec.decode(codec.encode(record)) == record
    assert (GOLDEN / "v1" / f"{tag}.json").exists()


def test_the_golden_file_gives_every_field_of_the_first_version() -> None:
    for tag, record_type in RECORD_TYPES.items():
        document = json.loads((GOLDEN / "v1" / f"{tag}.json").read_bytes())
        known_then = set(document)
        assert known_then <= {"record", *record_type.__struct_fields__}
        assert known_then - {"record"} == set(record_type.__struct_fields__), tag
