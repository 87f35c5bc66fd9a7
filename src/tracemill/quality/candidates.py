"""Sets that share a band key, verified and linked: the inner part of :mod:`tracemill.quality.duplicates`.

Band keys lie in sorted runs, merged as they grow, so that adding costs little however large the index is. Of the
candidates of a key, neighbours are verified first; once they are linked, the many other pairs of a large cluster need no
verification, for they cannot change which sets are connected.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracemill.quality.minhash import I64, U64, Sets, jaccard

_PAIRS = 1 << 19
"""Candidate pairs looked at a time."""


class Growing:
    """An array that is appended to; it doubles, so that appending is cheap."""

    def __init__(self, kind: type[np.uint64] | type[np.int64]) -> None:
        self._whole: NDArray[Any] = np.empty(1024, kind)
        self._length = 0

    def append(self, values: NDArray[Any]) -> None:
        """Put values at the end."""
        needed = self._length + len(values)
        if needed > len(self._whole):
            larger = np.empty(max(needed, 2 * len(self._whole)), self._whole.dtype)
            larger[: self._length] = self.view()
            self._whole = larger
        self._whole[self._length : needed] = values
        self._length = needed

    def view(self) -> NDArray[Any]:
        """What was appended so far, not copied."""
        return self._whole[: self._length]


class Candidates:
    """Shingle sets by number, their band keys, and which of them are linked."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._values, self._offsets = Growing(np.uint64), Growing(np.int64)
        self._offsets.append(np.zeros(1, np.int64))
        self._parents = Growing(np.int64)
        self._runs: list[tuple[U64, I64]] = []

    def sets(self) -> Sets:
        """All sets that were added."""
        return Sets(self._values.view(), self._offsets.view())

    def add(self, sets: Sets, keys: U64) -> None:
        """Add sets with their keys (one row a set) and link them with all that are similar. Empty sets link to none."""
        first = len(self._parents.view())
        numbers = np.arange(first, first + len(sets), dtype=np.int64)
        self._offsets.append(sets.offsets[1:] + len(self._values.view()))
        self._values.append(sets.values)
        self._parents.append(numbers)
        worded = sets.sizes() > 0
        flat = keys[worded].ravel()
        rows = np.repeat(numbers[worded], keys.shape[1])
        order = np.argsort(flat, kind="stable")
        flat, rows = flat[order], rows[order]
        if len(flat):
            self._link(flat, rows)
            self._runs.append((flat, rows))
            self._merge_runs()

    def similar(self, sets: Sets, keys: U64) -> tuple[I64, NDArray[np.float64]]:
        """The numbers of all sets that share a key with the one set given and are similar enough, with similarities."""
        shared = [
            rows[begin:end]
            for run, rows in self._runs
            for begin, end in zip(
                np.searchsorted(run, keys[0]), np.searchsorted(run, keys[0], side="right"), strict=True
            )
        ]
        numbers = np.unique(np.concatenate(shared)) if shared else np.empty(0, np.int64)
        own, total = self.sets(), len(self._values.view())
        both = Sets(np.concatenate([own.values, sets.values]), np.append(own.offsets, total + len(sets.values)))
        alike = jaccard(both, numbers, np.full(len(numbers), len(own), np.int64))
        enough = alike >= self.threshold
        return numbers[enough], alike[enough]

    def roots(self) -> I64:
        """For each set the number that stands for its cluster."""
        return self._roots(self._parents.view())

    def _roots(self, numbers: I64) -> I64:
        parents = self._parents.view()
        while True:
            above = parents[numbers]
            if np.array_equal(above, numbers):
                return above
            numbers = above

    # -- linking

    def _link(self, keys: U64, rows: I64) -> None:
        """Link new sets, whose keys are sorted, among each other and with those of the runs."""
        ends = np.searchsorted(keys, keys, side="right")
        spans = [(rows, rows, np.arange(1, len(keys) + 1), ends)]
        for run, others in self._runs:
            begin, end = np.searchsorted(run, keys), np.searchsorted(run, keys, side="right")
            spans.append((rows, others, begin, end))
        nearest = [_pairs(left[end > begin], right[begin[end > begin]]) for left, right, begin, end in spans]
        tried = np.unique(np.concatenate(nearest))
        self._verify(tried)
        for left, right, begin, end in spans:
            self._link_rest(left, right, begin + 1, end, tried)

    def _link_rest(self, left: I64, right: I64, begin: I64, end: I64, tried: U64) -> None:
        """Verify the pairs ``left[i]`` and ``right[begin[i]:end[i]]`` that are not tried, nor linked in the meantime."""
        several = np.flatnonzero(end > begin)
        sums = np.concatenate(([0], np.cumsum((end - begin)[several])))
        at = 0
        while at < len(several):
            until = max(at + 1, int(np.searchsorted(sums, sums[at] + _PAIRS, side="right")) - 1)
            some = several[at:until]
            counts = (end - begin)[some]
            places = np.arange(int(counts.sum())) + np.repeat(begin[some] - (np.cumsum(counts) - counts), counts)
            one, other = np.repeat(left[some], counts), right[places]
            apart = self._roots(one) != self._roots(other)
            pairs = np.unique(_pairs(one[apart], other[apart]))
            self._verify(pairs[~np.isin(pairs, tried, assume_unique=True)])
            at = until

    def _verify(self, pairs: U64) -> None:
        left = (pairs >> np.uint64(32)).astype(np.int64)
        right = (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
        sizes = np.diff(self._offsets.view())
        small, large = np.minimum(sizes[left], sizes[right]), np.maximum(sizes[left], sizes[right])
        possible = (small >= self.threshold * large) & (left != right)
        left, right = left[possible], right[possible]
        alike = jaccard(self.sets(), left, right) >= self.threshold
        parents = self._parents.view()
        for one, other in zip(left[alike].tolist(), right[alike].tolist(), strict=True):
            low, high = sorted((_root(parents, one), _root(parents, other)))
            parents[high] = low

    def _merge_runs(self) -> None:
        while len(self._runs) > 1 and 2 * len(self._runs[-1][0]) >= len(self._runs[-2][0]):
            (keys, rows), (more_keys, more_rows) = self._runs[-2:]
            both, numbers = np.concatenate([keys, more_keys]), np.concatenate([rows, more_rows])
            order = np.argsort(both, kind="stable")
            self._runs[-2:] = [(both[order], numbers[order])]

    # -- on disk

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays, for :meth:`restore`."""
        keys = np.concatenate([np.empty(0, np.uint64), *(keys for keys, _ in self._runs)])
        rows = np.concatenate([np.empty(0, np.int64), *(rows for _, rows in self._runs)])
        order = np.lexsort((rows, keys))
        return {
            "values": self._values.view(),
            "offsets": self._offsets.view(),
            "roots": self.roots(),
            "keys": keys[order],
            "rows": rows[order],
        }

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over what :meth:`arrays` gave, into an object that nothing was added to. Raises ValueError on damage."""
        offsets, roots, rows = arrays["offsets"], arrays["roots"], arrays["rows"]
        count = len(offsets) - 1
        consistent = (
            count >= 0
            and offsets[0] == 0
            and offsets[-1] == len(arrays["values"])
            and bool((np.diff(offsets) >= 0).all())
            and len(roots) == count
            and len(rows) == len(arrays["keys"])
            and bool(((roots >= 0) & (roots < count)).all())
            and bool(((rows >= 0) & (rows < count)).all())
        )
        if not consistent:
            raise ValueError("its parts do not agree")
        self._values.append(arrays["values"])
        self._offsets.append(offsets[1:])
        self._parents.append(roots)
        if len(rows):
            self._runs.append((arrays["keys"], rows))


def _pairs(left: I64, right: I64) -> U64:
    """Pairs of numbers below 2³² as one number each, the lesser in the high half."""
    low, high = np.minimum(left, right).astype(np.uint64), np.maximum(left, right).astype(np.uint64)
    return (low << np.uint64(32)) | high


def _root(parents: NDArray[Any], number: int) -> int:
    while (above := int(parents[number])) != number:
        parents[number] = parents[above]
        number = above
    return number
