"""Near duplicates of a whole build, whose texts are never in memory together.

The clusters are those of :class:`tracemill.quality.duplicates.DuplicateIndex`: texts that share a band of their MinHash
signatures and whose exact Jaccard similarity reaches the threshold are linked, and linked texts are one cluster. Here
the work is cut into parts that workers do:

1. every shard gives the band keys and a digest of each of its texts (eight bytes a band);
2. one band at a time, keys of all texts are sorted; equal ones make candidates, exact copies standing for one another;
3. every shard gives the shingles of its texts that are candidates, which are few;
4. candidates are verified and linked; where several texts share a key, neighbours first, then those still apart.

In memory at once are a digest, two numbers and one band's key for each text, 48 bytes, and the candidates.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tracemill.core.steps import Progress
from tracemill.dataset.files import WholeFile
from tracemill.dataset.site import Crew, Site
from tracemill.dataset.texts import Pattern, TextFiles, read_narrow, read_texts
from tracemill.quality.documents import least_count, without_lines
from tracemill.quality.minhash import Sets, band_keys, bands_for, jaccard, shingle_sets, signatures

Numbers: TypeAlias = NDArray[np.int64]
_BATCH = 512
"""Texts hashed at a time."""
_PAIRS = 1 << 14
"""Candidates verified at a time."""
_DIGEST = 16
_LINE = 8


@dataclass(frozen=True)
class Comparison:
    """How texts are compared; see :class:`tracemill.dataset.rules.DuplicatePatterns`. Without ``boilerplate`` whole."""

    threshold: float
    shingle: int = 3
    recall: float = 0.99
    boilerplate: float | None = None


@dataclass(frozen=True)
class _Asked:
    """What a worker is asked of one shard."""

    files: TextFiles
    how: Comparison
    shared: frozenset[bytes]
    target: Path
    chosen: bytes = b""
    """Places, four bytes each, of the texts whose shingles are asked for."""


@dataclass(frozen=True)
class Cluster:
    """Interactions, by number, that say the same, best first: by descending score, of equals by id."""

    numbers: tuple[int, ...]


def clusters(
    crew: Crew,
    work: Path,
    shards: Sequence[TextFiles],
    how: Comparison,
    identity: Callable[[int], bytes],
    progress: Progress | None = None,
) -> list[Cluster]:
    """Every cluster of more than one text, by the id of its best. ``identity`` gives the id of a number."""
    shared = _shared_lines(shards, how)
    asked = [_Asked(files, how, shared, work / f"near-{at:06d}.keys") for at, files in enumerate(shards)]
    counts = [0] * len(shards)
    for done, (at, count) in enumerate(crew.run(keys_of_shard, asked), 1):
        counts[at] = count
        if progress is not None:
            progress("compare texts", done, len(asked) + 1)
    texts = _Texts(asked, np.asarray(counts, np.int64))
    linked = texts.link(crew)
    found = _ranked(linked, texts, identity)
    for one in asked:
        for path in work.glob(f"{one.target.stem}.*"):
            path.unlink()
    if progress is not None:
        progress("compare texts", len(asked) + 1, len(asked) + 1)
    return found


def _shared_lines(shards: Sequence[TextFiles], how: Comparison) -> frozenset[bytes]:
    """The digests of lines that are boilerplate. Only those that are so in some shard can be so in all.

    A line that stands in a share of all documents stands in that share of some shard's at least.
    """
    if how.boilerplate is None:
        return frozenset()
    documents = 0
    candidates: set[bytes] = set()
    for files in shards:
        count, lines = _line_counts(files)
        documents += count
        candidates.update(line for line, times in lines.items() if times >= how.boilerplate * count)
    total: Counter[bytes] = Counter()
    for files in shards if candidates else ():
        _, lines = _line_counts(files)
        total.update({line: lines[line] for line in candidates if line in lines})
    enough = least_count(documents, how.boilerplate)
    return frozenset(line for line, times in total.items() if times >= enough)


def _line_counts(files: TextFiles) -> tuple[int, Counter[bytes]]:
    count = 0
    lines: Counter[bytes] = Counter()
    for one in read_narrow(files.narrow):
        if files.stands(one.place):
            count += 1
            lines.update(one.lines[at : at + _LINE] for at in range(0, len(one.lines), _LINE))
    return count, lines


# -- parts


def _standing(files: TextFiles) -> Iterator[Pattern]:
    return (pattern for pattern in read_texts(files.texts) if files.stands(pattern.place))


def keys_of_shard(_site: Site, asked: _Asked) -> int:
    """Write a shard's band keys, one band after another, then the digests of its texts; gives how many texts there are."""
    bands, rows = bands_for(asked.how.threshold, recall=asked.how.recall)
    keys = [np.empty((0, bands), np.uint64)]
    digests: list[bytes] = []
    places, scores = array("i"), array("d")
    patterns = _standing(asked.files)
    while batch := list(islice(patterns, _BATCH)):
        contents = [without_lines(one.text, asked.shared) for one in batch]
        sets = shingle_sets(contents, asked.how.shingle)
        found = band_keys(signatures(sets, bands * rows), bands, rows)
        found[sets.sizes() == 0] = 0  # a text without words is like none but its copies
        keys.append(found)
        digests.extend(_digest(content) for content in contents)
        places.extend(one.place for one in batch)
        scores.extend(one.score for one in batch)
    whole = np.concatenate(keys)
    with WholeFile(asked.target, sync=False) as file:
        file.write(np.ascontiguousarray(whole.T).tobytes())
    with WholeFile(asked.target.with_suffix(".texts"), sync=False) as file:
        file.write(b"".join(digests) + places.tobytes() + scores.tobytes())
    return len(whole)


