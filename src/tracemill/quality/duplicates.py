"""Exact and near duplicates: an index that texts are added to, and the clusters it finds.

Two texts are near duplicates when the Jaccard similarity of their shingle sets is at least ``threshold``. Candidates come
from MinHash bands (:mod:`tracemill.quality.minhash`) and are all verified by exact Jaccard, so that nothing below the
threshold is ever linked; a pair at the threshold is missed with at most the probability 1 − ``recall``. Linked texts are
one cluster (union-find), therefore two texts of a cluster may be less alike than the threshold when others stand between
them. Of a cluster the text with the highest score is kept, of equals the one with the least id.

The clusters are those of the graph "share a band and are similar enough". That graph knows no order, so the clusters are
the same whatever the order and the batches in which texts were added, in every process, with saving and loading between.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tracemill.core.errors import DatasetError
from tracemill.quality.candidates import Candidates
from tracemill.quality.minhash import Sets, band_keys, bands_for, jaccard, shingle_sets, signatures

FORMAT = 1
_BATCH = 4096
"""Texts hashed and linked at a time."""
_DIGEST = 16


@dataclass(frozen=True, slots=True)
class Document:
    """A text to compare, under an id. Of duplicates the one with the highest ``score`` is kept."""

    id: str
    text: str
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A text that another stands for. ``similarity`` is the exact Jaccard similarity to the one that is kept.

    ``kind`` is ``exact`` when both texts are the same to the last character.
    """

    id: str
    kept: str
    kind: Literal["exact", "near"]
    similarity: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """Texts that say the same: the id of the best, and its duplicates by id."""

    kept: str
    duplicates: tuple[Duplicate, ...]


