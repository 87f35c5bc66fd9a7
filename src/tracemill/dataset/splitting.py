"""How a recipe splits: the method, what must stay together, and the words a recipe file says it with.

A recipe file says ``split: {train: 0.8, test: 0.2}`` for a hold-out, or the longer form::

    split: {folds: 5}
    split: {method: stratified, shares: {train: 0.8, test: 0.2}, by: [label, platform]}
    split: {method: time, shares: {train: 0.8, test: 0.2}, group: [conversation]}
    split: {by: time, cuts: {validation: 2026-03-01, test: 2026-04-01}}

What it says stands in two fields of a :class:`~tracemill.dataset.recipe.Recipe`: ``split``, the share of each split, and
``splitting``, the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from tracemill.core.errors import RecipeError

Method: TypeAlias = Literal["hold_out", "k_fold", "stratified", "time"]
GROUP_KEYS = ("user", "conversation", "session", "task")
"""What holds interactions together unless a recipe says otherwise."""
NEAR_DUPLICATE = "near_duplicate"
SPLIT_KEYS = ("method", "shares", "folds", "by", "group", "similarity", "order", "cuts")
"""The keys of the longer form."""
MOST_FOLDS = 100
_EARLY_TO_LATE = ("train", "validation", "valid", "dev", "test")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
_FOLD = re.compile(r"fold_([1-9][0-9]?|100)")


class Splitting(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How groups of interactions go to splits.

    ``hold_out`` draws each group by a hash; ``k_fold`` puts groups into ``folds`` folds of about equal size;
    ``stratified`` keeps the shares of the values of the features ``by`` (which ``k_fold`` takes too); ``time`` cuts at the
    moments ``cuts`` at which splits begin, or where the shares are reached, splits in ``order`` from early to late.

    ``group`` names what interactions of one group share: user, conversation, session, task, near_duplicate (exact Jaccard
    ``similarity`` of what was said, joined through others), or a feature.
    """

    method: Method = "hold_out"
    folds: Annotated[int, Meta(ge=2, le=MOST_FOLDS)] | None = None
    by: tuple[str, ...] = ()
    group: tuple[str, ...] = GROUP_KEYS
    similarity: Annotated[float, Meta(gt=0, lt=1)] = 0.8
    order: tuple[str, ...] = ()
    cuts: dict[str, datetime] = {}

    def __post_init__(self) -> None:
        if any(moment.tzinfo is None for moment in self.cuts.values()):
            raise RecipeError("split.cuts: a moment without an offset", hint="Give it one: datetime(…, tzinfo=UTC).")
        in_utc = {name: moment.astimezone(UTC) for name, moment in self.cuts.items()}
        msgspec.structs.force_setattr(self, "cuts", in_utc)

    @property
    def near_duplicates(self) -> bool:
        """Whether near duplicates stay together."""
        return NEAR_DUPLICATE in self.group


def fold_name(number: int) -> str:
    """The name of a fold, from 1."""
    return f"fold_{number}"


def fold_number(split: str) -> int | None:
    """The number of a fold by its name; None for what is no fold."""
    found = _FOLD.fullmatch(split)
    return None if found is None else int(found.group(1))


def fold_shares(folds: int) -> dict[str, float]:
    """The shares of equal folds."""
    return {fold_name(number): 1 / folds for number in range(1, folds + 1)}


def is_long_form(content: Mapping[Any, Any]) -> bool:
    """Whether a mapping under ``split`` is the longer form: it says something that is no share of a split."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in content.values())
    return not numbers or "folds" in content


def long_form(content: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The shares (None where it has none) and the fields of :class:`Splitting` that the longer form says.

    Without a ``method``, it is told by what only one method has. Raises RecipeError where two say different things.
    """
    fields = {key: value for key, value in content.items() if key != "shares"}
    shares = content.get("shares")
    for key in ("by", "group", "order"):
        if isinstance(fields.get(key), str):
            fields[key] = [fields[key]]
    if fields.get("by") == ["time"]:
        if fields.get("method", "time") != "time":
            raise RecipeError(f"split.by: time is a method of its own, not {fields['method']}")
        fields.update(method="time", by=[])
    if "method" not in fields:
        told = {"folds": "k_fold", "cuts": "time", "order": "time", "by": "stratified"}
        fields["method"] = next((method for key, method in told.items() if fields.get(key)), "hold_out")
    if fields["method"] == "k_fold" and shares is not None:
        raise RecipeError("split.shares: folds are of equal size", hint="Leave shares out, or leave folds out.")
    if shares is None and isinstance(cuts := fields.get("cuts"), Mapping) and cuts:
        names = {"train", *map(str, cuts)}
        shares = dict.fromkeys(sorted(names), 1 / len(names))
    return shares, fields


