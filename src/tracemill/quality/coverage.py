"""How much of what is said was said before: clusters of near duplicates as the species of a sample.

Every text is one observation, its cluster the kind it belongs to. Few kinds seen once mean that new texts will mostly
repeat old ones; many mean that the sample still grows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct


class Coverage(Struct, frozen=True, kw_only=True):
    """What a sample of texts covers. ``texts`` is N, ``clusters`` the number of kinds seen, those of one text included.

    ``once`` (f1) and ``twice`` (f2) are clusters of one and of two texts. ``unseen`` = f1 / N is Good's estimate (1953) of the
    probability that the next text is of a kind not seen yet; None without texts. ``estimated`` is Chao's lower bound (1984) of
    the number of kinds there are: clusters + f1² / (2 f2), or clusters + f1 (f1 − 1) / 2 where no cluster has two texts.
    ``effective`` is N² / Σ size²: so many clusters of equal size would be as concentrated.
    """

    texts: int
    clusters: int
    once: int
    twice: int
    largest: int
    unseen: float | None
    estimated: float
    effective: float

    def sentence(self) -> str:
        """The figures as one sentence, for notes of a version."""
        mass = "unknown" if self.unseen is None else f"{self.unseen:.1%}"
        return (
            f"{self.texts} texts are of {self.clusters} kinds, {self.once} of them seen once: the next one is new with a "
            f"probability of about {mass} (Good-Turing), and there are at least about {self.estimated:.0f} kinds (Chao1)."
        )


def coverage(sizes: Iterable[int]) -> Coverage:
    """The coverage of clusters of these sizes, one entry a cluster; sizes below 1 are left out."""
    counted = Counter(size for size in sizes if size > 0)
    texts = sum(size * number for size, number in counted.items())
    clusters, once, twice = counted.total(), counted[1], counted[2]
    missing = once * once / (2 * twice) if twice else once * (once - 1) / 2
    squares = sum(size * size * number for size, number in counted.items())
    return Coverage(
        texts=texts,
        clusters=clusters,
        once=once,
        twice=twice,
        largest=max(counted, default=0),
        unseen=once / texts if texts else None,
        estimated=clusters + missing,
        effective=texts * texts / squares if squares else 0.0,
    )
