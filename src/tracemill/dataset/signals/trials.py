"""Two trials of one task, of which one went better, as a preference.

Every pair of trials of the same task (and platform) whose scores differ gives exactly one example; equal scores give
none. Which kind depends on where the trials part:

* Their histories are the same up to a point where both go on with an assistant message, and those differ: a
  PreferenceExample. The shared history is the prompt; each side is the assistant message at which it parts from the other
  (``preference_length: message``), or all that follows up to its last assistant message (``remainder``).
* They part at a user or tool message, one is the beginning of the other, they have nothing in common, or their tools
  differ: a TrajectoryPreference. The sides answer different histories, and a trainer of preferences between answers
  (DPO) must not see them as answers to one prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tracemill.core.examples import FeatureValue, PreferenceExample, TrajectoryPreference
from tracemill.core.messages import role, trajectory
from tracemill.core.records import Interaction, Message
from tracemill.dataset.history import aligned_ids, shared_length, split_tail
from tracemill.dataset.identity import identified
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.signals.carried import same


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt at a task: the interaction, its score, and the feedback that was read from, if it was feedback.

    ``features`` are those a recipe asks for.
    """

    interaction: Interaction
    score: float
    score_sources: list[str]
    confidence: float
    human: bool
    features: dict[str, FeatureValue] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.interaction.id


def compare(one: Trial, other: Trial, recipe: Recipe) -> PreferenceExample | TrajectoryPreference | None:
    """The example of two trials of a task; None when their scores are equal."""
    if one.score == other.score:
        return None
    better, worse = (one, other) if one.score > other.score else (other, one)
    sides = trajectory(better.interaction), trajectory(worse.interaction)
    shared = shared_length(*sides)
    tools, rejected_tools = better.interaction.tools, worse.interaction.tools
    same_tools = same(tools, rejected_tools)
    common: dict[str, Any] = {
        "id": "",
        "sources": sorted({better.id, worse.id, *better.score_sources, *worse.score_sources}),
        "signal": "trials",
        "confidence": min(better.confidence, worse.confidence),
        "human_validated": better.human and worse.human,
        "platform": better.interaction.platform,
        "task_id": better.interaction.task_id,
        "tools": tools,
        "features": better.features,
        "chosen_score": better.score,
        "rejected_score": worse.score,
        "pairs": [(better.id, worse.id)],
    }
    if same_tools and shared and all(len(side) > shared and role(side[shared]) == "assistant" for side in sides):
        return _preference(*sides, shared, recipe, common)
    return identified(
        TrajectoryPreference(
            **common,
            chosen=sides[0],
            rejected=sides[1],
            shared=shared,
            rejected_tools=None if same_tools else rejected_tools,
        )
    )


def _preference(
    better: list[Message], worse: list[Message], shared: int, recipe: Recipe, common: dict[str, Any]
) -> PreferenceExample:
    answers, rests = [], []
    for messages in (better, worse):
        remainder = messages[shared:]
        answer = remainder[:1] if recipe.preference_length == "message" else split_tail(remainder)[0]
        answers.append(answer)
        rests.append(len(remainder) - len(answer))
    return identified(
        PreferenceExample(
            **common,
            prompt=better[:shared],
            chosen=answers[0],
            rejected=answers[1],
            chosen_rest=rests[0],
            rejected_rest=rests[1],
            aligned_ids=aligned_ids(worse[:shared], better[:shared]),
        )
    )