class DuplicateIndex:
    """Texts by what they say. Memory: about 2.3 KB a text of 100 words, most of it its shingles (8 bytes each)
    and band keys (16 bytes each).

    ``threshold``, ``recall`` and ``permutations`` choose the bands and rows (see
    :func:`tracemill.quality.minhash.bands_for`); ``shingle`` is the number of words of a shingle. Raises ValueError for
    numbers that cannot be used.
    """

    def __init__(
        self, threshold: float = 0.8, *, shingle: int = 3, recall: float = 0.99, permutations: int = 128
    ) -> None:
        if shingle < 1:
            raise ValueError("a shingle has at least one word")
        self.threshold, self.shingle, self.recall, self.permutations = threshold, shingle, recall, permutations
        self.bands, self.rows = bands_for(threshold, recall=recall, permutations=permutations)
        self._numbers: dict[str, int] = {}
        self._scores: list[float] = []
        self._set_of: list[int] = []
        """By text the number of its set: exact duplicates share one."""
        self._by_digest: dict[bytes, int] = {}
        self._candidates = Candidates(threshold)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, identity: object) -> bool:
        return identity in self._numbers

    def add(self, documents: Iterable[Document]) -> int:
        """Add texts; gives how many were new. A text whose id is known already is left as it was."""
        before = len(self._numbers)
        waiting = iter(documents)
        while batch := list(islice(waiting, _BATCH)):
            self._add_batch(batch)
        return len(self._numbers) - before

    def _add_batch(self, batch: list[Document]) -> None:
        texts: list[str] = []
        for document in batch:
            if document.id in self._numbers:
                continue
            digest = hashlib.blake2b(document.text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()
            number = self._by_digest.get(digest)
            if number is None:
                number = self._by_digest[digest] = len(self._by_digest)
                texts.append(document.text)
            self._numbers[document.id] = len(self._scores)
            self._scores.append(document.score)
            self._set_of.append(number)
        sets = shingle_sets(texts, self.shingle)
        self._candidates.add(sets, self._keys(sets))

    def _keys(self, sets: Sets) -> NDArray[np.uint64]:
        return band_keys(signatures(sets, self.bands * self.rows), self.bands, self.rows)

    def similar(self, text: str) -> list[tuple[str, float]]:
        """The ids of added texts whose similarity to ``text`` is at least the threshold, most similar first, then by id.

        The text is not added. A text without words is similar to none.
        """
        sets = shingle_sets([text], self.shingle)
        if not sets.sizes()[0]:
            return []
        found = self._candidates.similar(sets, self._keys(sets))
        by_set = dict(zip(found[0].tolist(), found[1].tolist(), strict=True))
        alike = [(name, by_set[self._set_of[at]]) for name, at in self._numbers.items() if self._set_of[at] in by_set]
        return sorted(alike, key=lambda pair: (-pair[1], pair[0]))

    def clusters(self) -> list[Cluster]:
        """Every cluster of more than one text, by the id of the text that is kept."""
        roots = self._candidates.roots()[np.asarray(self._set_of, np.int64)] if self._numbers else np.empty(0, np.int64)
        members: dict[int, list[str]] = {}
        several = np.bincount(roots) > 1
        for name, root in zip(self._numbers, roots.tolist(), strict=True):
            if several[root]:
                members.setdefault(root, []).append(name)
        pairs: list[tuple[str, str]] = []
        for names in members.values():
            kept = min(names, key=lambda name: (-self._scores[self._numbers[name]], name))
            pairs.extend((kept, name) for name in sorted(names) if name != kept)
        alike = self._similarities(pairs)
        found: dict[str, list[Duplicate]] = {}
        for (kept, name), similarity in zip(pairs, alike, strict=True):
            same = self._set_of[self._numbers[kept]] == self._set_of[self._numbers[name]]
            found.setdefault(kept, []).append(Duplicate(name, kept, "exact" if same else "near", similarity))
        return [Cluster(kept, tuple(found[kept])) for kept in sorted(found)]

    def duplicates(self) -> Iterator[Duplicate]:
        """Every text that another stands for."""
        for cluster in self.clusters():
            yield from cluster.duplicates

    def _similarities(self, pairs: list[tuple[str, str]]) -> list[float]:
        left = np.fromiter((self._set_of[self._numbers[kept]] for kept, _ in pairs), np.int64, len(pairs))
        right = np.fromiter((self._set_of[self._numbers[name]] for _, name in pairs), np.int64, len(pairs))
        alike = jaccard(self._candidates.sets(), left, right)
        alike[left == right] = 1.0
        return [float(value) for value in alike]

    # -- on disk

    def save(self, path: Path) -> None:
        """Write the index to a file, whole or not at all (NumPy's npz). Raises DatasetError when it cannot be written."""
        names = [name.encode("utf-8", "surrogatepass") for name in self._numbers]
        settings = {name: getattr(self, name) for name in ("threshold", "shingle", "recall", "permutations")}
        arrays: dict[str, NDArray[Any]] = {
            "about": _bytes(json.dumps({"format": FORMAT, **settings}).encode()),
            "ids": _bytes(b"".join(names)),
            "id_lengths": np.fromiter(map(len, names), np.int64, len(names)),
            "scores": np.asarray(self._scores, np.float64),
            "set_of": np.asarray(self._set_of, np.int64),
            "digests": _bytes(b"".join(self._by_digest)),
            **self._candidates.arrays(),
        }
        beside = path.with_name(f".{path.name}.writing")
        try:
            with beside.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise DatasetError(f"the index of duplicates cannot be written to {path}: {error}") from error

    @classmethod
    def load(cls, path: Path) -> DuplicateIndex:
        """The index of a file that :meth:`save` wrote. Raises DatasetError when it cannot be read or is damaged."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            about = json.loads(arrays["about"].tobytes())
            if about.pop("format") != FORMAT:
                raise DatasetError(f"{path} was written by another version of tracemill", hint="Build the index again.")
            index = cls(about.pop("threshold"), **about)
            index._restore(arrays)
        except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DatasetError(f"{path} holds no index of duplicates that can be read: {error}") from error
        return index

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        raw, at = arrays["ids"].tobytes(), 0
        for number, length in enumerate(arrays["id_lengths"].tolist()):
            self._numbers[raw[at : at + length].decode("utf-8", "surrogatepass")] = number
            at += length
        self._scores = [float(score) for score in arrays["scores"]]
        self._set_of = [int(number) for number in arrays["set_of"]]
        digests = arrays["digests"].tobytes()
        self._by_digest = {digests[at : at + _DIGEST]: at // _DIGEST for at in range(0, len(digests), _DIGEST)}
        self._candidates.restore(arrays)
        counts = {len(self._numbers), len(self._scores), len(self._set_of)}
        if len(counts) > 1 or len(self._by_digest) != len(self._candidates.sets()):
            raise ValueError("its parts do not agree")


def brute_force(documents: Iterable[Document], threshold: float = 0.8, *, shingle: int = 3) -> set[tuple[str, str]]:
    """Every pair of ids, the lesser first, whose texts are at least so similar: all pairs compared. For measuring recall."""
    listed = list(documents)
    sets = shingle_sets([document.text for document in listed], shingle)
    found: set[tuple[str, str]] = set()
    for at, document in enumerate(listed):
        others = np.arange(at + 1, len(listed), dtype=np.int64)
        alike = jaccard(sets, np.full(len(others), at, np.int64), others)
        for other in others[alike >= threshold].tolist():
            low, high = sorted((document.id, listed[other].id))
            found.add((low, high))
    return found


def _bytes(raw: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(raw, np.uint8)
