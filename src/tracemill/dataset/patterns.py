"""Patterns across a build: which interactions say nearly what another says, known once all of them are read.

The text to compare and the score to choose by are noted in a file of each shard while it is read; here they meet. A step
leaves out what a better one stands for; a recipe that splits by near duplicates keeps them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tracemill.core.errors import RecipeError
from tracemill.core.ids import id_text
from tracemill.dataset.ledger import DUPLICATE, NOT_NOVEL, Ledger
from tracemill.dataset.rules import DuplicatePatterns, Novelty
from tracemill.dataset.shards import Pattern, Shard
from tracemill.quality.coverage import coverage
from tracemill.quality.documents import Boilerplate

if TYPE_CHECKING:
    from tracemill.quality.duplicates import DuplicateIndex


def mark_duplicates(all_shards: Sequence[Shard], ledger: Ledger, step: DuplicatePatterns) -> None:
    """Note in the ledger every interaction that a better one stands for. Calls that a later one repeats are left aside.

    Raises RecipeError when NumPy is not installed.
    """
    index, numbers, _ = _index(all_shards, ledger, step, "duplicate_patterns")
    for duplicate in index.duplicates():
        ledger.duplicate[numbers[duplicate.id]] = DUPLICATE


def mark_known(all_shards: Sequence[Shard], ledger: Ledger, step: Novelty) -> None:
    """Note in the ledger every interaction of too low a novelty, and what the texts cover in its notes.

    Duplicates that are marked already are left aside. Raises RecipeError when NumPy is not installed.
    """
    index, numbers, scores = _index(all_shards, ledger, step, "novelty")
    sizes = []
    for cluster in index.clusters():
        members = [cluster.kept, *(duplicate.id for duplicate in cluster.duplicates)]
        sizes.append(len(members))
        ranked = sorted(members, key=lambda identity: (-scores[identity], identity))
        for rank, identity in enumerate(ranked, 1):
            if 1 / rank < step.minimum:
                ledger.duplicate[numbers[identity]] = NOT_NOVEL
    alone = len(index) - sum(sizes)
    ledger.notes.append(f"Coverage: {coverage([*sizes, *([1] * alone)]).sentence()}")


def _index(
    all_shards: Sequence[Shard], ledger: Ledger, step: DuplicatePatterns | Novelty, name: str
) -> tuple[DuplicateIndex, dict[str, int], dict[str, float]]:
    """The index of all texts that stand, their numbers in the ledger, and their scores."""
    _check_numpy(f"the step {name}")
    from tracemill.quality.duplicates import Document, DuplicateIndex  # noqa: PLC0415 - needs NumPy

    boilerplate = Boilerplate(step.boilerplate)
    for _, pattern in _standing(all_shards, ledger):
        boilerplate.count(pattern.text)
    index = DuplicateIndex(step.threshold, shingle=step.shingle, recall=step.recall)
    numbers: dict[str, int] = {}
    scores: dict[str, float] = {}

    def documents() -> Iterator[Document]:
        for number, pattern in _standing(all_shards, ledger):
            identity = id_text(ledger.ids[number])
            numbers[identity], scores[identity] = number, pattern.score
            yield Document(identity, boilerplate.without(pattern.text), pattern.score)

    index.add(documents())
    return index, numbers, scores


def join_duplicates(all_shards: Sequence[Shard], ledger: Ledger, similarity: float) -> None:
    """Make near duplicates one group: exact Jaccard similarity of their runs of three words of at least ``similarity``.

    Calls that a later one repeats count too, and so do the lines that every conversation has: what looks alike to whoever
    checks the splits is held together. Raises RecipeError when NumPy is not installed.
    """
    _check_numpy("split.group: near_duplicate")
    from tracemill.quality.duplicates import Document, DuplicateIndex  # noqa: PLC0415 - needs NumPy

    index = DuplicateIndex(similarity, recall=GROUP_RECALL)
    numbers: dict[str, int] = {}

    def documents() -> Iterator[Document]:
        for shard in all_shards:
            for pattern in shard.patterns():
                number = ledger.number((shard.number, pattern.place))
                identity = id_text(ledger.ids[number])
                numbers[identity] = number
                yield Document(identity, pattern.text)

    index.add(documents())
    for duplicate in index.duplicates():
        ledger.groups.join(numbers[duplicate.kept], numbers[duplicate.id])


GROUP_RECALL = 0.999
"""How surely a pair just at the similarity is found: a missed one may come to lie in two splits."""


def _check_numpy(what: str) -> None:
    if find_spec("numpy") is None:
        raise RecipeError(
            f"{what} needs NumPy, which is not installed", hint="Install it with: pip install 'tracemill[quality]'"
        )


def _standing(all_shards: Sequence[Shard], ledger: Ledger) -> Iterator[tuple[int, Pattern]]:
    for shard in all_shards:
        for pattern in shard.patterns():
            number = ledger.number((shard.number, pattern.place))
            if not ledger.superseded[number] and not ledger.duplicate[number]:
                yield number, pattern
