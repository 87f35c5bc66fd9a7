"""Augmentation as a part of a recipe: variations of supervised examples, for the split ``train`` alone.

Only operations that are a function of the record and the recipe are offered here: none reads a file or runs a model, so that
a version is the same wherever it is built. A variation has the sources of its example, so that it is erased with them, and
goes the way of its example: it falls where that is repeated by a later call or by a better duplicate, and where its group is
drawn into another split than ``train``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tracemill.core.examples import SupervisedExample
from tracemill.core.steps import Drop
from tracemill.dataset.history import split_tail
from tracemill.dataset.identity import identified
from tracemill.quality.augment import OTHER_NAMES, DataAugmentor
from tracemill.quality.scenarios import SlotValue

TRAIN = "train"
"""The one split that augmented rows are in."""


class Augmentation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to make of every supervised example; see :class:`tracemill.quality.augment.DataAugmentor` and docs/augmentation.md.

    ``synonyms``, ``slots`` and ``distractors`` stand in the recipe itself, so that its hash covers them.
    """

    operations: tuple[
        Literal[
            "synonyms",
            "insertion",
            "deletion",
            "swap",
            "scenario_variation",
            "failure_injection",
            "edge_cases",
            "difficulty_progression",
        ],
        ...,
    ]
    per_example: Annotated[int, Meta(ge=1, le=100)] = 1
    rate: Annotated[float, Meta(gt=0, le=1)] = 0.1
    similarity: Annotated[float, Meta(ge=0, le=1)] = 0.8
    seed: int = 0
    synonyms: dict[str, tuple[str, ...]] = {}
    slots: dict[str, tuple[SlotValue, ...]] = {}
    distractors: tuple[dict[str, Any], ...] = ()


def usual_names(augment: dict[str, Any]) -> dict[str, Any]:
    """The same with our names of operations, where a recipe file has those of other systems."""
    operations = augment.get("operations")
    if not isinstance(operations, list):
        return augment
    return {**augment, "operations": [OTHER_NAMES.get(str(name), name) for name in operations]}


def augmentor_of(augmentation: Augmentation) -> DataAugmentor:
    """The augmentor that a recipe describes. It makes whole rows only."""
    return DataAugmentor(
        augmentation.operations,
        seed=augmentation.seed,
        per_example=augmentation.per_example,
        rate=augmentation.rate,
        similarity=augmentation.similarity,
        synonyms=augmentation.synonyms,
        slots=augmentation.slots,
        distractors=augmentation.distractors,
        whole_only=True,
    )


def variations(example: SupervisedExample, augmentation: Augmentation) -> list[SupervisedExample] | Drop:
    """The variations of one example, each content once; else why there are none.

    Their confidence is the example's × the similarity of what was reworded; nobody has validated them.
    """
    augmentor = augmentor_of(augmentation)
    found: dict[str, SupervisedExample] = {}
    for variation in augmentor.vary(example.messages, example.tools, source=example.id):
        messages, tail = split_tail(variation.made.messages)
        made = msgspec.structs.replace(
            example,
            messages=messages,
            tail=tail,  # what the source said after its last answer is no part of this
            tools=variation.made.tools,
            confidence=example.confidence * variation.similarity,
            human_validated=False,
            augmented=variation.augmented,
        )
        made = identified(made)
        if made.id != example.id and messages:
            found.setdefault(made.id, made)
    if found:
        return list(found.values())
    reason = min(augmentor.refused, default="nothing_to_change")
    return Drop(reason.rpartition(".")[2])
