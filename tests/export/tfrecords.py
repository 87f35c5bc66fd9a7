"""A reader of TFRecord files that shares nothing with the writer: checksums and messages taken apart by hand."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

Features: TypeAlias = dict[str, list[bytes] | list[int]]


def _table() -> list[int]:
    """Castagnoli's polynomial, reflected, a byte at a time."""
    made = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        made.append(byte)
    return made


_TABLE = _table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def unmasked(data: bytes) -> int:
    """The checksum that a masked one stands for."""
    rotated = int.from_bytes(data, "little") - 0xA282EAD8 & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def records(path: Path, *, check: bool = True) -> Iterator[bytes]:
    """The records of a file. Without ``check``, checksums of lengths only are looked at: the table is slow."""
    data = path.read_bytes()
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        assert unmasked(data[at + 8 : at + 12]) == crc32c(data[at : at + 8])
        record = data[at + 12 : at + 12 + length]
        at += 16 + length
        assert len(record) == length
        assert not check or unmasked(data[at - 4 : at]) == crc32c(record)
        yield record


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Fields of a message, which are all of a length here."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        assert key & 7 == 2
        length, at = _varint(data, at)
        yield key >> 3, data[at : at + length]
        at += length


def _integers(packed: bytes) -> list[int]:
    at, found = 0, []
    while at < len(packed):
        value, at = _varint(packed, at)
        found.append(value - 2**64 if value >= 2**63 else value)
    return found


def features(record: bytes) -> Features:
    """The features of a ``tf.train.Example``."""
    found: Features = {}
    for number, held in _fields(record):
        assert number == 1
        for entry, pair in _fields(held):
            assert entry == 1
            parts = dict(_fields(pair))
            ((kind, values),) = _fields(parts[2])
            assert kind in (1, 3)
            lists = [value for field, value in _fields(values) if field == 1]
            found[parts[1].decode()] = lists if kind == 1 else _integers(b"".join(lists))
    return found
