"""Every signal that looks at one interaction and what is attached to it, in one order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tracemill.core.examples import Example
from tracemill.core.records import AnyRecord, Interaction
from tracemill.core.steps import Drop
from tracemill.dataset.recipe import Recipe, SignalName
from tracemill.dataset.signals.actions import actions
from tracemill.dataset.signals.checks import checks
from tracemill.dataset.signals.decisions import decisions, overrides
from tracemill.dataset.signals.edits import edits
from tracemill.dataset.signals.labelled import labelled
from tracemill.dataset.signals.recoveries import recoveries
from tracemill.dataset.signals.rephrases import rephrases
from tracemill.dataset.signals.retrieval import retrieval
from tracemill.dataset.signals.rewards import rewards
from tracemill.dataset.signals.supervised import supervised
from tracemill.feedback.attach import Attached


def of_one(
    interaction: Interaction, attached: Attached, recipe: Recipe, get: Callable[[str], AnyRecord | None]
) -> Iterator[tuple[SignalName, bool, Sequence[Example] | Drop]]:
    """What each of the recipe's signals makes of one interaction: its name, whether its examples are made of the whole
    trajectory and so fall when a later call repeats it, and the examples or the reason why there are none.
    """
    made: dict[SignalName, Callable[[], Sequence[Example] | Drop]] = {
        "supervised": lambda: supervised(interaction, attached, recipe),
        "labelled": lambda: labelled(interaction, attached, recipe),
        "edits": lambda: edits(interaction, attached, get),
        "rephrases": lambda: rephrases(interaction),
        "recoveries": lambda: recoveries(interaction),
        "actions": lambda: actions(interaction, attached, recipe),
        "decisions": lambda: decisions(interaction, attached, get),
        "overrides": lambda: overrides(interaction, attached, get),
        "checks": lambda: checks(interaction, attached),
        "rewards": lambda: rewards(interaction, attached, recipe),
        "retrieval": lambda: retrieval(interaction, attached, recipe, get),
    }
    whole: dict[SignalName, bool] = {
        **dict.fromkeys(made, False),
        **dict.fromkeys(("supervised", "rephrases", "recoveries", "actions"), True),
        **dict.fromkeys(("labelled", "rewards"), interaction.response is None),
    }
    for name, examples in made.items():
        if name in recipe.signals:
            yield name, whole[name], examples()
