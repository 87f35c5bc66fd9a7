"""Which split each group goes to: drawn by a hash, balanced, or by time. Pure functions of what is known of the groups.

A group is named by the number that stands for it, and known by its smallest record id, which the order of storing does not
change; none of these functions looks at anything else that does.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TypeAlias

from tracemill.core.examples import FeatureValue
from tracemill.core.ids import id_text
from tracemill.dataset.split import draw_split

Values: TypeAlias = tuple[FeatureValue | None, ...]
Members: TypeAlias = tuple[tuple[int, int], ...]
"""How many interactions of which strata a group has: (stratum, count), by stratum."""
FEW_VALUES = 8
"""Different numbers up to which each is a stratum of its own; more are cut at their quartiles."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def held_out(smallest: Mapping[int, bytes], seed: int, shares: Mapping[str, float]) -> dict[int, str]:
    """Every group where a hash of the seed and its smallest record id falls: others of its kind do not matter."""
    return {root: draw_split(seed, id_text(raw), shares) for root, raw in smallest.items()}


def balanced(
    smallest: Mapping[int, bytes], counts: Mapping[int, Members], seed: int, shares: Mapping[str, float]
) -> dict[int, str]:
    """Groups to splits so that every stratum has about its share in every split.

    ``counts`` has for each group how many interactions it holds of each of its strata. Groups are taken from the largest to the
    smallest, equal ones by a hash of seed and smallest record id, and each goes where Pearson's
    χ² = Σ (had − wanted)² / wanted over splits and strata grows least: a greedy search, as exact shares are a partition
    problem (NP-hard). Equally good splits are taken by name.
    """
    totals: Counter[int] = Counter()
    for held in counts.values():
        totals.update(dict(held))
    names = sorted(name for name, share in shares.items() if share > 0)
    wanted = {(name, stratum): shares[name] * total for name in names for stratum, total in totals.items()}
    had: Counter[tuple[str, int]] = Counter()
    order = sorted(counts, key=lambda root: (-sum(count for _, count in counts[root]), _drawn(seed, smallest[root])))
    found: dict[int, str] = {}
    for root in order:
        group = counts[root]
        growth = {
            name: math.fsum(
                (2 * count * (had[name, stratum] - wanted[name, stratum]) + count * count) / wanted[name, stratum]
                for stratum, count in group
            )
            for name in names
        }
        found[root] = chosen = min(names, key=lambda name: (round(growth[name], 9), name))
        had.update({(chosen, stratum): count for stratum, count in group})
    return found


def members(strata_of_groups: Iterable[tuple[int, int]]) -> dict[int, Members]:
    """What each group has, of the group and the stratum of every interaction. Equal ones are one object: most are."""
    found: dict[int, Members] = {}
    known: dict[Members, Members] = {}
    for (root, stratum), count in Counter(strata_of_groups).items():
        grown = tuple(sorted((*found.get(root, ()), (stratum, count))))
        found[root] = known.setdefault(grown, grown)
    return found


def _drawn(seed: int, raw: bytes) -> bytes:
    return hashlib.sha256(f"split:{seed}:{id_text(raw)}".encode()).digest()


def by_time(spans: Mapping[int, tuple[int, int]], begins: Sequence[tuple[str, int | None]]) -> dict[int, str | None]:
    """The split in which all of a group lies; None for one that straddles a cut.

    ``spans`` are the first and last moment of each group, ``begins`` the splits from early to late with the moment at which
    each begins (None: nothing is so late), in microseconds since the epoch.
    """
    moments = [moment for _, moment in begins[1:] if moment is not None]
    names = [name for name, moment in begins if moment is not None or name == begins[0][0]]
    found: dict[int, str | None] = {}
    for root, (first, last) in spans.items():
        place = bisect_right(moments, first)
        found[root] = names[place] if place == bisect_right(moments, last) else None
    return found


def cuts_at_shares(
    times: Sequence[int], order: Sequence[str], shares: Mapping[str, float]
) -> list[tuple[str, int | None]]:
    """Where each split of an order begins so that it has about its share of the interactions, as :func:`by_time` takes it.

    ``times`` are sorted. A cut lies on an interaction, which is the first of the later split together with all of its time.
    """
    found: list[tuple[str, int | None]] = [(order[0], None)]
    reached = 0.0
    for before, name in pairwise(order):
        reached += shares[before]
        place = round(reached * len(times))
        found.append((name, times[place] if place < len(times) else None))
    return found


def moment(microseconds: int) -> datetime:
    """A time in microseconds since the epoch as a moment."""
    return _EPOCH + timedelta(microseconds=microseconds)


def strata(values: Mapping[int, Values], times: Mapping[int, int]) -> dict[int, tuple[str, ...]]:
    """Each combination of feature values as the words that name its stratum.

    ``values`` are the different combinations by number, ``times`` how many interactions have each. Numbers of more than eight
    different values are named by the quarter of the interactions they fall in; a value that is not known is a stratum too.
    """
    width = len(next(iter(values.values()), ()))
    words: list[dict[FeatureValue | None, str]] = []
    for place in range(width):
        counted: Counter[FeatureValue | None] = Counter()
        for number, combination in values.items():
            counted[combination[place]] += times.get(number, 0)
        words.append(_words(counted))
    return {
        number: tuple(words[place][value] for place, value in enumerate(combination))
        for number, combination in values.items()
    }


def _words(counted: Mapping[FeatureValue | None, int]) -> dict[FeatureValue | None, str]:
    words = {value: "unknown" if value is None else _word(value) for value in counted}
    numbers = sorted(value for value in counted if isinstance(value, int | float) and not isinstance(value, bool))
    if len(numbers) <= FEW_VALUES:
        return words
    total, before = sum(counted[number] for number in numbers), 0
    for number in numbers:
        # by the middle of those that have this value, so that equal values stay together
        quarter = int(4 * (before + counted[number] / 2) / total) if total else 0
        words[number] = f"quarter {min(quarter, 3) + 1}"
        before += counted[number]
    return words


def _word(value: FeatureValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
