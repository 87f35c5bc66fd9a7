"""Thumbs, ratings and rewards as labelled completions (KTO).

What the label is of depends on the interaction. One with a response is one call: its messages are the prompt and the
response is the completion. One without is a whole trajectory that is over, and its label is of all of it; the recipe's
``labelled_unit`` says what becomes of that:

* ``trajectory`` (default): one example. The prompt is everything before the first assistant message, the completion
  everything from there to the last one. Tool results and user turns stand inside the completion, and a trainer that
  takes the loss of the whole completion learns to predict them too. That is the price for keeping one label with the
  one thing it was given to.
* ``turn``: one example for every assistant message, with the history before it as prompt and the trajectory's label. No
  environment text is trained on, but the label is spread over turns that may not have earned it.

An interaction with labels for and against gives an example for each: contradictions are kept, and counted in the
manifest.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracemill.core.examples import LabelledExample
from tracemill.core.messages import role
from tracemill.core.records import Interaction, Message
from tracemill.core.steps import Drop
from tracemill.dataset.history import split_tail
from tracemill.dataset.identity import identified
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.signals.confidence import by_human, of_labels
from tracemill.feedback.attach import Attached, Label


def labelled(interaction: Interaction, attached: Attached, recipe: Recipe) -> list[LabelledExample] | Drop:
    """The examples of a labelled interaction, or why there is none.

    Reasons: ``no_label``, ``no_assistant_message``, ``no_prompt`` (nothing stands before the first answer).
    """
    labels = attached.labels(recipe.scales)
    if not labels:
        return Drop("no_label")
    found = list(units(interaction, recipe))
    if not found:
        return Drop("no_assistant_message")
    found = [unit for unit in found if unit[0]]
    if not found:
        return Drop("no_prompt")
    sides = ([label for label in labels if label.positive is positive] for positive in (True, False))
    return [_example(interaction, side, *unit) for side in sides if side for unit in found]


def units(interaction: Interaction, recipe: Recipe) -> Iterator[tuple[list[Message], list[Message], list[Message]]]:
    """What a label or a score is of: prompt, completion and tail of each."""
    if interaction.response is not None:
        if role(interaction.response) == "assistant":
            yield interaction.messages, [interaction.response], []
        return
    messages, tail = split_tail(interaction.messages)
    answers = [at for at, message in enumerate(messages) if role(message) == "assistant"]
    if not answers:
        return
    if recipe.labelled_unit == "trajectory":
        yield messages[: answers[0]], messages[answers[0] :], tail
        return
    for at in answers:
        yield messages[:at], [messages[at]], tail if at == answers[-1] else []


def _example(
    interaction: Interaction,
    labels: list[Label],
    prompt: list[Message],
    completion: list[Message],
    tail: list[Message],
) -> LabelledExample:
    example = LabelledExample(
        id="",
        sources=sorted([interaction.id, *(label.id for label in labels)]),
        signal="feedback",
        confidence=of_labels(labels),
        human_validated=by_human(labels),
        platform=interaction.platform,
        task_id=interaction.task_id,
        tools=interaction.tools,
        prompt=prompt,
        completion=completion,
        label=labels[0].positive,
        label_source="+".join(sorted({label.source for label in labels})),
        score=next((label.score for label in labels if label.score is not None), None),
        tail=tail,
    )
    return identified(example)
