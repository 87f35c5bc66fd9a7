"""Whom a version speaks of: shares by platform, language and model, how much single users weigh, and rates by group.

A difference between groups is where to look, not a verdict: what is right depends on what the model is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracemill.dataset.documents.groups import SMALLEST, Group, Groups, concentration, plain_rate, shown
from tracemill.dataset.documents.observe import Observed

_COMPARED = ("platform", "language", "model")
FOUR_FIFTHS = 0.8
"""A lowest rate below this part of the highest is noted (the four-fifths rule: 29 CFR 1607.4 D)."""


def representation_document(groups: Groups, observed: Mapping[str, Observed]) -> dict[str, Any]:
    """The document.

    ``share`` is of the interactions that became examples. ``kept`` is the share of a group's interactions that did, ``outcome``
    of those that state it that succeeded, ``label`` of those with a label that were liked: each with its 95 % Wilson interval,
    null of fewer than five, and where the whole less the groups that are told would be of fewer than five. ``ratio`` is the
    lowest rate of the groups divided by the highest. ``weights`` has for each type of example Kish's effective number of
    rows, (Σ w)² / Σ w².
    """
    document: dict[str, Any] = {
        "interactions": groups.whole.used,
        "smallest_group": SMALLEST,
        "whole": _rates(groups.whole),
        "dimensions": {name: _dimension(groups.dimensions[name], groups.whole) for name in _COMPARED},
        "users": {**concentration(groups.users), "interactions_without_user": groups.without_user},
        "weights": {
            tag: {
                "rows": seen.total,
                "sum": seen.weight,
                "effective_rows": seen.weight**2 / seen.squared_weight if seen.squared_weight else 0.0,
            }
            for tag, seen in sorted(observed.items())
        },
    }
    return {**document, "findings": findings(document)}


def _dimension(groups: Mapping[str, Group], whole: Group) -> dict[str, Any]:
    found = shown(groups)
    rows: list[dict[str, Any]] = [
        {"name": name, "read": group.read, "used": group.used, "share": group.used / whole.used if whole.used else 0.0}
        | _rates(group)
        for name, group in found.groups
    ]
    for measure, total in (("outcome", whole.outcomes), ("label", whole.labels)):
        _hide_rest(rows, measure, total)
    return {
        "groups": rows,
        "suppressed": {"groups": found.suppressed, "read": found.rest.read, "used": found.rest.used},
        "ratio": {measure: _ratio([row[measure] for row in rows]) for measure in ("kept", "outcome", "label")},
    }


def _hide_rest(rows: list[dict[str, Any]], measure: str, total: int) -> None:
    """Take back the rates of the smallest groups while the whole less all that are told would be of fewer than five."""
    told = sorted(
        (row for row in rows if row[measure] is not None), key=lambda row: (-row[measure]["total"], row["name"])
    )
    while told and 0 < total - sum(row[measure]["total"] for row in told) < SMALLEST:
        told.pop()[measure] = None


def _rates(group: Group) -> dict[str, Any]:
    return {
        "kept": plain_rate(group.used, group.read),
        "outcome": plain_rate(group.succeeded, group.outcomes),
        "label": plain_rate(group.liked, group.labels),
    }


def _ratio(rates: list[dict[str, Any] | None]) -> float | None:
    values = [rate["value"] for rate in rates if rate is not None]
    return min(values) / max(values) if len(values) > 1 and max(values) > 0 else None


_WORDS = {"kept": "became examples", "outcome": "succeeded", "label": "were liked"}


def findings(document: Mapping[str, Any]) -> list[str]:
    """What a reader should look at, as sentences."""
    found = []
    users = document["users"]
    if users["users"] is None and document["interactions"] >= SMALLEST:
        found.append(f"Fewer than {SMALLEST} users are the source of all interactions that name one.")
    elif users["top_share"] is not None and users["top_share"] > 0.1:
        found.append(
            f"One user is the source of {users['top_share']:.0%} of the interactions; they weigh like "
            f"{users['effective_kish']:.1f} users of equal activity."
        )
    for name, dimension in document["dimensions"].items():
        for measure, ratio in dimension["ratio"].items():
            if ratio is None or ratio >= FOUR_FIFTHS:
                continue
            rows = [row for row in dimension["groups"] if row[measure] is not None]
            low = min(rows, key=lambda row: (row[measure]["value"], row["name"]))
            high = min(rows, key=lambda row: (-row[measure]["value"], row["name"]))
            if low[measure]["high"] < high[measure]["low"]:  # else chance may have done it
                found.append(
                    f"By {name}, {low[measure]['value']:.0%} of {low['name']} {_WORDS[measure]}, and "
                    f"{high[measure]['value']:.0%} of {high['name']}."
                )
    return found
