"""Patterns across a build: which interactions say nearly what another says, known once all of them are read.

The text to compare and the score to choose by are noted in files of each shard while it is read; here they meet
(:mod:`tracemill.dataset.near`). A step leaves out what a better one stands for; a recipe that splits by near duplicates
keeps them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from tracemill.core.errors import RecipeError
from tracemill.core.steps import Progress
from tracemill.dataset.ledger import DUPLICATE, NOT_NOVEL, Ledger
from tracemill.dataset.rules import DuplicatePatterns, Novelty
from tracemill.dataset.shards import Shard
from tracemill.dataset.site import Crew
from tracemill.dataset.texts import TextFiles, read_narrow
from tracemill.quality.coverage import coverage


@dataclass(frozen=True)
class Comparing:
    """Who compares the texts of a build, and where."""

    crew: Crew
    work: Path
    progress: Progress | None


def mark_duplicates(by: Comparing, all_shards: Sequence[Shard], ledger: Ledger, step: DuplicatePatterns) -> None:
    """Note in the ledger every interaction that a better one stands for. Calls that a later one repeats are left aside.

    Raises RecipeError when NumPy is not installed.
    """
    _check_numpy("the step duplicate_patterns")
    for numbers in _clusters(by, _standing(all_shards, ledger), ledger, step):
        for number in numbers[1:]:
            ledger.duplicate[number] = DUPLICATE


def mark_known(by: Comparing, all_shards: Sequence[Shard], ledger: Ledger, step: Novelty) -> None:
    """Note in the ledger every interaction of too low a novelty, and what the texts cover in its notes.

    Duplicates that are marked already are left aside. Raises RecipeError when NumPy is not installed.
    """
    _check_numpy("the step novelty")
    files = _standing(all_shards, ledger)
    total = sum(one.stands(narrow.place) for one in files for narrow in read_narrow(one.narrow))
    sizes = []
    for numbers in _clusters(by, files, ledger, step):
        sizes.append(len(numbers))
        for rank, number in enumerate(numbers, 1):
            if 1 / rank < step.minimum:
                ledger.duplicate[number] = NOT_NOVEL
    ledger.notes.append(f"Coverage: {coverage([*sizes, *([1] * (total - sum(sizes)))]).sentence()}")


GROUP_RECALL = 0.999
"""How surely a pair just at the similarity is found: a missed one may come to lie in two splits."""


def join_duplicates(by: Comparing, all_shards: Sequence[Shard], ledger: Ledger, similarity: float) -> None:
    """Make near duplicates one group: exact Jaccard similarity of their runs of three words of at least ``similarity``.

    Calls that a later one repeats count too, and so do the lines that every conversation has: what looks alike to whoever
    checks the splits is held together. Raises RecipeError when NumPy is not installed.
    """
    _check_numpy("split.group: near_duplicate")
    from tracemill.dataset.near import Comparison, clusters  # noqa: PLC0415 - needs NumPy

    how, files = Comparison(similarity, recall=GROUP_RECALL), _files(all_shards, ledger, bytes([1]) * len(ledger.ids))
    for cluster in clusters(by.crew, by.work, files, how, ledger.ids.__getitem__, by.progress):
        for number in cluster.numbers[1:]:
            ledger.groups.join(cluster.numbers[0], number)


def _clusters(
    by: Comparing, files: Sequence[TextFiles], ledger: Ledger, step: DuplicatePatterns | Novelty
) -> list[tuple[int, ...]]:
    """The numbers of interactions that say the same, best first."""
    from tracemill.dataset.near import Comparison, clusters  # noqa: PLC0415 - needs NumPy

    how = Comparison(step.threshold, step.shingle, step.recall, step.boilerplate)
    return [cluster.numbers for cluster in clusters(by.crew, by.work, files, how, ledger.ids.__getitem__, by.progress)]


def _check_numpy(what: str) -> None:
    if find_spec("numpy") is None:
        raise RecipeError(
            f"{what} needs NumPy, which is not installed", hint="Install it with: pip install 'tracemill[quality]'"
        )


def _standing(all_shards: Sequence[Shard], ledger: Ledger) -> list[TextFiles]:
    """The texts of every shard, those of calls that a later one repeats left aside, and of duplicates."""
    aside = zip(ledger.superseded, ledger.duplicate, strict=True)
    return _files(all_shards, ledger, bytes(not (repeated or duplicate) for repeated, duplicate in aside))


def _files(all_shards: Sequence[Shard], ledger: Ledger, compared: bytes) -> list[TextFiles]:
    """The texts of every shard; ``compared`` says by number which."""
    return [
        TextFiles(shard.patterns_path, shard.narrow_path, base, compared[base:end])
        for shard, (base, end) in zip(all_shards, pairwise([*ledger.bases, len(ledger.ids)]), strict=True)
    ]
