"""A segment gives back every whole frame, whatever happened to the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracemill.core.errors import SpoolError
from tracemill.core.ids import new_id
from tracemill.sdk.segment import HEADER_BYTES, Frame, Segment, SegmentReader, frame_size

PAYLOADS = [bytes([65 + index]) * (10 + 37 * index) for index in range(6)]


def written(path: Path, payloads: list[bytes], size: int = 65536) -> list[int]:
    """Write a segment and return where each frame begins."""
    segment = Segment.create(path, size)
    starts = []
    for payload in payloads:
        assert segment.room(len(payload))
        starts.append(segment.written)
        segment.append(payload)
    segment.close()
    return starts


def read(path: Path) -> tuple[list[bytes], int]:
    """The whole payloads of a segment file and the bytes of damage between and after them."""
    segment = SegmentReader(path)
    found = list(segment.frames(segment.delivered, segment.size))
    segment.close()
    payloads = [item.payload for item in found if isinstance(item, Frame)]
    return payloads, sum(item for item in found if isinstance(item, int))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.binary(max_size=5000), max_size=10))
def test_what_is_appended_is_read(tmp_path: Path, payloads: list[bytes]) -> None:
    path = tmp_path / new_id()
    written(path, payloads)
    assert read(path) == (payloads, 0)


def test_a_tail_torn_at_any_byte_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "whole"
    starts = written(path, PAYLOADS)
    whole = path.read_bytes()
    end = starts[-1] + frame_size(len(PAYLOADS[-1]))
    for cut in range(starts[-1], end):
        torn = tmp_path / "torn"
        torn.write_bytes(whole[:cut].ljust(len(whole), b"\0"))
        payloads, damage = read(torn)
        kept = PAYLOADS if whole[:cut].rstrip(b"\0") == whole.rstrip(b"\0") else PAYLOADS[:-1]
        assert payloads == kept
        assert damage <= end - starts[-1]
        torn.unlink()


def test_a_file_cut_short_gives_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "cut"
    starts = written(path, PAYLOADS)
    os.truncate(path, starts[4] + 20)
    assert read(path)[0] == PAYLOADS[:4]


def test_any_flipped_bit_costs_only_its_own_frame(tmp_path: Path) -> None:
    path = tmp_path / "flipped"
    starts = written(path, PAYLOADS)
    whole = path.read_bytes()
    first, last = starts[2], starts[3]
    for position in range(first, last):
        for bit in (0, 3, 7):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            payloads, _ = read(path)
            padding = position >= first + 16 + len(PAYLOADS[2])
            assert payloads == (PAYLOADS if padding else [*PAYLOADS[:2], *PAYLOADS[3:]]), (position, bit)


def test_a_marker_inside_a_payload_is_not_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "nested"
    inner = tmp_path / "inner"
    written(inner, [b"inner payload"])
    frame = inner.read_bytes()[HEADER_BYTES : HEADER_BYTES + 64]
    payloads = [b"before", frame, b"after"]
    written(path, payloads)
    assert read(path) == (payloads, 0)


def test_a_length_is_never_trusted(tmp_path: Path) -> None:
    path = tmp_path / "long"
    starts = written(path, PAYLOADS[:3])
    whole = bytearray(path.read_bytes())
    whole[starts[1] + 4 : starts[1] + 8] = b"\xff\xff\xff\x7f"
    path.write_bytes(whole)
    assert read(path)[0] == [PAYLOADS[0], PAYLOADS[2]]


def test_delivery_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "marked"
    starts = written(path, PAYLOADS)
    segment = SegmentReader(path)
    segment.set_delivered(starts[3])
    segment.close()
    assert read(path)[0] == PAYLOADS[3:]


def test_what_is_no_segment_is_refused(tmp_path: Path) -> None:
    for name, content in {"empty": b"", "other": b"x" * 200}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SpoolError):
            SegmentReader(tmp_path / name)


def test_a_segment_never_overruns(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "small", 4096)
    while segment.room(100):
        segment.append(b"x" * 100)
    assert segment.written <= segment.size
    assert not segment.room(100)
    segment.remove()
    assert not (tmp_path / "small").exists()
