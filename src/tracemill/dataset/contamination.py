"""Contamination: whether what a model will be tested on stands in what it is trained on.

A text of at least 13 words of an evaluation item is a hit when 13 words in a row of it stand in a row, prompts and answers
alike (GPT-3, Brown et al. 2020, appendix C, takes 13). A text of 8 to 12 words is one when more than half of its runs of 8
words stand in rows (the cover of Tülu 3, Lambert et al. 2024, by runs instead of words). Words are letters, digits and
marks without punctuation, whatever their case; shorter texts are counted and not judged. A paraphrase is not found.

Only hashes of the evaluation items are held (44 bits a run); rows stream past them. A hit of 13 words counts when a run of
8 is shared too, so that two texts that merely collide are none.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tracemill.core.errors import SourceError
from tracemill.core.examples import Example
from tracemill.dataset.parts import Part, message_parts, parts
from tracemill.quality.minhash import Sets, shingle_sets
from tracemill.quality.text import words

LONG, SHORT = 13, 8
COVERED = 0.5
_AT_ONCE = 512
_ANSWERS = frozenset(
    ("answer", "answers", "response", "completion", "output", "outputs", "target", "targets", "chosen", "rejected")
) | frozenset(("solution", "label", "reference", "best_answer", "correct_answers", "choices", "options", "endings"))
"""Names of fields of evaluation sets that hold answers; every other field is the prompt's."""


@dataclass
class EvaluationSet:
    """The texts of one evaluation set as hashes, and what of it was found.

    ``items`` counts the items; an item is ``judged`` when a text of it is long enough.
    """

    name: str
    items: int = 0
    judged: int = 0
    _long: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    _long_texts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _long_grams: Sets | None = None
    _short: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    _short_texts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _seen: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    _owners: list[tuple[int, str]] = field(default_factory=list)
    _short_owners: list[tuple[int, str]] = field(default_factory=list)
    _hit: set[int] = field(default_factory=set)

    def index(self, items: Iterable[Sequence[Part]]) -> None:
        """Take the items in; once."""
        items = ([part._replace(text=_folded(part.text)) for part in texts] for texts in items)
        long: list[str] = []
        short: list[str] = []
        judged: set[int] = set()
        for number, texts in enumerate(items):
            self.items += 1
            for part in texts:
                size = _word_count(part.text)
                if size < SHORT:
                    continue
                judged.add(number)
                (long if size >= LONG else short).append(part.text)
                (self._owners if size >= LONG else self._short_owners).append((number, part.side))
        self.judged = len(judged)
        self._long, self._long_texts = _sorted(shingle_sets(long, LONG))
        self._long_grams = shingle_sets(long, SHORT)
        self._short, self._short_texts = _sorted(shingle_sets(short, SHORT))
        self._seen = np.zeros(len(self._short), np.bool_)

    def look(self, texts: Sequence[str], long: Sets, short: Sets) -> None:
        """Look at texts of rows, given their runs of 13 and of 8 words."""
        if len(self._long):
            values, owners = long.values, np.repeat(np.arange(len(texts)), long.sizes())
            first = np.searchsorted(self._long, values)
            found = (first < len(self._long)) & (self._long[np.minimum(first, len(self._long) - 1)] == values)
            for at in np.flatnonzero(found).tolist():
                self._confirm(int(first[at]), values[at], _set(short, int(owners[at])))
        if len(self._short):
            self._seen |= np.isin(self._short, short.values)

    def _confirm(self, first: int, value: np.uint64, grams: NDArray[np.uint64]) -> None:
        assert self._long_grams is not None
        while first < len(self._long) and self._long[first] == value:
            owner = int(self._long_texts[first])
            if owner not in self._hit and len(np.intersect1d(_set(self._long_grams, owner), grams)):
                self._hit.add(owner)
            first += 1

    def hits(self) -> dict[Literal["prompt", "answer", "either"], int]:
        """How many items stand in the rows: with a text of their prompt, of their answer, with either."""
        found: dict[str, set[int]] = {"prompt": set(), "answer": set()}
        for owner in self._hit:
            item, side = self._owners[owner]
            found[side].add(item)
        runs = np.bincount(self._short_texts, minlength=len(self._short_owners)) if len(self._short) else ()
        seen = np.bincount(self._short_texts[self._seen], minlength=len(self._short_owners)) if len(self._short) else ()
        for (item, side), covered, of in zip(self._short_owners, seen, runs, strict=True):
            if covered > COVERED * of:
                found[side].add(item)
        return {
            "prompt": len(found["prompt"]),
            "answer": len(found["answer"]),
            "either": len(found["prompt"] | found["answer"]),
        }


