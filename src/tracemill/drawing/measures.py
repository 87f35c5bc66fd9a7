"""Numbers with what they are worth: rates with an interval, distributions and distinct counts in bounded memory.

Everything here takes a stream of any length and keeps a fixed amount of it. Where a figure is estimated rather than
counted, its struct says so (``exact`` is False) and this module states the formula and the error.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import Struct

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""
EXACT_VALUES = 8192
"""A distribution of at most this many values has exact quantiles."""
RELATIVE_ERROR = 0.01
"""Relative error of a quantile of a larger distribution."""
DISTINCT_IDS = 16_384
"""A distinct count up to this is exact; beyond it, its standard error is about 0.8 %."""
OTHER = "(other)"
"""Stands for everything a bounded tally has no room to name."""

_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA = math.log(_GAMMA)
_SMALLEST, _LARGEST = 1e-6, 1e15
_EDGES: tuple[float, ...] = (0.0, *(step * 10.0**power for power in range(-1, 12) for step in (1, 2, 5)))


class Rate(Struct, frozen=True):
    """A share of successes with its 95 % Wilson score interval; ``value``, ``low`` and ``high`` are None without trials.

    With p = successes / total, n = total and z = 1.96: centre = (p + z²/2n) / (1 + z²/n), half width =
    z / (1 + z²/n) · sqrt(p(1 - p)/n + z²/4n²) (Wilson 1927). Unlike p ± z·sqrt(p(1 - p)/n) it stays within 0 and 1 and
    means something for 0 of 5.
    """

    successes: int
    total: int
    value: float | None
    low: float | None
    high: float | None


class Bin(Struct, frozen=True):
    """Values from ``low`` (inclusive) up to ``high`` (exclusive; None is without end)."""

    low: float
    high: float | None
    count: int


class Distribution(Struct, frozen=True):
    """Values that are not negative, summed up. All figures but ``count`` and ``ignored`` are None when there are none.

    Quantiles interpolate linearly between neighbours (type 7 of Hyndman and Fan 1996, NumPy's default) and are exact
    up to 8,192 values. Beyond that they come from logarithmic buckets, γ = (1 + α)/(1 - α) wide with α = 1 %: the
    estimate of a bucket is 2γ^i/(γ + 1), at most 1 % from every value in it (DDSketch, Masson et al. 2019).
    ``ignored`` counts what is no finite number or negative. ``bins`` are the filled part of the series 1, 2, 5, 10, …
    """

    count: int
    ignored: int
    exact: bool
    mean: float | None = None
    standard_deviation: float | None = None
    minimum: float | None = None
    p25: float | None = None
    median: float | None = None
    p75: float | None = None
    p95: float | None = None
    maximum: float | None = None
    bins: list[Bin] = []


class Share(Struct, frozen=True):
    """One named count and its part of the whole (0 to 1)."""

    name: str
    count: int
    share: float


def rate(successes: int, total: int, z: float = Z_95) -> Rate:
    """The rate of ``successes`` in ``total`` trials with its Wilson interval at ``z``."""
    if total <= 0:
        return Rate(0, 0, None, None, None)
    p = successes / total
    spread = 1 + z * z / total
    centre = (p + z * z / (2 * total)) / spread
    half = z / spread * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == total else min(1.0, centre + half)
    return Rate(successes, total, p, low, high)


def shares(counts: Mapping[str, int], total: int | None = None) -> list[Share]:
    """Counts as shares of ``total`` (their sum by default), largest first, names deciding a tie; zeros are left out."""
    whole = sum(counts.values()) if total is None else total
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Share(name, count, count / whole if whole else 0.0) for name, count in ordered if count]


class Measure:
    """Takes values one by one and keeps at most 8,192 of them, or about 2,500 buckets."""

    def __init__(self, exact_values: int = EXACT_VALUES) -> None:
        self._room = exact_values
        self._values: array[float] | None = array("d")
        self._buckets: Counter[int] = Counter()
        self._bins: Counter[int] = Counter()
        self._mean = self._squares = 0.0
        self._minimum, self._maximum = math.inf, -math.inf
        self.count = self.ignored = 0

    def add(self, value: object) -> None:
        """Take one value; what is no finite number, or negative, is counted as ignored."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.ignored += 1
            return
        try:
            number = float(value)
        except OverflowError:
            self.ignored += 1
            return
        if not math.isfinite(number) or number < 0:
            self.ignored += 1
            return
        self.count += 1
        off = number - self._mean  # Welford 1962: one pass without cancellation
        self._mean += off / self.count
        self._squares += off * (number - self._mean)
        self._minimum, self._maximum = min(self._minimum, number), max(self._maximum, number)
        self._bins[bisect_right(_EDGES, number)] += 1
        if self._values is None:
            self._buckets[_bucket(number)] += 1
            return
        self._values.append(number)
        if len(self._values) > self._room:
            self._buckets.update(map(_bucket, self._values))
            self._values = None

    def distribution(self) -> Distribution:
        """What was taken so far."""
        if not self.count:
            return Distribution(0, self.ignored, True)
        p25, median, p75, p95 = self._quantiles((0.25, 0.5, 0.75, 0.95))
        return Distribution(
            self.count,
            self.ignored,
            self._values is not None,
            self._mean,
            math.sqrt(max(0.0, self._squares) / (self.count - 1)) if self.count > 1 else 0.0,
            self._minimum,
            p25,
            median,
            p75,
            p95,
            self._maximum,
            self._filled_bins(),
        )

    def _quantiles(self, wanted: Iterable[float]) -> list[float]:
        if self._values is not None:
            ordered = sorted(self._values)
            return [_interpolate(ordered, q) for q in wanted]
        items = sorted(self._buckets.items())
        return [self._from_buckets(items, q) for q in wanted]

    def _from_buckets(self, items: list[tuple[int, int]], q: float) -> float:
        rank, seen, value = q * (self.count - 1), 0, self._maximum
        for index, count in items:
            seen += count
            if seen > rank:
                value = _bucket_value(index)
                break
        return min(max(value, self._minimum), self._maximum)

    def _filled_bins(self) -> list[Bin]:
        first, last = min(self._bins), max(self._bins)
        return [
            Bin(
                _EDGES[index - 1],
                _EDGES[index] if index < len(_EDGES) else None,
                self._bins.get(index, 0),
            )
            for index in range(first, last + 1)
        ]


def _bucket(value: float) -> int:
    return math.ceil(math.log(min(max(value, _SMALLEST), _LARGEST)) / _LOG_GAMMA)


def _bucket_value(index: int) -> float:
    value = 2 * math.exp(index * _LOG_GAMMA) / (_GAMMA + 1)
    return 0.0 if value < 2 * _SMALLEST else value


def _interpolate(ordered: list[float], q: float) -> float:
    at = q * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)


