"""How much of a text says again what it said before: frequent n-grams, and runs of words that came earlier.

Texts by the million are judged, nearly all of which repeat nothing. So every measure is preceded by a bound that costs
little and settles most texts: of what stands there again, its pairs of words stand there again, one behind the other; and
few pairs do. The bounds decide nothing by themselves: what they cannot rule out is measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple


class Repeated(NamedTuple):
    """What was found: the share of characters, the limit it exceeds, and the n-gram, or None for a long run."""

    share: float
    limit: float
    gram: str | None


def repetition(found: Sequence[str], limits: Mapping[int, float], run: int, most: float) -> Repeated | None:
    """The first excess of repetition in the words of a text, or None.

    ``limits`` are the largest shares of characters in the most frequent n-gram, by n in ascending order; a gram that
    stands there twice or less is none. ``most`` is the largest share in runs of ``run`` words that came before.
    """
    pairs = list(pairwise(found))
    seen: set[tuple[str, str]] = set()
    add = seen.add
    again = [at for at, pair in enumerate(pairs) if pair in seen or add(pair)]
    triples = sum(after == at + 1 for at, after in pairwise(again))  # at most so many of them came before
    if len(again) < 2:
        return None
    total = len("".join(found))
    longest = max(map(len, found)) if triples else 0
    for size, limit in limits.items():
        if size == 2 and _most_of_a_pair([pairs[at] for at in again]) <= limit * total:
            continue
        # a gram of three words and more is as frequent as a triple at most
        if size > 2 and (triples < 2 or (triples + 1) * size * longest <= limit * total):
            continue
        if len(found) < size:
            continue
        grams = Counter(zip(*(found[start:] for start in range(size)), strict=False))
        frequent = [times * sum(map(len, gram)) for gram, times in grams.items() if times > 2]
        if max(frequent, default=0) <= limit * total:
            continue
        gram, times = max(grams.items(), key=lambda pair: (pair[1] * sum(map(len, pair[0])), pair[0]))
        share = times * sum(map(len, gram)) / total if times > 2 else 0.0
        if share > limit:
            return Repeated(share, limit, " ".join(gram))
    if not _may_repeat(triples, run, most * total, longest):
        return None
    share = repeated_share(found, run, total)
    return Repeated(share, most, None) if share > most else None


def _most_of_a_pair(again: Sequence[tuple[str, str]]) -> int:
    """The characters in the most frequent pair that stands there more than twice, of those that came before."""
    most = 0
    for (first, second), times in Counter(again).items():
        if times > 1:
            most = max(most, (times + 1) * (len(first) + len(second)))
    return most


def _may_repeat(again: int, run: int, characters: float, longest: int) -> bool:
    """Whether repeated runs can cover more than some characters, of ``again`` triples that came before.

    Those in the runs are among them. A stretch of t such triples in a row covers t + 2 words, and t is at least
    run − 2: so n such triples cover at most n · run / (run − 2) words, none of which is longer than the longest.
    """
    return again * run / max(1, run - 2) * longest > characters


def repeated_share(found: Sequence[str], size: int, total: int) -> float:
    """The share of characters in words that a repeated n-gram covers, the first time not counted."""
    seen: set[tuple[str, ...]] = set()
    covered = [False] * len(found)
    for start, gram in enumerate(zip(*(found[start:] for start in range(size)), strict=False)):
        if gram in seen:
            covered[start : start + size] = [True] * size
        seen.add(gram)
    return sum(len(word) for word, again in zip(found, covered, strict=True) if again) / total
