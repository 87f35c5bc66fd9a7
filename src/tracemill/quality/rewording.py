"""Small changes of a text, word by word: synonyms, insertion, deletion, swap (Wei and Zou, EDA, 2019).

Every draw comes from a seed and nothing else, and nothing that :func:`tracemill.quality.meaning.protected` names is touched.
Spaces and punctuation stay as they are.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tracemill.quality.meaning import protected
from tracemill.quality.synonyms import Synonyms

Rewording: TypeAlias = Literal["synonyms", "insertion", "deletion", "swap"]
REWORDINGS: tuple[Rewording, ...] = ("synonyms", "insertion", "deletion", "swap")
FILLERS = ("actually", "basically", "really", "simply", "well", "kindly")
"""What insertion puts in where no synonyms are given: English words that add nothing to what is said."""
_LIGHT_WORDS = (
    "a an the please just really very quite so well also that there here some of on at in i am is are was were be been being "
    "actually basically simply kindly hi hello hey thanks ok okay um uh"
)
LIGHT = frozenset(_LIGHT_WORDS.split())
"""English words that can be missing from a message, as from a telegram: the only ones that deletion takes out."""
_GRAMMAR_WORDS = (
    "to from by with for about into onto over under between through during within across against toward towards off out up "
    "down my your his her its our their me you him us them it he she we they this these those who whom whose which what "
    "where how why as because while though although let get"
)
GRAMMAR = LIGHT | frozenset(_GRAMMAR_WORDS.split())
"""English words that hold a sentence together: nothing is put in their place or beside them."""
_CLOSING = (".", ",", ";", ":", "!", "?")
_PIECE = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def draws(*parts: object) -> random.Random:
    """A source of draws that is a function of its arguments. Only ``random()`` of it is used: its values never change."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()
    return random.Random(int.from_bytes(digest))


def pick(source: random.Random, count: int) -> int:
    """A number from 0 to ``count`` − 1."""
    return int(source.random() * count)


def some(source: random.Random, places: Sequence[int], count: int) -> list[int]:
    """``count`` of the places, each at most once, ascending."""
    left = list(places)
    return sorted(left.pop(pick(source, len(left))) for _ in range(min(count, len(left))))


@dataclass
class Pieces:
    """A text cut into words and what stands between them; ``free`` are the places of the words that may change."""

    parts: list[str]
    free: list[int]

    @classmethod
    def of(cls, content: str, others: Iterable[str] = ()) -> Pieces:
        """Cut a text; ``others`` are words that must stay besides those that always do."""
        kept = bytearray(len(content))
        for start, stop in protected(content, others):
            kept[start:stop] = b"\1" * (stop - start)
        parts: list[str] = []
        free: list[int] = []
        end = 0
        for match in _PIECE.finditer(content):
            parts.append(content[end : match.start()])
            if not any(kept[match.start() : match.end()]):
                free.append(len(parts))
            parts.append(match[0])
            end = match.end()
        parts.append(content[end:])
        return cls(parts, free)

    def telling(self) -> list[int]:
        """The places of the words that may change and mean something by themselves: all but those of :data:`GRAMMAR`."""
        return [at for at in self.free if self.parts[at] not in GRAMMAR and "'" not in self.parts[at].replace("’", "'")]

    def text(self) -> str:
        """The text of the pieces."""
        return "".join(self.parts)


def reword(
    content: str,
    operation: Rewording,
    source: random.Random,
    *,
    rate: float = 0.1,
    synonyms: Synonyms | None = None,
    keep: Iterable[str] = (),
) -> str | None:
    """The text with about ``rate`` of its free words changed, at least one; None when the operation can change nothing.

    ``synonyms`` replaces words, and needs some. ``insertion`` puts a synonym of some word beside it, or one of
    :data:`FILLERS`. ``deletion`` takes words of :data:`LIGHT` out. ``swap`` exchanges neighbours.
    """
    pieces = Pieces.of(content, keep)
    count = max(1, round(rate * len(pieces.free)))
    change: Callable[[Pieces, random.Random, int, Synonyms], bool] = _CHANGES[operation]
    if not pieces.free or not change(pieces, source, count, synonyms or Synonyms()):
        return None
    changed = pieces.text()
    return changed if changed != content else None


def _replace(pieces: Pieces, source: random.Random, count: int, synonyms: Synonyms) -> bool:
    known = [at for at in pieces.telling() if synonyms.of(pieces.parts[at])]
    for at in some(source, known, count):
        others = synonyms.of(pieces.parts[at])
        pieces.parts[at] = others[pick(source, len(others))]
        _agree(pieces.parts, at)
    return bool(known)


def _agree(parts: list[str], at: int) -> None:
    """Write "a" or "an" before a word that was replaced, by its first letter."""
    if at >= 2 and parts[at - 1] == " " and parts[at - 2] in ("a", "an"):
        parts[at - 2] = "an" if parts[at][0] in "aeiou" else "a"


def _insert(pieces: Pieces, source: random.Random, count: int, synonyms: Synonyms) -> bool:
    places = [at for at in pieces.telling() if not synonyms or synonyms.of(pieces.parts[at])]
    for at in some(source, places, count):
        others = synonyms.of(pieces.parts[at]) or FILLERS
        pieces.parts[at] = f"{others[pick(source, len(others))]} {pieces.parts[at]}"
    return bool(places)


def _delete(pieces: Pieces, source: random.Random, count: int, synonyms: Synonyms) -> bool:
    del synonyms
    light = [at for at in pieces.free if pieces.parts[at] in LIGHT]
    count = min(count, len(light), len(pieces.parts) // 2 - 1)  # one word stays at least
    for at in some(source, light, count):
        pieces.parts[at] = ""
        if pieces.parts[at - 1].endswith(" "):
            following = pieces.parts[at + 1]
            if following.startswith(" "):
                pieces.parts[at + 1] = following[1:]
            elif following[:1] in _CLOSING:
                pieces.parts[at - 1] = pieces.parts[at - 1].rstrip(" ,;")
    return count > 0


def _swap(pieces: Pieces, source: random.Random, count: int, synonyms: Synonyms) -> bool:
    del synonyms
    free = set(pieces.free)
    pairs = [
        at
        for at in pieces.free
        if at + 2 in free and pieces.parts[at + 1] == " " and pieces.parts[at] != pieces.parts[at + 2]
    ]
    last = -2
    for at in some(source, pairs, count):
        if at > last + 2:
            pieces.parts[at], pieces.parts[at + 2] = pieces.parts[at + 2], pieces.parts[at]
            last = at
    return bool(pairs)


_CHANGES: dict[Rewording, Callable[[Pieces, random.Random, int, Synonyms], bool]] = {
    "synonyms": _replace,
    "insertion": _insert,
    "deletion": _delete,
    "swap": _swap,
}
