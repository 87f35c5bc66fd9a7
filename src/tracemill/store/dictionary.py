"""Compression of bodies: zstd with a dictionary trained on what the store holds.

Bodies are small and alike, so a dictionary is worth more than a higher level (docs/storage.md has the figures). But a
dictionary holds pieces of what it was trained on, in clear, and must not keep what erasure removes: it is trained only
on words that at least three different people or conversations share. A body without compression begins with a
MessagePack map, a compressed one with zstd's magic number, and that names its dictionary.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import zstandard

LEVEL = 3
DELTA_LEVEL = 9
"""For what a call adds to a stored trajectory: a fraction of a call's size, so that the time does not tell."""
SHARED_BY = 3
"""Words that fewer different people or conversations use are left out of the training."""
TRAINED_AT = tuple(1024 * 1024 * size // 4 for size in (1, 4, 64, 1024, 16_384))
"""Bytes of bodies in the store at which a dictionary is trained: soon, once more when there is enough for a good one,
and then seldom."""
_SMALLEST = 48
_MAGIC = b"\x28\xb5\x2f\xfd"
_WORD = re.compile(rb"[A-Za-z0-9_\-]+|[^A-Za-z0-9_\-]+")
_MAX_OUTPUT = 512 * 1024 * 1024


class Compressor:
    """Compresses with the newest dictionary and reads bodies of any. Not safe for use by several threads at once."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Know no dictionary."""
        self._known: dict[int, zstandard.ZstdDecompressor] = {0: zstandard.ZstdDecompressor()}
        self._compressors = {level: _compressor(level, None) for level in (LEVEL, DELTA_LEVEL)}
        self.newest = 0

    def add(self, identity: int, body: bytes) -> None:
        """Make a dictionary known; the one with the largest identity is used for writing."""
        if identity in self._known:
            return
        dictionary = zstandard.ZstdCompressionDict(body)
        self._known[identity] = zstandard.ZstdDecompressor(dict_data=dictionary)
        if identity > self.newest:
            self._compressors = {
                level: _compressor(level, zstandard.ZstdCompressionDict(body)) for level in self._compressors
            }
            self.newest = identity

    def knows(self, identity: int) -> bool:
        """Whether bodies of this dictionary can be read."""
        return identity in self._known

    def compress(self, body: bytes, *, delta: bool = False) -> bytes:
        """The body compressed, or as it is where that is smaller."""
        if len(body) < _SMALLEST:
            return body
        packed = self._compressors[DELTA_LEVEL if delta else LEVEL].compress(body)
        return packed if len(packed) < len(body) else body

    def decompress(self, body: bytes) -> bytes:
        """Inverse of :meth:`compress`. Raises zstandard.ZstdError on damage, KeyError on an unknown dictionary."""
        if not body.startswith(_MAGIC):
            return body
        return self._known[dictionary_of(body)].decompress(body, max_output_size=_MAX_OUTPUT)


def _compressor(level: int, dictionary: zstandard.ZstdCompressionDict | None) -> zstandard.ZstdCompressor:
    if dictionary is not None:
        dictionary.precompute_compress(level=level)
    return zstandard.ZstdCompressor(level=level, dict_data=dictionary, write_checksum=False)


def dictionary_of(body: bytes) -> int:
    """The identity of the dictionary a body was compressed with; 0 for none."""
    return zstandard.get_frame_parameters(body).dict_id if body.startswith(_MAGIC) else 0


def train(samples: Sequence[tuple[object, bytes]], identity: int) -> bytes | None:
    """A dictionary trained on bodies, each with the person or conversation it belongs to; None when there is too little.

    A body of which that is not known (None) makes no word shared.
    """
    words = [_WORD.findall(body) for _, body in samples]
    vocabulary: dict[object, set[bytes]] = defaultdict(set)
    for (owner, _), found in zip(samples, words, strict=True):
        if owner is not None:
            vocabulary[owner].update(found)
    users: Counter[bytes] = Counter()
    for own in vocabulary.values():
        users.update(own)
    shared = {word for word, number in users.items() if number >= SHARED_BY}
    kept = (b"".join([word for word in found if word in shared]) for found in words)
    bodies: list[bytes | bytearray | memoryview[int]] = [body for body in kept if len(body) >= 8]
    total = sum(map(len, bodies))
    size = 16_384 if total < 500_000 else 32_768 if total < 3_000_000 else 65_536
    try:
        trained = zstandard.train_dictionary(size, bodies, dict_id=identity, level=LEVEL)
    except (zstandard.ZstdError, ValueError):  # too few or too uniform samples
        return None
    return trained.as_bytes()
