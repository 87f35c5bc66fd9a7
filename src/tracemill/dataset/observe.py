"""What a recipe wants to know of one interaction beside its examples: features, what it is stratified by, its group keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tracemill.core.examples import FeatureValue
from tracemill.core.records import Interaction
from tracemill.dataset.features import Facts, column_of, computed, of_all
from tracemill.dataset.history import content_digest
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.split import group_keys
from tracemill.dataset.splitting import GROUP_KEYS, NEAR_DUPLICATE
from tracemill.feedback.attach import Attached


def belonging(interaction: Interaction) -> list[bytes]:
    """Digests of the conversation and the user of an interaction; empty for what it lacks."""
    user, conversation = interaction.user, interaction.conversation_id
    return [
        b"" if conversation is None else content_digest("conversation", interaction.platform, conversation),
        b"" if user is None else content_digest("user", user.key_id, user.pseudonym),
    ]


@dataclass(frozen=True, slots=True)
class Observed:
    """``features`` are the columns of its examples, ``strata`` the values it is stratified by (None: not known).

    ``belonging`` is filled where a feature needs to know of all records whose they are.
    """

    features: dict[str, FeatureValue]
    strata: list[FeatureValue | None]
    groups: list[bytes]
    belonging: list[bytes]


def observe(original: Interaction, current: Interaction, attached: Attached, recipe: Recipe) -> Observed:
    """Look at an interaction as it was read and as the steps left it. Raises DatasetError when an own feature fails.

    A step that takes the user out must not part what belongs together, and one that names a task may join more: both
    interactions' keys count.
    """
    splitting = recipe.splitting
    holding = [name for name in splitting.group if name not in GROUP_KEYS and name != NEAR_DUPLICATE]
    values: Mapping[str, FeatureValue] = {}
    if recipe.features or splitting.by or holding:
        facts = Facts(current, attached, recipe.scales, recipe.trial_score)
        values = computed(dict.fromkeys([*recipe.features, *splitting.by, *holding]), facts)
    keys = set(group_keys(original, splitting.group))
    if current is not original:
        keys.update(group_keys(current, splitting.group))
    shared = [(name, values.get(column_of(name))) for name in holding]
    keys.update(content_digest("feature", name, value) for name, value in shared if value is not None)
    return Observed(
        features={name: values[name] for name in map(column_of, recipe.features) if name in values},
        strata=[values.get(column_of(name)) for name in splitting.by],
        groups=sorted(keys),
        belonging=belonging(current) if any(of_all(name) for name in recipe.features) else [],
    )
