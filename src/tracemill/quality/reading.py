"""Files of training data for the validator: JSON lines, or one JSON array. What cannot be read stays in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracemill.core.errors import SourceError
from tracemill.quality.text import STRUCTURE


class Unreadable:
    """Stands for a line that is no JSON: the validator reports it as of a wrong type, by this name."""


class TooDeep:
    """Stands for JSON whose objects and lists are nested deeper than a JSON reader goes."""


def read_samples(path: Path) -> list[Any]:
    """Every sample of a file, in its order; :class:`Unreadable` for a line that is none, :class:`TooDeep` for one
    that is nested too deep. Blank lines are none.

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
        if isinstance(whole, TooDeep):
            return [_parsed(element) for element in _elements(text)]
    return [_parsed(line) for line in text.split("\n") if line.strip()]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        return TooDeep()
    except ValueError:
        return Unreadable()


def _elements(text: str) -> Iterator[str]:
    """The texts of the elements of a JSON array; of one that is cut off, those that there are."""
    depth, begin = 0, text.index("[") + 1
    for match in STRUCTURE.finditer(text):
        sign = match[0]
        if sign in ("{", "["):
            depth += 1
        elif sign in ("}", "]"):
            depth -= 1
        if (sign == "," and depth == 1) or (sign == "]" and depth == 0):
            if element := text[begin : match.start()].strip():
                yield element
            begin = match.end()
        if depth == 0 and sign == "]":
            return


def columns(samples: list[Any], text: str, embedding: str) -> tuple[list[Any], list[Any]]:
    """Texts and embeddings of samples that hold both; a sample that is no mapping, or lacks one, has None there."""
    texts = [sample.get(text) if isinstance(sample, dict) else sample for sample in samples]
    return texts, [sample.get(embedding) if isinstance(sample, dict) else None for sample in samples]