def check_shares(shares: Mapping[str, float]) -> None:
    """Raises RecipeError where the shares are not shares of named splits that add up to 1."""
    for name, share in shares.items():
        if not _NAME.fullmatch(name):
            raise RecipeError(f"split: {name!r} cannot name a split", hint="Use lower-case letters and digits.")
        if not (math.isfinite(share) and 0 <= share <= 1):
            raise RecipeError(f"split.{name}: a share is between 0 and 1, not {share}")
    if not shares or not math.isclose(math.fsum(shares.values()), 1.0, abs_tol=1e-6):
        raise RecipeError(f"split: the shares add up to {math.fsum(shares.values()):g}, not 1")


def check_splitting(splitting: Splitting, shares: Mapping[str, float]) -> None:
    """Raises RecipeError where a method lacks what it needs or is given what it has no use for."""
    method = splitting.method
    belongs = {"folds": ("k_fold",), "by": ("stratified", "k_fold"), "order": ("time",), "cuts": ("time",)}
    for key, methods in belongs.items():
        if getattr(splitting, key) and method not in methods:
            raise RecipeError(
                f"split.{key}: the method {method} has none", hint=f"It belongs to {' and '.join(methods)}."
            )
    if method == "k_fold" and splitting.folds is None:
        raise RecipeError("split.folds: how many folds there are is missing", hint="Write folds: 5.")
    if method == "stratified" and not splitting.by:
        raise RecipeError("split.by: what to stratify by is missing", hint="Name features: by: [label, platform].")
    if not splitting.group:
        raise RecipeError("split.group: nothing is held together", hint=f"Name some of: {', '.join(GROUP_KEYS)}.")
    for key in ("group", "by"):
        names = getattr(splitting, key)
        if len(set(names)) < len(names):
            raise RecipeError(f"split.{key}: a name stands there twice")
    if method == "time":
        time_order(splitting, shares)


def time_order(splitting: Splitting, shares: Mapping[str, float]) -> list[str]:
    """The splits from early to late. Raises RecipeError where nobody can tell."""
    if splitting.cuts:
        return _order_of_cuts(splitting, shares)
    if splitting.order:
        if sorted(splitting.order) != sorted(shares):
            raise RecipeError(
                "split.order: these are not the splits", hint=f"Order all of: {', '.join(sorted(shares))}."
            )
        return list(splitting.order)
    if unknown := sorted(set(shares) - set(_EARLY_TO_LATE)):
        raise RecipeError(
            f"split.order: whether {unknown[0]} is early or late is missing",
            hint=f"List the splits from early to late: order: [{', '.join(shares)}].",
        )
    return sorted(shares, key=_EARLY_TO_LATE.index)


def _order_of_cuts(splitting: Splitting, shares: Mapping[str, float]) -> list[str]:
    cuts = splitting.cuts
    first = sorted(set(shares) - set(cuts))
    if splitting.order:
        raise RecipeError("split.order: the moments of cuts say it", hint="Leave order out.")
    if unknown := sorted(set(cuts) - set(shares)):
        raise RecipeError(f"split.cuts.{unknown[0]}: no such split", hint=f"Splits: {', '.join(sorted(shares))}.")
    if len(first) != 1:
        raise RecipeError("split.cuts: every split but the earliest begins at a moment of its own")
    if len(set(cuts.values())) < len(cuts):
        raise RecipeError("split.cuts: two splits begin at one moment")
    return [*first, *sorted(cuts, key=cuts.__getitem__)]
