"""Row weights: what a trainer should multiply the loss of a row by.

``Recipe.weights`` says what of, and ``half_life_days`` adds age:

* ``none``: 1;
* ``confidence``: how far the signal is to be trusted (0 to 1);
* ``balanced``: that, and within each file every class has the same total: w · n / (k · W), for n rows in k classes and W
  the sum of w over the row's class. The mean weight is then 1. The class is the label of a labelled row, the tool (or
  kind) of an action, and the signal of any other.

Age: each is multiplied by 0.5 ^ (days / half-life). Days are counted back from the newest interaction that was read, not from
now, so that the same records give the same weights; a row is as old as the newest interaction it was made of.

How many equally weighted rows a file is worth is Kish's effective sample size, (Σw)² / Σw² (Survey Sampling, 1965).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from tracemill.core.examples import ActionExample, DatasetFile, Example, LabelledExample
from tracemill.dataset.files import WholeFile
from tracemill.dataset.ledger import Ledger
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


class _Sums:
    """What is known of the weights of one file."""

    def __init__(self) -> None:
        self.rows = 0
        self.total = self.squares = 0.0
        self.classes: Counter[str] = Counter()
        self.by_class: dict[str, float] = {}

    def add(self, example: Example) -> None:
        name = class_of(example)
        self.rows += 1
        self.total += example.weight
        self.squares += example.weight**2
        self.classes[name] += 1
        self.by_class[name] = self.by_class.get(name, 0.0) + example.weight


class Weights:
    """Weighs the rows of a version while they are written, and once more where classes are balanced."""

    def __init__(self, recipe: Recipe, ledger: Ledger) -> None:
        self._recipe, self._ledger = recipe, ledger
        self._files: dict[str, _Sums] = {}
        self._newest = max(ledger.times, default=0)
        self.active = recipe.weights != "none" or recipe.half_life_days is not None

    def weigh(self, file: str, line: bytes, numbers: Iterable[int]) -> bytes:
        """The line of an example with its weight; ``numbers`` are the interactions it was made of."""
        example = decode_line(line)
        weight = 1.0 if self._recipe.weights == "none" else example.confidence
        if self._recipe.half_life_days is not None:
            age = self._newest - max(self._ledger.times[number] for number in numbers)
            weight *= 0.5 ** (age / _DAY_US / self._recipe.half_life_days)
        weighed: Example = msgspec.structs.replace(example, weight=weight)
        self._files.setdefault(file, _Sums()).add(weighed)
        return encode_line(weighed)

    def balance(self, output: Path, files: Sequence[DatasetFile]) -> list[DatasetFile]:
        """The files with their classes balanced, where the recipe asks for that."""
        if self._recipe.weights != "balanced":
            return list(files)
        return [self._balanced(output / file.path) if file.path in self._files else file for file in files]

    def _balanced(self, path: Path) -> DatasetFile:
        sums, after = self._files[path.name], _Sums()
        share = sums.rows / len(sums.by_class)
        factors = {name: share / total if total > 0 else 0.0 for name, total in sums.by_class.items()}
        with path.open("rb") as source, WholeFile(path) as file:
            for line in source:
                example = decode_line(line.rstrip(b"\n"))
                weighed: Example = msgspec.structs.replace(example, weight=example.weight * factors[class_of(example)])
                after.add(weighed)
                file.write_line(encode_line(weighed))
        self._files[path.name] = after
        return file.describe()

    def notes(self) -> list[str]:
        """What the weights leave of the rows, a sentence for each file."""
        return [
            f"The {sums.rows} rows of {name} weigh as much as {kish(sums.total, sums.squares):.1f} equally weighted ones "
            "(Kish's effective sample size)."
            for name, sums in sorted(self._files.items())
        ]