def _digest(content: str) -> bytes:
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()


def sets_of_shard(_site: Site, asked: _Asked) -> list[int]:
    """Write the shingles of some of a shard's texts one after another; gives how many each has."""
    chosen = set(array("i", asked.chosen))
    patterns = (one for one in _standing(asked.files) if one.place in chosen)
    sizes: list[int] = []
    with WholeFile(asked.target.with_suffix(".sets"), sync=False) as file:
        while batch := list(islice(patterns, _BATCH)):
            sets = shingle_sets([without_lines(one.text, asked.shared) for one in batch], asked.how.shingle)
            file.write(sets.values.tobytes())
            sizes.extend(sets.sizes().tolist())
    return sizes


# -- all texts together


class _Texts:
    """The narrow columns of all compared texts. Texts are counted through all shards."""

    def __init__(self, asked: Sequence[_Asked], counts: Numbers) -> None:
        self.asked, self.counts = asked, counts
        self.begins = np.concatenate(([0], np.cumsum(counts)))
        total = int(self.begins[-1])
        self.numbers = np.empty(total, np.int64)
        self.scores = np.empty(total, np.float64)
        digests = np.empty((total, 2), np.uint64)
        for at, one in enumerate(asked):
            begin, end = self.begins[at], self.begins[at + 1]
            raw = one.target.with_suffix(".texts").read_bytes()
            split = (end - begin) * _DIGEST
            digests[begin:end] = np.frombuffer(raw[:split], np.uint64).reshape(-1, 2)
            self.numbers[begin:end] = np.frombuffer(raw[split : split + 4 * (end - begin)], np.int32) + one.files.base
            self.scores[begin:end] = np.frombuffer(raw[split + 4 * (end - begin) :], np.float64)
        self.parents = _first_equal(digests)
        self.sizes: Numbers = np.zeros(total, np.int64)
        self.offsets: Numbers = np.zeros(total, np.int64)

    def link(self, crew: Crew) -> Numbers:
        """For each text the one that stands for its cluster."""
        how = self.asked[0].how if self.asked else Comparison(0.5)
        alone = np.flatnonzero(self.parents == np.arange(len(self.parents)))  # copies need no comparing
        bands, _ = bands_for(how.threshold, recall=how.recall)
        near = [np.empty((0, 2), np.int64)]
        groups: list[Numbers] = []
        for band in range(bands):
            pairs, several = _candidates(self._band(band)[alone], alone)
            near.append(pairs)
            groups.extend(several)
        pairs = np.unique(np.concatenate(near), axis=0)
        self._read_sets(crew, np.unique(pairs))
        self._verify(pairs, how.threshold)
        for group in groups:
            self._link_rest(group, how.threshold)
        return self._roots(np.arange(len(self.parents)))

    def _band(self, band: int) -> NDArray[np.uint64]:
        keys = np.empty(len(self.parents), np.uint64)
        for at, one in enumerate(self.asked):
            count = int(self.counts[at])
            with one.target.open("rb") as file:
                file.seek(band * count * 8)
                keys[self.begins[at] : self.begins[at + 1]] = np.frombuffer(file.read(count * 8), np.uint64)
        return keys

    def _read_sets(self, crew: Crew, chosen: Numbers) -> None:
        """Have the shards give the shingles of the candidates, and note where those of each begin."""
        of_shard = np.searchsorted(self.begins, chosen, side="right") - 1
        needed = np.unique(of_shard)
        asked = []
        for at in needed.tolist():
            one = self.asked[at]
            places = (self.numbers[chosen[of_shard == at]] - one.files.base).astype(np.int32)
            asked.append(_Asked(one.files, one.how, one.shared, one.target, places.tobytes()))
        for at, sizes in crew.run(sets_of_shard, asked):
            own = chosen[of_shard == needed[at]]
            self.sizes[own] = sizes
            self.offsets[own] = np.cumsum([0, *sizes[:-1]])

    def _sets(self, texts: Numbers) -> Sets:
        """The shingle sets of some texts, read from their shards' files."""
        offsets = np.concatenate(([0], np.cumsum(self.sizes[texts])))
        values = np.empty(int(offsets[-1]), np.uint64)
        of_shard = np.searchsorted(self.begins, texts, side="right") - 1
        for at in np.unique(of_shard).tolist():
            with self.asked[at].target.with_suffix(".sets").open("rb") as file:
                for place in np.flatnonzero(of_shard == at).tolist():
                    text = texts[place]
                    file.seek(int(self.offsets[text]) * 8)
                    values[offsets[place] : offsets[place + 1]] = np.frombuffer(
                        file.read(int(self.sizes[text]) * 8), np.uint64
                    )
        return Sets(values, offsets)

    def _verify(self, pairs: NDArray[np.int64], threshold: float) -> None:
        """Link the pairs of texts whose exact similarity reaches the threshold."""
        small, large = np.sort(self.sizes[pairs], axis=1).T
        possible = pairs[(small > 0) & (small >= threshold * large)]
        for at in range(0, len(possible), _PAIRS):
            some = possible[at : at + _PAIRS]
            texts, where = np.unique(some, return_inverse=True)
            left, right = where.reshape(-1, 2).T
            alike = jaccard(self._sets(texts), left, right) >= threshold
            for one, other in some[alike].tolist():
                self._join(one, other)

    def _link_rest(self, group: Numbers, threshold: float) -> None:
        """Verify the pairs of texts of one key that nothing has linked yet, each text with all behind it."""
        for at in range(len(group) - 2):
            roots = self._roots(group[at:])
            if bool((roots == roots[0]).all()):
                return
            apart = group[at + 2 :][roots[2:] != roots[0]]  # the next one was tried
            self._verify(np.column_stack((np.full(len(apart), group[at]), apart)), threshold)

    def _join(self, one: int, other: int) -> None:
        low, high = sorted((self._root(one), self._root(other)))
        self.parents[high] = low

    def _root(self, text: int) -> int:
        parents = self.parents
        while (above := int(parents[text])) != text:
            parents[text] = parents[above]
            text = above
        return text

    def _roots(self, texts: Numbers) -> Numbers:
        while True:
            above = self.parents[texts]
            if np.array_equal(above, texts):
                return above
            texts = above


