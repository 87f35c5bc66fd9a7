"""Answers after which their user asked nearly the same again: not what was wanted, as far as that can be told.

Two questions are nearly the same when the Jaccard similarity of their sets of words is at least :data:`SIMILAR`, and each
has at least :data:`FEWEST` words: |A ∩ B| / |A ∪ B|. An answer that ends by asking for something ("Please confirm…", a
question mark) is no failed answer: its user repeats what was asked for. The signal is weak (confidence 0.4 times the
similarity) and one-sided: a question that is put in other words is not found, and nothing is said of an answer that was
taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from tracemill.core.examples import LabelledExample
from tracemill.core.messages import role, text, tool_calls, trajectory
from tracemill.core.records import Interaction, Message
from tracemill.core.steps import Drop
from tracemill.dataset.identity import identified
from tracemill.dataset.signals.confidence import REPHRASED
from tracemill.quality.text import words

SIMILAR = 0.6
"""Similarity from which two questions are nearly the same."""
FEWEST = 4
"""Different words that a question must have: "yes, please" is said again for other reasons."""

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_ASKS = re.compile(r"\b(?:please|let me know|(?:could|would|can|do|may) (?:you|i))\b", re.IGNORECASE)


def rephrases(interaction: Interaction) -> list[LabelledExample] | Drop:
    """One example for every answer whose question was put again, or why there is none.

    Reasons: ``no_second_question``, ``no_rephrase``. The prompt is the history before the answer.
    """
    messages = trajectory(interaction)
    asked = [at for at, message in enumerate(messages) if role(message) == "user"]
    if len(asked) < 2:
        return Drop("no_second_question")
    examples = []
    for first, again in pairwise(asked):
        if not unanswering(messages[first + 1 : again]):
            continue
        likeness = similarity(text(messages[first]), text(messages[again]))
        if likeness >= SIMILAR:
            examples.append(rephrased(interaction, messages[: again - 1], messages[again - 1], likeness))
    return examples or Drop("no_rephrase")


def similarity(one: str, other: str) -> float:
    """The Jaccard similarity of two questions' sets of words; 0 where either has too few to tell."""
    mine, theirs = set(words(one)), set(words(other))
    if min(len(mine), len(theirs)) < FEWEST:
        return 0.0
    return len(mine & theirs) / len(mine | theirs)


def unanswering(between: Sequence[Message]) -> bool:
    """Whether what stands between two questions ends with an answer, and not with a question of the assistant's."""
    if not between or role(between[-1]) != "assistant" or any(tool_calls(between[-1])):
        return False
    said = text(between[-1]).rstrip()
    last = _SENTENCE.split(said)[-1]
    return bool(said) and not said.endswith("?") and _ASKS.search(last) is None


def rephrased(
    interaction: Interaction, prompt: list[Message], answer: Message, likeness: float, again: str | None = None
) -> LabelledExample:
    """The example of one answer; ``again`` is the record of the second question where it is another one."""
    example = LabelledExample(
        id="",
        sources=sorted({interaction.id, *([again] if again is not None else [])}),
        signal="rephrase",
        confidence=round(REPHRASED * likeness, 6),
        platform=interaction.platform,
        task_id=interaction.task_id,
        tools=interaction.tools,
        prompt=prompt,
        completion=[answer],
        label=False,
        label_source="rephrase",
        score=likeness,
    )
    return identified(example)
