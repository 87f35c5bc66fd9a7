"""Usage guidelines: what a version is for, what it must not be used for, what is known to be wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tracemill.core.examples import Manifest
from tracemill.dataset.documents.card import plain_text

_GOOD_FOR = {
    "supervised": "supervised fine-tuning (SFT): imitating whole conversations",
    "labelled": "training on wanted and unwanted answers (KTO), or a reward model from labels",
    "preference": "preference training (DPO and its kin), or a reward model from pairs",
    "trajectory_preference": "comparing whole attempts at a task; **not** DPO, because the sides answer different histories",
    "action": "learning what an agent does next; the outcome in a row is for weighing it, not for training on",
    "reward": "training a reward model on scores of one scale",
    "retrieval": "training an embedding model or a reranker",
}
_ALWAYS_FORBIDDEN = (
    "finding out who the people behind the conversations are, or joining rows with other data about them",
    "decisions about a single person",
    "training after an erasure has taken the rows away: use the version that replaces this one",
)
_ALWAYS_LIMITED = (
    "Rows show what users of one application did in one span of time; nothing follows for other people or other times.",
    "Labels are what people and programs said, with the confidence that stands in each row; none was checked again.",
    "The splits are drawn by groups (users, conversations, tasks). Do not draw them anew by rows: that leaks.",
)


def usage_guidelines(manifest: Manifest, findings: Iterable[str]) -> str:
    """The text, as Markdown. ``findings`` are sentences of the report on representation."""
    recipe = manifest.recipe
    tags = sorted({tag for types in manifest.examples.values() for tag in types})
    held_out = [split for split in manifest.examples if split != "train"]
    limits = [*_ALWAYS_LIMITED, *map(plain_text, manifest.notes), *map(plain_text, findings)]
    if held_out and "train" in manifest.examples:
        limits.append(
            f"`{'` and `'.join(held_out)}` are held out: a model that trained on them cannot be measured by them."
        )
    return "\n".join(
        [
            f"# Using {plain_text(manifest.name)}",
            "",
            *([plain_text(str(recipe["description"])), ""] if recipe.get("description") else []),
            "## What it is for",
            "",
            *_purpose(recipe),
            *_list(map(plain_text, recipe.get("intended_uses", []))),
            *_list(f"{tag} rows: {_GOOD_FOR[tag]}" for tag in tags if tag in _GOOD_FOR),
            *([] if tags else ["- nothing: the version has no rows"]),
            "",
            "## What it must not be used for",
            "",
            *_list([*map(plain_text, recipe.get("forbidden_uses", [])), *_ALWAYS_FORBIDDEN]),
            "",
            "## Known limits",
            "",
            *_list(limits),
            "",
            "## Licence",
            "",
            _license(recipe),
            "",
        ]
    )


def _purpose(recipe: Mapping[str, Any]) -> list[str]:
    """The purpose that the people in it consented to, where the recipe names one."""
    purpose = recipe.get("purpose")
    return [f"- the purpose `{plain_text(str(purpose))}`, and no other"] if purpose else []


def _list(lines: Iterable[str]) -> Sequence[str]:
    return [f"- {line}" for line in lines]


def _license(recipe: Mapping[str, Any]) -> str:
    name = str(recipe.get("license", ""))
    if name:
        return plain_text(name)
    return "None is given: the rows may not be passed on. A recipe states one with `license`."
