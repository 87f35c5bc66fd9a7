"""Validation of training data: texts with their embeddings, and examples for language models.

Data comes from strangers: whatever is wrong with it is reported in the result, nothing of it raises. The limits are those
of ``validation_config``; ``docs/quality.md`` has every formula.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from numbers import Real
from typing import Any

import msgspec
from msgspec import Struct

from tracemill.core.errors import SettingError
from tracemill.core.ids import now
from tracemill.quality.examples import read_example
from tracemill.quality.text import words

LISTED = 100
"""Problems that a result lists one by one; all are counted."""
SUCCESS = "Data validation successful"
NEAR = 0.8
"""Jaccard similarity from which on a text counts as a duplicate of another (see :mod:`tracemill.quality.duplicates`)."""


class ValidationConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits. Lengths are in words, ``outlier_threshold`` in standard deviations, ratios and scores are 0 to 1.

    ``min_unique_words`` and ``min_tfidf_score`` are of all the data together, not of one text.
    """

    min_sequence_length: int = 1
    max_sequence_length: int = 512
    min_examples: int = 5
    max_examples: int = 10_000
    min_embedding_dim: int = 384
    max_embedding_dim: int = 768
    quality_threshold: float = 0.7
    min_unique_words: int = 10
    max_duplicate_ratio: float = 0.3
    min_tfidf_score: float = 0.1
    outlier_threshold: float = 2.0


class Problem(Struct, frozen=True, kw_only=True):
    """What is wrong with one sample: its place from 0 (−1: the data as a whole), a stable word, a sentence."""

    index: int
    reason: str
    detail: str


@dataclass
class _Checked:
    """What was found so far. ``texts`` and ``soundness`` (0 to 1) are by place; None where a sample is no text."""

    texts: list[str | None] = field(default_factory=list)
    soundness: list[float] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)

    def bad(self, index: int, reason: str, detail: str) -> None:
        self.problems.append(Problem(index=index, reason=reason, detail=detail))
        if 0 <= index < len(self.soundness):
            self.soundness[index] = 0.0

    def warn(self, index: int, reason: str, detail: str) -> None:
        self.warnings.append(Problem(index=index, reason=reason, detail=detail))