class Tally:
    """Counts by name for at most ``room`` names; what comes later under a new name goes to ``(other)``.

    Names are shortened to 200 characters, so that a hostile one cannot take the memory that counting saves.
    """

    def __init__(self, room: int = 200) -> None:
        self._room = room
        self.counts: Counter[str] = Counter()

    def add(self, name: object, count: int = 1) -> str:
        """Count one; returns the name it was counted under."""
        key = short_name(name)
        if key not in self.counts and len(self.counts) >= self._room:
            key = OTHER
        self.counts[key] += count
        return key


def short_name(value: object, limit: int = 200) -> str:
    """A value as a name that can be shown and encoded: at most ``limit`` characters, ``(none)`` for what is absent."""
    if value is None or value == "":
        return "(none)"
    text = value[: limit + 1] if isinstance(value, str) else str(value)
    text = text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair cannot be written anywhere
    return text if len(text) <= limit else text[: limit - 1] + "…"


class DistinctSample:
    """Distinct keys with a few bits each, from a stream of any length.

    Keeps the k keys with the smallest hashes. Up to k distinct keys everything is exact. Beyond, with u the largest
    hash kept as a fraction of the hash range, the number of distinct keys is estimated as (k - 1) / u (k minimum
    values, Bar-Yossef et al. 2002; standard error about 1/sqrt(k - 2)), and a share among the kept keys stands for the
    share among all, because a hash knows nothing of the bits.
    """

    def __init__(self, room: int = DISTINCT_IDS) -> None:
        self._room = room
        self._kept: dict[int, int] = {}
        self._heap: list[int] = []
        self.exact = True

    def add(self, key: str, bits: int = 0) -> None:
        """Take a key; its ``bits`` are united with those it had."""
        hashed = int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest())
        if hashed in self._kept:
            self._kept[hashed] |= bits
            return
        if len(self._kept) >= self._room:
            self.exact = False
            if hashed >= -self._heap[0]:
                return
            del self._kept[-heapq.heapreplace(self._heap, -hashed)]
        else:
            heapq.heappush(self._heap, -hashed)
        self._kept[hashed] = bits

    def count(self, mask: int = 0) -> int:
        """How many distinct keys there are that have every bit of ``mask``; estimated once there are more than k."""
        matching = sum(1 for bits in self._kept.values() if bits & mask == mask)
        if self.exact or len(self._kept) < 2:
            return matching
        largest = -self._heap[0] / 2**64
        return round((len(self._kept) - 1) / largest * matching / len(self._kept))
