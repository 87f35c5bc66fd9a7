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
FAILED_CHECK = BY_ANNOTATOR["CODE"]
"""An answer that a validation did not pass."""
RECOVERED: dict[str, float] = {"corrected_arguments": 0.7, "other_tool": 0.6, "retried": 0.5}
"""A turn after which a tool that had failed worked; halved where the execution failed in the end."""
KEPT, LATER = 0.7, 0.4
"""A regenerated answer with which the conversation went on, and one that merely came last."""
REPHRASED = 0.4
"""An answer after which its user asked nearly the same again; times the similarity of the two questions."""
UNKNOWN_OUTCOME = 0.5
"""An action or a decision of which nobody said how it went."""
USED_PASSAGE = 0.6
"""A retrieved passage whose words the answer repeats."""
CHEAPER = 0.6
"""Of two successful trials, the one that cost or took less."""


def of_labels(labels: Iterable[Label], default: float = SUCCESS_FLAG) -> float:
    """The confidence of the most trusted label, or ``default`` when there is none."""
    return max((BY_ANNOTATOR[label.annotator_kind] for label in labels), default=default)


def by_human(labels: Iterable[Label]) -> bool:
    """Whether a person is among those who judged."""
    return any(label.annotator_kind == "HUMAN" for label in labels)
