"""How far a signal is to be trusted, by who said it.

The numbers order the sources; they are not measured. A person outranks a program, a program a judging model, and what an
application says of itself comes between the last two.
"""

from __future__ import annotations

from collections.abc import Iterable

from tracemill.core.records import AnnotatorKind
from tracemill.feedback.attach import Label

BY_ANNOTATOR: dict[AnnotatorKind, float] = {"HUMAN": 1.0, "CODE": 0.9, "LLM": 0.7}
SUCCESS_FLAG = 0.8


def of_labels(labels: Iterable[Label], default: float = SUCCESS_FLAG) -> float:
    """The confidence of the most trusted label, or ``default`` when there is none."""
    return max((BY_ANNOTATOR[label.annotator_kind] for label in labels), default=default)


def by_human(labels: Iterable[Label]) -> bool:
    """Whether a person is among those who judged."""
    return any(label.annotator_kind == "HUMAN" for label in labels)
