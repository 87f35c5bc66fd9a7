"""What makes two examples the same: the id of an example, and what contradicts it."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from tracemill.core.examples import (
    ActionExample,
    Example,
    LabelledExample,
    PreferenceExample,
    RetrievalExample,
    RewardExample,
    SupervisedExample,
    TrajectoryPreference,
)
from tracemill.core.ids import derived_id
from tracemill.dataset.history import content_digest

E = TypeVar("E", bound=Example)
_CONTENT: dict[type[Any], tuple[str, ...]] = {
    SupervisedExample: ("tools", "messages", "tail"),
    LabelledExample: ("tools", "prompt", "completion", "tail", "label"),
    PreferenceExample: ("tools", "prompt", "chosen", "rejected"),
    TrajectoryPreference: ("tools", "rejected_tools", "chosen", "rejected"),
    ActionExample: ("tools", "prompt", "completion", "options"),
    RewardExample: ("tools", "prompt", "completion", "tail", "score_name", "score"),
    RetrievalExample: ("query", "positive", "negative"),
}
"""The fields that are an example's content. Two examples with equal ones are duplicates, whatever they came from."""


def example_tag(example: Example) -> str:
    """The name of an example's type, as in its ``example`` field."""
    return str(type(example).__struct_config__.tag)


def identified(example: E) -> E:
    """The example with its id: a function of its type and content alone."""
    tag = example_tag(example)
    content = content_digest(tag, *(getattr(example, name) for name in _CONTENT[type(example)]))
    return msgspec.structs.replace(example, id=derived_id("example", tag, content.hex()))


def opposition(example: Example) -> tuple[bytes, int] | None:
    """A key that an example shares with the one that says the opposite, and which of the two sides it takes (1 or 2).

    None for examples that nothing can contradict.
    """
    if isinstance(example, LabelledExample):
        side = 1 if example.label else 2
        return content_digest("label", example.tools, example.prompt, example.completion), side
    if isinstance(example, PreferenceExample):
        chosen, rejected = content_digest(example.chosen), content_digest(example.rejected)
        ordered = sorted((chosen, rejected))
        key = content_digest("preference", example.tools, example.prompt, *ordered)
        return key, 1 if ordered[0] == chosen else 2
    if isinstance(example, TrajectoryPreference):
        rejected_tools = example.tools if example.rejected_tools is None else example.rejected_tools
        chosen, rejected = (
            content_digest(example.tools, example.chosen),
            content_digest(rejected_tools, example.rejected),
        )
        ordered = sorted((chosen, rejected))
        return content_digest("trajectories", *ordered), 1 if ordered[0] == chosen else 2
    return None