def _first_equal(digests: NDArray[np.uint64]) -> Numbers:
    """For each text the first that is the same to the last character."""
    order = np.lexsort((np.arange(len(digests)), digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    begins = np.concatenate(([True], (ordered[1:] != ordered[:-1]).any(axis=1)))[: len(digests)]
    first = np.empty(len(digests), np.int64)
    first[order] = order[np.maximum.accumulate(np.where(begins, np.arange(len(digests)), 0))]
    return first


def _candidates(keys: NDArray[np.uint64], texts: Numbers) -> tuple[NDArray[np.int64], list[Numbers]]:
    """Neighbours among the texts of equal keys, and the groups of three and more. A key of 0 is none."""
    order = np.lexsort((texts, keys))
    ordered, sorted_texts = keys[order], texts[order]
    same = (ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)
    pairs = np.column_stack((sorted_texts[:-1][same], sorted_texts[1:][same]))
    edges = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
    groups = [
        sorted_texts[begin : end + 1]
        for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        if end - begin >= 2
    ]
    return pairs, groups


def _ranked(roots: Numbers, texts: _Texts, identity: Callable[[int], bytes]) -> list[Cluster]:
    """Clusters of more than one text, their members in order."""
    several = np.flatnonzero(np.bincount(roots, minlength=len(roots))[roots] > 1) if len(roots) else roots
    members: dict[int, list[tuple[float, bytes, int]]] = {}
    for text in several.tolist():
        number = int(texts.numbers[text])
        members.setdefault(int(roots[text]), []).append((-float(texts.scores[text]), identity(number), number))
    ranked = sorted(map(sorted, members.values()), key=lambda listed: listed[0][1])
    return [Cluster(tuple(number for _, _, number in listed)) for listed in ranked]
