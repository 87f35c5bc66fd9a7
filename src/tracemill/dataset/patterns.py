"""Patterns across a build: which interactions say nearly what another says, known once all of them are read.

The text to compare and the score to choose by are noted in files of each shard while it is read; here they meet
(:mod:`tracemill.dataset.near`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
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
    for numbers in _clusters(by, _standing(all_shards, ledger), ledger, step, "duplicate_patterns"):
        for number in numbers[1:]:
            ledger.duplicate[number] = DUPLICATE


def mark_known(by: Comparing, all_shards: Sequence[Shard], ledger: Ledger, step: Novelty) -> None:
    """Note in the ledger every interaction of too low a novelty, and what the texts cover in its notes.

    Duplicates that are marked already are left aside. Raises RecipeError when NumPy is not installed.
    """
    files = _standing(all_shards, ledger)
    total = sum(one.stands(narrow.place) for one in files for narrow in read_narrow(one.narrow))
    sizes = []
    for numbers in _clusters(by, files, ledger, step, "novelty"):
        sizes.append(len(numbers))
        for rank, number in enumerate(numbers, 1):
            if 1 / rank < step.minimum:
                ledger.duplicate[number] = NOT_NOVEL
    ledger.notes.append(f"Coverage: {coverage([*sizes, *([1] * (total - sum(sizes)))]).sentence()}")


def _clusters(
    by: Comparing,
    files: Sequence[TextFiles],
    ledger: Ledger,
    step: DuplicatePatterns | Novelty,
    name: str,
) -> list[tuple[int, ...]]:
    """The numbers of interactions that say the same, best first."""
    if find_spec("numpy") is None:
        raise RecipeError(
            f"the step {name} needs NumPy, which is not installed",
            hint="Install it with: pip install 'tracemill[quality]'",
        )
    from tracemill.dataset.near import Comparison, clusters  # noqa: PLC0415 - needs NumPy

    how = Comparison(step.threshold, step.shingle, step.recall, step.boilerplate)
    return [cluster.numbers for cluster in clusters(by.crew, by.work, files, how, ledger.ids.__getitem__, by.progress)]


def _standing(all_shards: Sequence[Shard], ledger: Ledger) -> list[TextFiles]:
    """The texts of every shard, those of calls that a later one repeats left aside, and of duplicates."""
    ends = [*ledger.bases[1:], len(ledger.ids)]
    aside = zip(ledger.superseded, ledger.duplicate, strict=True)
    stands = bytes(not (repeated or duplicate) for repeated, duplicate in aside)
    return [
        TextFiles(shard.patterns_path, shard.narrow_path, base, stands[base:end])
        for shard, base, end in zip(all_shards, ledger.bases, ends, strict=True)
    ]
