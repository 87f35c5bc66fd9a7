"""Files of training data for the validator: JSON lines, or one JSON array. What cannot be read stays in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tracemill.core.errors import SourceError


class Unreadable:
    """Stands for a line that is no JSON: the validator reports it as of a wrong type, by this name."""


def read_samples(path: Path) -> list[Any]:
    """Every sample of a file, in its order; :class:`Unreadable` for a line that is none. Blank lines are none.

    NaN and infinity are read as what they are, for the validator to name. Raises SourceError when the file cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", "replace")
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    if text.lstrip().startswith("["):
        whole = _parsed(text)
        if isinstance(whole, list):
            return whole
    return [_parsed(line) for line in text.split("\n") if line.strip()]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return Unreadable()


def columns(samples: list[Any], text: str, embedding: str) -> tuple[list[Any], list[Any]]:
    """Texts and embeddings of samples that hold both; a sample that is no mapping, or lacks one, has None there."""
    texts = [sample.get(text) if isinstance(sample, dict) else sample for sample in samples]
    return texts, [sample.get(embedding) if isinstance(sample, dict) else None for sample in samples]