def look_through(examples: Iterable[Example], sets: Sequence[EvaluationSet]) -> int:
    """Hold examples against evaluation sets; gives how many there were."""
    rest, rows = iter(examples), 0
    while batch := list(islice(rest, _AT_ONCE)):
        rows += len(batch)
        look_at([part.text for example in batch for part in parts(example)], sets)
    return rows


def look_at(texts: Sequence[str], sets: Sequence[EvaluationSet]) -> None:
    """Hold texts of rows against evaluation sets. A text that several rows repeat is looked at once."""
    if not sets:
        return
    unique = list(dict.fromkeys(map(_folded, texts)))
    long, short = shingle_sets(unique, LONG), shingle_sets(unique, SHORT)
    for one in sets:
        one.look(unique, long, short)


def _folded(text: str) -> str:
    """The text as it is compared: whatever is a matter of case, or of how a letter was written down, is gone.

    Unicode's form KC, capitals, case folding (so ß is ss, ſ is s and the Turkish ı is i), and no dot over a small i, which İ
    leaves there. The same for a text in capitals, in small letters and as it was.
    """
    if text.isascii():
        return text  # in which case is all there is, and shingles look past it
    folded = unicodedata.normalize("NFKC", text).upper().casefold()
    folded = unicodedata.normalize("NFKC", folded)
    return unicodedata.normalize("NFC", folded.replace("i\u0307", "i")) if "\u0307" in folded else folded


def _sorted(sets: Sets) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    owners = np.repeat(np.arange(len(sets), dtype=np.int64), sets.sizes())
    order = np.argsort(sets.values, kind="stable")
    return sets.values[order], owners[order]


def _set(sets: Sets, number: int) -> NDArray[np.uint64]:
    return sets.values[sets.offsets[number] : sets.offsets[number + 1]]


def _word_count(text: str) -> int:
    """How many words a text has, or a little less: never more than the runs are made of."""
    return max(len(words(text)), int(shingle_sets([text], 1).sizes()[0]))


# -- reading evaluation sets


def read_evaluation(path: Path) -> EvaluationSet:
    """The evaluation set of a file: ``.jsonl``, ``.json`` (a list), ``.parquet``, anything else as text, an item a line.

    Of an object every text counts, however deep; chat messages by their role. Raises SourceError.
    """
    found = EvaluationSet(path.name)
    try:
        found.index(list(_item(value, "prompt")) for value in _values(path))
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is no evaluation set: {error}", hint="JSON lines, Parquet, or text.") from error
    if not found.items:
        raise SourceError(f"{path} holds no item")
    return found


def _values(path: Path) -> Iterator[Any]:
    if path.suffix == ".parquet":
        from pyarrow.parquet import ParquetFile  # noqa: PLC0415 - heavy, and an optional part

        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_AT_ONCE):
                yield from batch.to_pylist()
    elif path.suffix == ".json":
        value = json.loads(path.read_bytes())
        yield from value if isinstance(value, list) else [value]
    else:
        with path.open("rb") as lines:
            for line in lines:
                if line.strip():
                    yield json.loads(line) if path.suffix == ".jsonl" else line.decode("utf-8", "replace")


def _item(value: Any, side: Literal["prompt", "answer"]) -> Iterator[Part]:
    if isinstance(value, str):
        yield Part(side, value)
    elif isinstance(value, dict):
        if isinstance(value.get("role"), str) and "content" in value:
            yield from message_parts([value])
            return
        for name, inner in value.items():
            yield from _item(inner, "answer" if str(name).lower() in _ANSWERS else side)
    elif isinstance(value, list):
        for inner in value:
            yield from _item(inner, side)
