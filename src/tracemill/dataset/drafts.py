"""Examples on their way into a version: sorted by id for the merge, and beside that by their words, without payload."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tracemill.core.examples import Example
from tracemill.core.ids import id_bytes
from tracemill.dataset.identity import example_tag, opposition
from tracemill.dataset.parts import content_key
from tracemill.dataset.recipe import SignalName
from tracemill.dataset.rows import encode_line
from tracemill.dataset.sort import RunWriter

WORDS = "words"
"""What the names of runs of words begin with."""


class Draft(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """An example on its way into a version: its line, and what the merge decides by.

    ``owners`` are the interactions it was made of, each as (shard, place in the shard). ``side`` of ``opposed`` is what
    :func:`tracemill.dataset.identity.opposition` says. A ``whole`` draft falls when an owner is repeated by a later call,
    an ``augmented`` one in every split but ``train``. ``words`` stand for what it says, whatever its type.
    """

    owners: list[tuple[int, int]]
    signal: SignalName
    whole: bool
    type: str
    sources: list[str]
    opposed: bytes | None
    side: int
    line: bytes
    augmented: bool = False
    words: bytes = b""


class Said(msgspec.Struct, array_like=True, frozen=True):
    """What a run of words has of a draft."""

    owners: list[tuple[int, int]]
    whole: bool
    augmented: bool


_encode = msgspec.msgpack.Encoder().encode
_draft = msgspec.msgpack.Decoder(Draft)
_said = msgspec.msgpack.Decoder(Said)


class Drafts:
    """Writes drafts as runs named after a stem, and their words as others. ``sync`` as in :class:`RunWriter`."""

    def __init__(self, folder: Path, stem: str, *, sync: bool = False) -> None:
        self._drafts = RunWriter(folder, stem, sync=sync)
        self._words = RunWriter(folder, f"{WORDS}-{stem}", sync=sync)

    def add(self, example: Example, owners: list[tuple[int, int]], signal: SignalName, *, whole: bool) -> bytes:
        """Add an example; gives its key."""
        opposed = opposition(example)
        key, words = id_bytes(example.id), content_key(example)
        draft = Draft(
            owners=owners,
            signal=signal,
            whole=whole,
            type=example_tag(example),
            sources=list(example.sources),
            opposed=None if opposed is None else opposed[0],
            side=0 if opposed is None else opposed[1],
            line=encode_line(example),
            augmented=example.augmented is not None,
            words=words,
        )
        self._drafts.add(key, _encode(draft))
        self._words.add(words, _encode(Said(owners, whole, draft.augmented)))
        return key

    def close(self) -> None:
        """Write what is left."""
        self._drafts.close()
        self._words.close()


def decode_draft(payload: bytes) -> Draft:
    """A draft out of a run."""
    return _draft.decode(payload)


def decode_said(payload: bytes) -> Said:
    """What a run of words has of a draft."""
    return _said.decode(payload)
