"""Duplicate patterns: which interactions of a build say nearly what another says, known once all of them are read.

The text to compare and the score to choose by are noted in files of each shard while it is read; here they meet
(:mod:`tracemill.dataset.near`).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tracemill.core.errors import RecipeError
from tracemill.dataset.ledger import Ledger
from tracemill.dataset.rules import DuplicatePatterns
from tracemill.dataset.shards import Shard
from tracemill.dataset.site import Crew
from tracemill.dataset.texts import TextFiles


def mark_duplicates(
    crew: Crew, work: Path, all_shards: Sequence[Shard], ledger: Ledger, step: DuplicatePatterns
) -> None:
    """Note in the ledger every interaction that a better one stands for. Calls that a later one repeats are left aside.

    Raises RecipeError when NumPy is not installed.
    """
    if find_spec("numpy") is None:
        raise RecipeError(
            "the step duplicate_patterns needs NumPy, which is not installed",
            hint="Install it with: pip install 'tracemill[quality]'",
        )
    from tracemill.dataset.near import Comparison, clusters  # noqa: PLC0415 - needs NumPy

    how = Comparison(step.threshold, step.shingle, step.recall, step.boilerplate)
    for cluster in clusters(crew, work, _standing(all_shards, ledger), how, ledger.ids.__getitem__):
        for number in cluster.numbers[1:]:
            ledger.duplicate[number] = 1


def _standing(all_shards: Sequence[Shard], ledger: Ledger) -> list[TextFiles]:
    """The texts of every shard, those of calls that a later one repeats left aside."""
    ends = [*ledger.bases[1:], len(ledger.ids)]
    return [
        TextFiles(
            shard.patterns_path,
            shard.narrow_path,
            base,
            bytes(1 - repeated for repeated in ledger.superseded[base:end]),
        )
        for shard, base, end in zip(all_shards, ledger.bases, ends, strict=True)
    ]