class DataValidator:
    """Checks data before it is trained on.

    ``validation_config`` overrides single limits of :class:`ValidationConfig` by name; ``clock`` gives the time of the result.
    Raises SettingError for a limit nobody knows or of a wrong type: that is the caller's own mistake, not the data's.
    """

    def __init__(
        self, validation_config: Mapping[str, Any] | None = None, *, clock: Callable[[], datetime] = now
    ) -> None:
        try:
            self.config = msgspec.convert(dict(validation_config or {}), ValidationConfig)
        except msgspec.ValidationError as error:
            raise SettingError(f"validation_config: {error}", hint="docs/quality.md lists the limits.") from None
        self._clock = clock

    def validate_embedding_data(self, texts: Any, embeddings: Any) -> dict[str, Any]:
        """Texts with one embedding each; see the result's shape in ``docs/quality.md``. Never raises for what is in them."""
        found = _Checked()
        for at, text in enumerate(_elements(texts, "texts", found)):
            found.soundness.append(1.0)
            found.texts.append(text if isinstance(text, str) else None)
            if not isinstance(text, str):
                found.bad(at, "wrong_type", f"a text is expected, not {type(text).__name__}")
        vectors = _elements(embeddings, "embeddings", found)
        if len(vectors) != len(found.texts):
            found.bad(-1, "length_mismatch", f"{len(found.texts)} texts and {len(vectors)} embeddings")
        self._check_vectors(vectors, found)
        return self._finish(found)

    def validate_llm_data(self, examples: Any) -> dict[str, Any]:
        """Examples as mappings: ``messages``, ``prompt`` with ``completion``, ``chosen`` and ``rejected``, ``text``, and so on.

        See :mod:`tracemill.quality.examples` for the shapes, and ``docs/quality.md`` for the result's. Never raises for what
        is in them.
        """
        found = _Checked()
        shapes: Counter[str] = Counter()
        for at, example in enumerate(_elements(examples, "examples", found)):
            read = read_example(example)
            found.texts.append(read.text)
            found.soundness.append(0.5 ** len(read.defects))
            for reason, detail in read.problems:
                found.bad(at, reason, detail)
            for defect in read.defects:
                found.warn(at, defect, "a defect of the text; see the rules of docs/quality.md")
            shapes[read.shape] += 1
        found.metrics["shapes"] = dict(sorted(shapes.items()))
        return self._finish(found)

    # -- what both have

    def _finish(self, found: _Checked) -> dict[str, Any]:
        lengths = self._check_lengths(found)
        known = [(at, text) for at, text in enumerate(found.texts) if text is not None and text.strip()]
        duplicates = _duplicates(known, found)
        total = len(found.texts)
        ratio = len(duplicates) / total if total else 0.0
        sound = math.fsum(found.soundness) / total if total else 0.0
        mean, deviation = _spread(lengths)
        figures = {
            "num_samples": total,
            "avg_sequence_length": mean,
            "std_sequence_length": deviation,
            "quality_score": sound * (1 - ratio),
            "duplicate_ratio": ratio,
            "tfidf_score": _distinctness([text for _, text in known], found),
            "unique_words": len({word for _, text in known for word in words(text)}),
            "valid_samples": total - len({one.index for one in found.problems if 0 <= one.index < total}),
        }
        self._check_whole(figures, found)
        outliers = _outliers(dict(enumerate(lengths)), self.config.outlier_threshold)
        for at, far in outliers.items():
            found.warn(at, "length_outlier", f"{lengths[at]} words, {far:.1f} standard deviations from the mean")
        figures["outliers"] = len({one.index for one in found.warnings if one.reason.endswith("_outlier")})
        return self._result({**figures, **found.metrics}, found, [at for at, _ in duplicates])

    def _check_lengths(self, found: _Checked) -> list[int]:
        lengths = []
        for at, text in enumerate(found.texts):
            count = 0 if text is None else len(words(text))
            lengths.append(count)
            if text is None:
                continue
            if not text.strip():
                found.bad(at, "empty", "there is no text")
            elif count < self.config.min_sequence_length:
                found.bad(at, "too_short", f"{count} words, at least {self.config.min_sequence_length}")
            elif count > self.config.max_sequence_length:
                found.bad(at, "too_long", f"{count} words, at most {self.config.max_sequence_length}")
        return lengths

    def _check_whole(self, figures: Mapping[str, Any], found: _Checked) -> None:
        config = self.config
        least = {
            "too_few_examples": ("valid_samples", config.min_examples),
            "too_few_unique_words": ("unique_words", config.min_unique_words),
            "low_quality": ("quality_score", config.quality_threshold),
            "low_tfidf": ("tfidf_score", config.min_tfidf_score),
        }
        most = {
            "too_many_examples": ("num_samples", config.max_examples),
            "too_many_duplicates": ("duplicate_ratio", config.max_duplicate_ratio),
        }
        for reason, (name, limit) in least.items():
            if figures[name] is not None and figures[name] < limit:
                found.bad(-1, reason, f"{name} is {figures[name]:.4g}, at least {limit:g} is asked for")
        for reason, (name, limit) in most.items():
            if figures[name] > limit:
                found.bad(-1, reason, f"{name} is {figures[name]:.4g}, at most {limit:g} is asked for")

    # -- embeddings

    def _check_vectors(self, vectors: Sequence[Any], found: _Checked) -> None:
        read: dict[int, list[float]] = {}
        for at, value in enumerate(vectors):
            vector, reason, detail = _vector(value)
            if reason:
                found.bad(at, reason, detail)
            if vector is not None:
                read[at] = vector
        sizes = Counter(map(len, read.values()))
        usual = min(sizes, key=lambda size: (-sizes[size], size), default=0)
        for at, vector in list(read.items()):
            if len(vector) != usual:
                found.bad(at, "wrong_dimension", f"{len(vector)} numbers, most have {usual}")
                del read[at]
        low, high = self.config.min_embedding_dim, self.config.max_embedding_dim
        if read and not low <= usual <= high:
            found.bad(-1, "dimension_out_of_range", f"embeddings have {usual} numbers, {low} to {high} are asked for")
        found.metrics["embedding_dim"] = usual if read else None
        for at, far in _outliers(_distances(read), self.config.outlier_threshold).items():
            found.warn(at, "embedding_outlier", f"{far:.1f} standard deviations further from the centre than the mean")

    def _result(self, metrics: dict[str, Any], found: _Checked, duplicates: list[int]) -> dict[str, Any]:
        ordered = sorted(found.problems, key=lambda one: (one.index, one.reason))
        counts = Counter(one.reason for one in ordered)
        named = ", ".join(f"{reason} ({count})" for reason, count in sorted(counts.items()))
        return {
            "is_valid": not ordered,
            "message": f"Data validation failed: {named}" if ordered else SUCCESS,
            "metrics": metrics,
            "timestamp": self._clock().isoformat(timespec="seconds"),
            "problems": msgspec.to_builtins(ordered[:LISTED]),
            "problem_counts": dict(sorted(counts.items())),
            "warnings": msgspec.to_builtins(sorted(found.warnings, key=lambda one: (one.index, one.reason))[:LISTED]),
            "warning_counts": dict(sorted(Counter(one.reason for one in found.warnings).items())),
            "duplicates": duplicates[:LISTED],
        }


