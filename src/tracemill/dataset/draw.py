"""The splits of a build: every group gets its own, and the manifest learns what each split got of what was wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tracemill.core.examples import SplitShare
from tracemill.core.ids import microseconds
from tracemill.dataset.assign import balanced, by_time, cuts_at_shares, held_out, members, moment
from tracemill.dataset.features import FEATURES
from tracemill.dataset.ledger import Ledger
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.splitting import Splitting, time_order

COARSE = 0.05
"""How far a split may be from its share of the interactions before the manifest notes it."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """How many groups there are, what each split holds, and findings a reader should know, as sentences."""

    groups: int
    shares: dict[str, SplitShare]
    notes: list[str]


def draw_splits(ledger: Ledger, recipe: Recipe) -> Drawn:
    """Give every group its split. Groups are joined no more after this."""
    splitting = recipe.splitting
    smallest = ledger.smallest()
    stratum, names = ledger.strata()
    begins: list[tuple[str, int | None]] = []
    splits: Mapping[int, str | None]
    if splitting.method == "time":
        begins = _begins(ledger, recipe)
        splits = by_time(ledger.spans(), begins)
    elif splitting.method == "hold_out":
        splits = held_out(smallest, recipe.seed, recipe.split)
    else:
        splits = balanced(smallest, members(ledger.strata_of_groups(stratum)), recipe.seed, recipe.split)
    ledger.settle(splits)
    held: dict[str | None, Counter[int]] = {split: Counter() for split in (None, *recipe.split)}
    sizes: Counter[int] = Counter()
    for root, number in ledger.strata_of_groups(stratum):
        held[splits[root]][number] += 1
        sizes[root] += 1
    shares = _shares(recipe, Counter(splits.values()), held, _shown(recipe.splitting, names), begins)
    return Drawn(len(smallest), shares, _notes(recipe, splits, sizes, shares))


def _begins(ledger: Ledger, recipe: Recipe) -> list[tuple[str, int | None]]:
    order = time_order(recipe.splitting, recipe.split)
    if cuts := recipe.splitting.cuts:
        return [(name, microseconds(cuts[name]) if name in cuts else None) for name in order]
    times = sorted(time for time, selected in zip(ledger.times, ledger.selected, strict=True) if selected)
    return cuts_at_shares(times, order, recipe.split)


def _shown(splitting: Splitting, names: list[tuple[str, ...]]) -> list[str]:
    """What a manifest calls each stratum. The values of one's own features are no part of it.

    A manifest outlives the erasure of records, and only the features of this package are known to be of few plain words.
    """
    return [
        ", ".join(f"{by}={word}" for by, word in zip(splitting.by, words, strict=True) if by in FEATURES) or "all"
        for words in names
    ]


def _shares(
    recipe: Recipe,
    groups: Mapping[str | None, int],
    held: Mapping[str | None, Counter[int]],
    names: list[str],
    begins: list[tuple[str, int | None]],
) -> dict[str, SplitShare]:
    """What each split of the recipe holds; ``held`` counts by split and stratum."""
    total = sum(counted.total() for split, counted in held.items() if split is not None)
    moments = {name: moment(at) for name, at in begins if at is not None}
    found = {}
    for split in sorted(recipe.split):
        by_stratum: Counter[str] = Counter()
        for stratum, number in held[split].items():
            by_stratum[names[stratum]] += number
        found[split] = SplitShare(
            groups=groups.get(split, 0),
            interactions=held[split].total(),
            share=round(held[split].total() / total, 6) if total else 0.0,
            wanted=None if recipe.splitting.cuts else round(recipe.split[split], 6),
            begins=moments.get(split),
            strata=dict(sorted(by_stratum.items())) if recipe.splitting.by else {},
        )
    return found


def _notes(
    recipe: Recipe, splits: Mapping[int, str | None], sizes: Mapping[int, int], shares: Mapping[str, SplitShare]
) -> list[str]:
    notes = []
    total = sum(sizes.values())
    if len(sizes) > 1 and 2 * max(sizes.values()) > total:
        notes.append(
            f"One group holds {max(sizes.values())} of {total} interactions, because they share users, conversations, "
            "sessions or tasks. A group goes to one split as a whole."
        )
    straddling = [root for root, split in splits.items() if split is None]
    if straddling:
        notes.append(
            f"{len(straddling)} groups of {sum(sizes[root] for root in straddling)} interactions reach over the moment at "
            "which a split begins, and are in none."
        )
    off = [
        name for name, share in shares.items() if share.wanted is not None and abs(share.share - share.wanted) > COARSE
    ]
    if total and off:
        held = ", ".join(f"{share.share:.0%} {name} ({recipe.split[name]:.0%})" for name, share in shares.items())
        another = "; another seed draws otherwise" if recipe.splitting.method == "hold_out" else ""
        notes.append(
            f"The splits hold other shares of the interactions than were asked for: {held}. Whole groups are drawn, and "
            f"there are {len(splits)}{another}."
        )
    return notes
