"""Words that stand in several splits, and the one that keeps them.

Rows that say the same are in one split, of whatever type they are and whoever said it: a labelled row held out must not be
a supervised one that is trained on. Each draft left a digest of its words with the interactions it was made of
(:mod:`tracemill.dataset.drafts`); before the merge those that stand in several splits are found here. To join all who say
the same to one group instead would keep every row, but would make one group of everybody whose talk is "hi" and a greeting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tracemill.dataset.augmented import TRAIN
from tracemill.dataset.drafts import Said, decode_said
from tracemill.dataset.lookup import Standing
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.sort import KEY_BYTES, Entry, grouped
from tracemill.dataset.split import precedence


def fallen(said: Said, numbers: list[int], ledger: Standing) -> bool:
    """Whether a draft falls whatever its split: an owner is repeated by a later call, or a better one stands for it.

    A comparison of trials has two owners, and stands though one of them has a duplicate.
    """
    if said.whole and any(ledger.superseded[number] for number in numbers):
        return True
    return len(numbers) == 1 and bool(ledger.duplicate[numbers[0]])


def parted_words(entries: Iterable[Entry], ledger: Standing, recipe: Recipe) -> Iterator[tuple[bytes, str]]:
    """The words that drafts of several splits say, with the split that keeps them.

    That is the smallest of those in which they were recorded: what was made of something else displaces nothing.
    """
    rank = precedence(recipe.split)
    for words, payloads in grouped(entries):
        recorded: set[str] = set()
        made = False
        for said in map(decode_said, payloads) if len(payloads) > 1 else ():
            numbers = [ledger.number(owner) for owner in said.owners]
            split = ledger.split(numbers[0])
            if split is None or fallen(said, numbers, ledger):
                continue
            if not said.augmented:
                recorded.add(split)
            made |= said.augmented and split == TRAIN
        if len(recorded | ({TRAIN} if made else set())) > 1:
            yield words, min(recorded, key=rank.__getitem__)


def pack_parted(found: Iterable[tuple[bytes, str]]) -> bytes:
    """Words with their splits as bytes."""
    return b"".join(words + split.encode() + b"\n" for words, split in found)


def read_parted(packed: bytes) -> Mapping[bytes, str]:
    """The inverse of :func:`pack_parted`, of which several may stand one after another."""
    found: dict[bytes, str] = {}
    at = 0
    while at < len(packed):
        end = packed.index(b"\n", at + KEY_BYTES)
        found[packed[at : at + KEY_BYTES]] = packed[at + KEY_BYTES : end].decode()
        at = end + 1
    return found