def _elements(value: Any, name: str, found: _Checked) -> list[Any]:
    """The elements of what should be a list; an empty list, and a problem, where it is none."""
    if hasattr(value, "ndim") and hasattr(value, "__len__"):  # an array of NumPy or torch: its rows
        return list(value) if value.ndim else []
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)):
        return list(value)
    found.bad(-1, "wrong_type", f"{name}: a list is expected, not {type(value).__name__}")
    return []


def _vector(value: Any) -> tuple[list[float] | None, str, str]:
    """An embedding as floats, or None; what is wrong with it as a word and a sentence, both empty when nothing is."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(plain, (list, tuple)):
        return None, "wrong_type", f"an embedding is a list of numbers, not {type(value).__name__}"
    if not plain:
        return None, "empty_embedding", "it has no numbers"
    if not all(isinstance(number, Real) and not isinstance(number, bool) for number in plain):
        return None, "wrong_type", "an embedding has something in it that is no number"
    try:
        vector = [float(number) for number in plain]
    except OverflowError:
        return None, "not_finite", "a number is too large"
    if not all(map(math.isfinite, vector)):
        return None, "not_finite", "it has NaN or infinity in it"
    if not any(vector):
        return vector, "zero_embedding", "every number is 0"
    return vector, "", ""


def _distances(vectors: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """Euclidean distance of each vector to their mean, all scaled to the largest number so that no square overflows."""
    if not vectors:
        return {}
    scale = max(max(map(abs, vector)) for vector in vectors.values()) or 1.0
    count = len(vectors)
    sums = [
        math.fsum(column) for column in zip(*([n / scale for n in vector] for vector in vectors.values()), strict=True)
    ]
    centre = [total / count for total in sums]
    return {at: math.dist([n / scale for n in vector], centre) for at, vector in vectors.items()}


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of the whole (not of a sample); 0 and 0 of nothing."""
    if not values:
        return 0.0, 0.0
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def _outliers(values: Mapping[int, float], threshold: float) -> dict[int, float]:
    """Places whose value is more than ``threshold`` standard deviations from the mean, with how many."""
    mean, deviation = _spread(list(values.values()))
    if deviation <= 1e-9 * abs(mean):  # all the same, but for rounding
        return {}
    far = {at: abs(value - mean) / deviation for at, value in values.items()}
    return {at: one for at, one in far.items() if one > threshold}


def _duplicates(known: Sequence[tuple[int, str]], found: _Checked) -> list[tuple[int, int]]:
    """Places of texts that another stands for, with the place of that one. Without NumPy only texts that are equal."""
    if find_spec("numpy") is None:
        found.warn(-1, "near_duplicates_unknown", "NumPy is not installed: only equal texts were found")
        first: dict[str, int] = {}
        pairs = [(at, first.setdefault(" ".join(text.lower().split()), at)) for at, text in known]
        return [(at, kept) for at, kept in pairs if at != kept]
    from tracemill.quality.duplicates import Document, DuplicateIndex  # noqa: PLC0415 - needs NumPy

    index = DuplicateIndex(NEAR)
    index.add(Document(f"{at:012d}", " ".join(text.lower().split())) for at, text in known)
    return sorted((int(one.id), int(one.kept)) for one in index.duplicates())


def _distinctness(texts: Sequence[str], found: _Checked) -> float | None:
    """1 − the mean cosine similarity of two different texts, as TF-IDF vectors of length 1; None for fewer than two.

    With n vectors v of which s is the sum, the mean over all pairs is (|s|² − n) / (n (n − 1)).
    """
    spoken = [text for text in texts if words(text)]
    if len(spoken) < 2:
        return None
    if find_spec("sklearn") is None:
        found.warn(-1, "tfidf_unknown", "scikit-learn is not installed: pip install 'tracemill[quality]'")
        return None
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415 - an optional part

    vectors = TfidfVectorizer(analyzer=words).fit_transform(spoken)
    total = vectors.sum(axis=0)
    count = len(spoken)
    square = float((total.A1 if hasattr(total, "A1") else total) @ (total.A1 if hasattr(total, "A1") else total))
    return min(1.0, max(0.0, 1 - (square - count) / (count * (count - 1))))
