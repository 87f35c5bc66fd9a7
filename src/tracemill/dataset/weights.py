"""Row weights: what a trainer should multiply the loss of a row by.

``Recipe.weights`` says what of, and ``half_life_days`` adds age:

* ``none``: 1;
* ``confidence``: how far the signal is to be trusted (0 to 1);
* ``balanced``: that, and within each file every class has the same total: w · n / (k · W), for n rows in k classes and W
  the sum of w over the row's class. The mean weight is then 1. The class is the label of a labelled row, the tool (or
  kind) of an action, and the signal of any other.

Age: each is multiplied by 0.5 ^ (days / half-life). Days are counted back from the newest interaction that was read, not from
now, so that the same records give the same weights; a row is as old as the newest interaction it was made of.

Sums are exact, so that they do not depend on the order in which rows are added, nor on who added them.

How many equally weighted rows a file is worth is Kish's effective sample size, (Σw)² / Σw² (Survey Sampling, 1965).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from tracemill.core.examples import ActionExample, DatasetFile, Example, LabelledExample
from tracemill.dataset.files import WholeFile
from tracemill.dataset.lookup import Standing
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.rows import decode_line, encode_line

_DAY_US = 24 * 3600 * 1_000_000


def kish(total: float, squares: float) -> float:
    """The effective sample size of weights with this sum and this sum of squares; 0 when all are 0."""
    return total * total / squares if squares > 0 else 0.0


def class_of(example: Example) -> str:
    """The class whose totals are balanced."""
    if isinstance(example, LabelledExample):
        return "wanted" if example.label else "not wanted"
    if isinstance(example, ActionExample):
        return example.tool or example.action
    return example.signal


_SCALE = 1200
"""Bits behind the point of exact sums: more than any float has."""


def _exact(value: float) -> int:
    """A finite float as a multiple of 2 to the power of -_SCALE."""
    numerator, denominator = value.as_integer_ratio()
    return numerator << (_SCALE - denominator.bit_length() + 1)


def _rounded(exact: int) -> float:
    return exact / (1 << _SCALE)


class Sums:
    """What is known of the weights of one file."""

    def __init__(self) -> None:
        self.rows = 0
        self._total = self._squares = 0
        self._by_class: dict[str, int] = {}

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return _rounded(self._total)

    @property
    def squares(self) -> float:
        """The sum of their squares."""
        return _rounded(self._squares)

    @property
    def by_class(self) -> dict[str, float]:
        """The sum of the weights of each class."""
        return {name: _rounded(total) for name, total in self._by_class.items()}

    def add(self, example: Example) -> None:
        """Count one row."""
        name, weight = class_of(example), _exact(example.weight)
        self.rows += 1
        self._total += weight
        self._squares += _exact(example.weight**2)
        self._by_class[name] = self._by_class.get(name, 0) + weight

    def join(self, other: Sums) -> None:
        """Count the rows that others counted."""
        self.rows += other.rows
        self._total += other._total
        self._squares += other._squares
        for name, total in other._by_class.items():
            self._by_class[name] = self._by_class.get(name, 0) + total


class Weights:
    """Weighs the rows of a version while they are written, and once more where classes are balanced."""

    def __init__(self, recipe: Recipe, ledger: Standing) -> None:
        self._recipe, self._ledger = recipe, ledger
        self.sums: dict[str, Sums] = {}
        self._newest = ledger.newest
        self.active = recipe.weights != "none" or recipe.half_life_days is not None

    def add(self, sums: Mapping[str, Sums]) -> None:
        """Count the rows that others have weighed."""
        for name, other in sums.items():
            self.sums.setdefault(name, Sums()).join(other)

    def weigh(self, file: str, line: bytes, numbers: Iterable[int]) -> bytes:
        """The line of an example with its weight; ``numbers`` are the interactions it was made of."""
        example = decode_line(line)
        weight = 1.0 if self._recipe.weights == "none" else example.confidence
        if self._recipe.half_life_days is not None:
            age = self._newest - max(self._ledger.times[number] for number in numbers)
            weight *= 0.5 ** (age / _DAY_US / self._recipe.half_life_days)
        weighed: Example = msgspec.structs.replace(example, weight=weight)
        self.sums.setdefault(file, Sums()).add(weighed)
        return encode_line(weighed)

    def balance(self, output: Path, files: Sequence[DatasetFile]) -> list[DatasetFile]:
        """The files with their classes balanced, where the recipe asks for that."""
        if self._recipe.weights != "balanced":
            return list(files)
        return [self._balanced(output / file.path) if file.path in self.sums else file for file in files]

    def _balanced(self, path: Path) -> DatasetFile:
        sums, after = self.sums[path.name], Sums()
        share = sums.rows / len(sums.by_class)
        factors = {name: share / total if total > 0 else 0.0 for name, total in sums.by_class.items()}
        with path.open("rb") as source, WholeFile(path) as file:
            for line in source:
                example = decode_line(line.rstrip(b"\n"))
                weighed: Example = msgspec.structs.replace(example, weight=example.weight * factors[class_of(example)])
                after.add(weighed)
                file.write_line(encode_line(weighed))
        self.sums[path.name] = after
        return file.describe()

    def notes(self) -> list[str]:
        """What the weights leave of the rows, a sentence for each file."""
        return [
            f"The {sums.rows} rows of {name} weigh as much as {kish(sums.total, sums.squares):.1f} equally weighted ones "
            "(Kish's effective sample size)."
            for name, sums in sorted(self.sums.items())
        ]
