"""Successful turns as examples to imitate.

An interaction is imitated when it succeeded (``success``), or when nobody knows but somebody approved (a thumb, a rating,
a score that its scale calls positive), and nobody objected: no negative label, no report, no failed validation, no
correction. The example is the whole trajectory up to its last assistant message; what comes after is its tail.
"""

from __future__ import annotations

from tracemill.core.examples import SupervisedExample
from tracemill.core.messages import trajectory
from tracemill.core.records import Interaction
from tracemill.core.steps import Drop
from tracemill.dataset.history import split_tail
from tracemill.dataset.identity import identified
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.signals.confidence import SUCCESS_FLAG, by_human, of_labels
from tracemill.feedback.attach import Attached, Label


def supervised(interaction: Interaction, attached: Attached, recipe: Recipe) -> list[SupervisedExample] | Drop:
    """The example of a successful interaction, or why there is none.

    Reasons: ``not_successful``, ``success_unknown``, ``negative_feedback``, ``reported``, ``corrected``,
    ``failed_validation``, ``no_assistant_message``.
    """
    labels = attached.labels(recipe.scales)
    if (reason := objection(interaction, attached, labels)) is not None:
        return Drop(reason)
    messages, tail = split_tail(trajectory(interaction))
    if not messages:
        return Drop("no_assistant_message")
    flagged = interaction.success is True
    example = SupervisedExample(
        id="",
        sources=sorted([interaction.id, *(label.id for label in labels)]),
        signal="success" if flagged else "approval",
        confidence=of_labels(labels, SUCCESS_FLAG),
        human_validated=by_human(labels),
        platform=interaction.platform,
        task_id=interaction.task_id,
        tools=interaction.tools,
        messages=messages,
        tail=tail,
    )
    return [identified(example)]


def objection(interaction: Interaction, attached: Attached, labels: list[Label]) -> str | None:
    """Why an interaction is not to be imitated, or None."""
    if interaction.success is False:
        return "not_successful"
    if any(not label.positive for label in labels):
        return "negative_feedback"
    if attached.reported():
        return "reported"
    if attached.corrections():
        return "corrected"
    if attached.failed_validation():
        return "failed_validation"
    if interaction.success is None and not labels:
        return "success_unknown"
    return None
