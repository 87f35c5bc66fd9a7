"""MinHash over the words of texts, many texts at a time, in NumPy alone.

A text is a set of shingles: every run of ``shingle`` words, each run hashed. Its signature holds, for each of several
hash functions, the least value over that set, so two signatures agree at one place with the probability of the sets'
Jaccard similarity (Broder, On the resemblance and containment of documents, 1997). Signatures are cut into ``bands`` of
``rows`` values; texts that share a band are candidates (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4).

Everything is a function of the texts and of constants in this module: no seed of the process enters, so that signatures
of different processes and days can be compared. The hashes are not cryptographic.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

U64: TypeAlias = NDArray[np.uint64]
U32: TypeAlias = NDArray[np.uint32]
I64: TypeAlias = NDArray[np.int64]

SHINGLE_BITS = 44
"""Bits kept of a shingle's hash; the 20 above number the text or pair it belongs to where many are sorted at once.

Two different shingles of a pair are taken for one with a probability of about |A|·|B| / 2⁴⁴: 6·10⁻⁸ for 1,000 words each.
"""
MOST_TEXTS = 1 << (64 - SHINGLE_BITS)
_CHUNK = 1 << 16
"""Characters (code points) that are hashed at a time, unless one text alone has more."""
_LOW = np.uint64((1 << SHINGLE_BITS) - 1)
_BITS = np.uint64(SHINGLE_BITS)
_BASE, _ONE, _MASK = 0x9E3779B97F4A7C15 | 1, 0x2545F4914F6CDD1D, (1 << 64) - 1
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)
_LAST_KNOWN = 0x323B0
"""Code points from here on (private use, mostly) count as letters."""
_ALONE = ((0x0E00, 0x0E80), (0x0E80, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800), (0x3040, 0x3130), (0x31F0, 0x3200))
_ALONE_HAN = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, _LAST_KNOWN))
"""Scripts written without spaces (Thai, Lao, Burmese, Khmer, kana, Han): each letter is a word."""


@dataclass(frozen=True, slots=True)
class Sets:
    """The shingle sets of several texts: set ``i`` is ``values[offsets[i]:offsets[i + 1]]``, ascending, each value once."""

    values: U64
    offsets: I64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def sizes(self) -> I64:
        """How many shingles each text has; 0 for a text without words."""
        return np.diff(self.offsets)


def collision(similarity: float, bands: int, rows: int) -> float:
    """The probability that two texts of a Jaccard similarity become candidates: 1 − (1 − s^rows)^bands."""
    return 1.0 - (1.0 - similarity**rows) ** bands


def bands_for(threshold: float, *, recall: float = 0.99, permutations: int = 128) -> tuple[int, int]:
    """The bands and rows that find a pair at the ``threshold`` with at least the probability ``recall``.

    Of all that do so with at most ``permutations`` values, those with the most rows (the fewest false candidates), and of
    these the fewest bands: b = ⌈ln(1 − recall) / ln(1 − threshold^r)⌉. A pair above the threshold is found more surely.
    Raises ValueError when a number is out of range or no choice is good enough.
    """
    if not (0 < threshold < 1 and 0 < recall < 1 and permutations > 0):
        raise ValueError("threshold and recall lie between 0 and 1, and there is at least one permutation")
    best = None
    for rows in range(1, permutations + 1):
        missed = math.log1p(-(threshold**rows))
        bands = max(1, math.ceil(math.log1p(-recall) / missed)) if missed < 0 else permutations + 1
        if bands * rows <= permutations:
            best = bands, rows
    if best is None:
        raise ValueError(f"{permutations} permutations cannot find pairs at {threshold:g} with a recall of {recall:g}")
    return best


def shingle_sets(texts: Sequence[str], shingle: int = 3) -> Sets:
    """The shingle sets of texts.

    A word is a run of letters, digits and marks, in lower case; in scripts without spaces each letter is one. A text of fewer
    words than ``shingle`` has one shingle of them all; one without words has none.
    """
    values: list[U64] = []
    sizes: list[I64] = []
    first = 0
    while first < len(texts):
        last, characters = first, 0
        while last < len(texts) and (last == first or characters + len(texts[last]) <= _CHUNK):
            characters += len(texts[last])
            last += 1
            if last - first == MOST_TEXTS:
                break
        chunk_values, chunk_sizes = _chunk_sets(texts[first:last], shingle)
        values.append(chunk_values)
        sizes.append(chunk_sizes)
        first = last
    offsets = np.zeros(len(texts) + 1, np.int64)
    if sizes:
        np.cumsum(np.concatenate(sizes), out=offsets[1:])
    return Sets(np.concatenate(values) if values else np.empty(0, np.uint64), offsets)


def _chunk_sets(texts: Sequence[str], shingle: int) -> tuple[U64, I64]:
    lowered = [text.lower() for text in texts]
    lengths = np.fromiter((len(text) + 1 for text in lowered), np.int64, len(lowered))
    points = np.frombuffer((" ".join(lowered) + "  ").encode("utf-32-le", "surrogatepass"), np.uint32)
    words, starts = _words(points)
    edges = np.concatenate(([0], np.searchsorted(starts, np.cumsum(lengths))))
    owner = np.repeat(np.arange(len(texts)), np.diff(edges))
    hashes, owner = _shingles(words, owner, edges, shingle)
    keys = (owner.astype(np.uint64) << _BITS) | (hashes >> np.uint64(64 - SHINGLE_BITS))
    keys.sort()
    if len(keys):
        keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))]
    return keys & _LOW, np.bincount((keys >> _BITS).astype(np.int64), minlength=len(texts))


def _words(points: U32) -> tuple[U64, I64]:
    """Hashes and first places of the words in code points that end with a separator.

    The hash of the word at i…j is Σ c_k·B^(k−i) mod 2⁶⁴, from one running sum: B is odd and so has an inverse.
    """
    kinds = _kinds()[np.minimum(points, _LAST_KNOWN - 1)]
    letter, alone = kinds == 1, kinds == 2
    begins, ends = letter.copy(), letter.copy()
    begins[1:] &= ~letter[:-1]
    ends[:-1] &= ~letter[1:]
    starts = np.flatnonzero(begins | alone)
    stops = np.flatnonzero(ends | alone) + 1
    powers, inverses = _powers(max(_CHUNK * 2, 1 << (len(points) - 1).bit_length()))
    sums = np.zeros(len(points) + 1, np.uint64)
    np.cumsum(points * powers[: len(points)], out=sums[1:])
    words = (sums[stops] - sums[starts]) * inverses[starts]
    return mix(words + (stops - starts).astype(np.uint64) * np.uint64(_ONE)), starts


def _shingles(words: U64, owner: I64, edges: I64, shingle: int) -> tuple[U64, I64]:
    counts = np.diff(edges)
    if shingle == 1:
        return words, owner
    place = np.arange(len(words))
    left = edges[1:][owner] - place
    hashes = words.copy()
    for behind in range(1, shingle):
        after = np.zeros_like(words)
        after[:-behind] = words[behind:]
        after[left <= behind] = 0
        hashes = hashes * np.uint64(_BASE) + after
    whole = (left >= shingle) | ((counts[owner] < shingle) & (left == counts[owner]))
    return mix(hashes[whole]), owner[whole]


def mix(values: U64) -> U64:
    """Spread every bit over all 64: the finaliser of SplitMix64 (Steele, Lea, Flood, 2014)."""
    mixed = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def signatures(sets: Sets, permutations: int) -> U32:
    """One row of ``permutations`` least values for each set; a set without shingles has the greatest value everywhere.

    The functions are x ↦ (a·x + b) mod 2³² with odd a, over 32 bits of the shingles' hashes, which are mixed already.
    """
    found = np.full((permutations, len(sets)), np.uint32(0xFFFFFFFF), np.uint32)
    factors, terms = _functions(permutations)
    rows = np.flatnonzero(sets.sizes())
    at = 0
    while at < len(rows):
        begin = int(sets.offsets[rows[at]])
        until = max(at + 1, int(np.searchsorted(sets.offsets[rows], begin + _CHUNK // 4)))
        some = rows[at:until]
        values = sets.values[begin : int(sets.offsets[some[-1] + 1])].astype(np.uint32)
        starts = sets.offsets[some] - begin
        hashed = np.empty_like(values)
        for number in range(permutations):
            np.multiply(values, factors[number], out=hashed)
            hashed += terms[number]
            found[number, some] = np.minimum.reduceat(hashed, starts)
        at = until
    return np.ascontiguousarray(found.T)


def band_keys(found: U32, bands: int, rows: int) -> U64:
    """For each signature one 64-bit key a band; equal bands at the same place have equal keys. Shape (texts, bands)."""
    cut = found[:, : bands * rows].reshape(len(found), bands, rows)
    keys = np.broadcast_to(mix(np.arange(1, bands + 1, dtype=np.uint64)), (len(found), bands)).copy()
    for row in range(rows):
        keys = mix(keys * np.uint64(_BASE) + cut[:, :, row])
    return keys


def jaccard(sets: Sets, left: I64, right: I64) -> NDArray[np.float64]:
    """The exact Jaccard similarity |A ∩ B| / |A ∪ B| of the sets ``left[i]`` and ``right[i]``; 0 where both are empty."""
    sizes = sets.sizes()
    total = sizes[left] + sizes[right]
    shared = np.zeros(len(left), np.int64)
    sums = np.concatenate(([0], np.cumsum(total)))
    at = 0
    while at < len(left):
        until = max(at + 1, int(np.searchsorted(sums, sums[at] + 16 * _CHUNK, side="right")) - 1)
        until = min(until, at + MOST_TEXTS, len(left))
        shared[at:until] = _shared(sets, left[at:until], right[at:until])
        at = until
    union = total - shared
    alike: NDArray[np.float64] = np.divide(shared, union, out=np.zeros(len(left)), where=union > 0)
    return alike


def _shared(sets: Sets, left: I64, right: I64) -> I64:
    """How many values each pair of sets has in common: all are sorted together, with their pair in the high bits."""
    numbers = np.arange(len(left), dtype=np.uint64) << _BITS
    keys = np.concatenate([_take(sets, left, numbers), _take(sets, right, numbers)])
    keys.sort()
    twice = keys[1:][keys[1:] == keys[:-1]]
    return np.bincount((twice >> _BITS).astype(np.int64), minlength=len(left))


def _take(sets: Sets, rows: I64, numbers: U64) -> U64:
    sizes = sets.sizes()[rows]
    places = np.arange(int(sizes.sum())) + np.repeat(sets.offsets[rows] - (np.cumsum(sizes) - sizes), sizes)
    taken: U64 = sets.values[places] | np.repeat(numbers, sizes)
    return taken


@functools.cache
def _kinds() -> NDArray[np.uint8]:
    """0 for what parts words, 1 for what makes them, 2 for letters that are words by themselves; by code point."""
    made = bytearray(_LAST_KNOWN)
    for point in range(_LAST_KNOWN):
        made[point] = unicodedata.category(chr(point))[0] in "LNM"
    made[-1] = 1
    kinds = np.frombuffer(bytes(made), np.uint8).copy()
    for begin, end in (*_ALONE, *_ALONE_HAN):
        kinds[begin:end] *= 2
    kinds[-1] = 1
    return kinds


@functools.lru_cache(maxsize=2)
def _powers(count: int) -> tuple[U64, U64]:
    """The powers of the base and of its inverse, modulo 2⁶⁴, from 0 on."""
    made = []
    for base in (_BASE, _BASE_INVERSE):
        powers = np.full(count, base, np.uint64)
        powers[0] = 1
        made.append(np.cumprod(powers, dtype=np.uint64))
    return made[0], made[1]


@functools.cache
def _functions(count: int) -> tuple[U32, U32]:
    drawn = mix(np.arange(1, 2 * count + 1, dtype=np.uint64) * np.uint64(_BASE))
    return (drawn[:count] >> np.uint64(32)).astype(np.uint32) | np.uint32(1), drawn[count:].astype(np.uint32)
