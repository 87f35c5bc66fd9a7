"""Scores as rows of prompt, completion and score, for reward models that regress.

Every name of score that was given to an interaction as a whole is one row, with the mean of its scores; ratings are under
``rating``. Unlike labels, scores need no scale. What prompt and completion are is the recipe's ``labelled_unit``.
"""

from __future__ import annotations

from tracemill.core.examples import RewardExample
from tracemill.core.records import Interaction
from tracemill.core.steps import Drop
from tracemill.dataset.identity import identified
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.signals.confidence import BY_ANNOTATOR
from tracemill.dataset.signals.labelled import units
from tracemill.feedback.attach import Attached


def rewards(interaction: Interaction, attached: Attached, recipe: Recipe) -> list[RewardExample] | Drop:
    """The scored rows of an interaction, or why there is none: ``no_score``, ``no_assistant_message``, ``no_prompt``."""
    names = {mark.name for mark in attached.feedback if mark.name is not None and mark.score is not None}
    names |= {"rating" for mark in attached.feedback if mark.rating is not None}
    scored = {name: found for name in sorted(names) if (found := attached.scored(name))}
    if not scored:
        return Drop("no_score")
    parts = list(units(interaction, recipe))
    if not parts:
        return Drop("no_assistant_message")
    examples = [
        identified(
            RewardExample(
                id="",
                sources=sorted([interaction.id, *(record_id for record_id, _, _ in found)]),
                signal="score",
                confidence=max(BY_ANNOTATOR[annotator] for _, annotator, _ in found),
                human_validated=any(annotator == "HUMAN" for _, annotator, _ in found),
                platform=interaction.platform,
                task_id=interaction.task_id,
                tools=interaction.tools,
                prompt=prompt,
                completion=completion,
                tail=tail,
                score=attached.score(name) or 0.0,
                score_name=name,
            )
        )
        for name, found in scored.items()
        for prompt, completion, tail in parts
        if prompt
    ]
    return examples or Drop("no_prompt")
