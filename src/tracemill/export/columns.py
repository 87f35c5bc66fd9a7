"""What an export takes of a version: which splits, and which features stand in a row beside the format's own fields.

Of a version in folds one fold can be held out: its rows are ``test``, those of all others ``train``. Features are columns
only where they harm nobody: in Parquet and CSV, and in JSON lines that a service does not read and refuse. So is the mark of
rows that were made of others (``augmented``), which every row of a version with such rows has, unasked; where there is no
place for it, each row that lacks it is listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal

import msgspec

from tracemill.core.errors import ExportError
from tracemill.core.examples import Example, FeatureKind, SupervisedExample
from tracemill.dataset.splitting import fold_name, fold_number
from tracemill.dataset.version import Version
from tracemill.export.rows import Format

KINDS: Mapping[FeatureKind, str] = {
    "integer": "dtype: int64",
    "number": "dtype: float64",
    "flag": "dtype: bool",
    "word": "dtype: string",
}
"""The types of feature columns, as the header of a Hugging Face card names them."""
STRICT = ("openai-", "mistral", "together", "gemini", "atif")
"""Formats of services and documents whose readers refuse a field they do not know."""
ALL_ARE_READ = ("embedding-", "retrieval-")
"""Formats of trainers that take every column for a text to learn from."""
AUGMENTED = "augmented"
"""The column that says of a row what it was made of, as JSON text; an empty text for a row that is a record's own content."""
TEST, TRAIN = "test", "train"
_encode = msgspec.json.Encoder().encode


def parts(version: Version, fold: int | None) -> dict[str, list[str]]:
    """The splits of an export with the version's splits that each is made of.

    Raises ExportError for a version without folds, or without this one.
    """
    splits = version.splits()
    if fold is None:
        return {split: [split] for split in splits}
    folds = _folds(version)
    if not folds:
        hint = "Build it with `split: {folds: 5}` in the recipe."
        raise ExportError(f"{version.reference} has no folds", hint=hint)
    if fold not in folds:
        raise ExportError(f"{version.reference} has no fold {fold}", hint=f"Folds: {', '.join(map(str, folds))}.")
    train = [fold_name(number) for number in folds if number != fold]
    wanted = {TEST: [fold_name(fold)], TRAIN: train}
    there = {name: [split for split in of if split in splits] for name, of in wanted.items()}
    return {name: of for name, of in there.items() if of}


def held_out_names(version: Version) -> tuple[str, ...]:
    """The names that splits of an export have where a fold is held out; none for a version without folds."""
    return (TEST, TRAIN) if _folds(version) else ()


def _folds(version: Version) -> list[int]:
    return sorted(number for split in version.shares() if (number := fold_number(split)) is not None)


def chosen_columns(version: Version, made: Format, container: str, names: Sequence[str]) -> dict[str, str]:
    """The feature columns of an export with their types; ``all`` are all that the version has.

    Raises ExportError for a feature the version does not have, and where a column has no place.
    """
    known = version.manifest.features
    if not names:
        return {}
    if container.startswith("jsonl") and made.name.startswith(STRICT):
        raise ExportError(
            f"{made.name} rows take no other fields", hint="Use --container parquet or csv, or a format of a trainer."
        )
    taken = {*made.columns, *made.optional, *mark_columns(version, made, container)}
    if not known:
        raise ExportError(f"{version.reference} has no features", hint="Name some in the recipe: features: [turns].")
    chosen = list(known) if "all" in names else list(dict.fromkeys(names))
    for name in chosen:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise ExportError(f"no feature {name!r}", hint=f"{hint}Features: {', '.join(known)}, or all.")
        if name in taken:
            raise ExportError(f"{made.name} has a field {name} of its own", hint="Leave this column out.")
    return {name: KINDS[known[name].kind] for name in chosen}


def place_of_mark(version: Version, made: Format, container: str) -> Literal["none", "document", "column", "lost"]:
    """Where an export says of a row that it was made of another: ``none`` where the recipe makes no such rows."""
    if not version.manifest.recipe.get("augment") or made.example is not SupervisedExample:
        return "none"
    if AUGMENTED in made.values:
        return "document"
    refused = container.startswith("jsonl") and made.name.startswith(STRICT)
    return "lost" if refused or made.name.startswith(ALL_ARE_READ) else "column"


def mark_columns(version: Version, made: Format, container: str) -> dict[str, str]:
    """The columns that stand for the mark of rows made of others, with their types."""
    place = place_of_mark(version, made, container)
    return {AUGMENTED: KINDS["word"]} if place == "column" else dict(made.marked) if place == "document" else {}


def with_columns(row: bytes, example: Example, names: Sequence[str], *, marked: bool = False) -> bytes:
    """The line of a row with the features of its example at the end, null where one is not known, and, ``marked``, its mark."""
    if not names and not marked:
        return row
    more: dict[str, Any] = {name: example.features.get(name) for name in names}
    if marked:
        more[AUGMENTED] = "" if example.augmented is None else _encode(example.augmented).decode()
    features = _encode(more)
    return features if row == b"{}" else row[:-1] + b"," + features[1:]
