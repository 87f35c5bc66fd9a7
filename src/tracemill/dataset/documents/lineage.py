"""Where a version came from: sources, steps with what went in and came out, signals, and what became of it all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracemill.core.examples import Manifest
from tracemill.dataset.documents.groups import DIMENSIONS, Group, Groups, iso_day, shown
from tracemill.dataset.documents.observe import Observed


def lineage_document(manifest: Manifest, groups: Groups, observed: Mapping[str, Observed]) -> dict[str, Any]:
    """The document. ``sources`` count interactions read, and used: the source of at least one example.

    ``steps`` are the recipe's in their order. Steps that look at all records at once (duplicate patterns) drop nobody here:
    what they left out stands under ``left_out`` with everything else that signals made nothing of.
    """
    return {
        "recipe_hash": manifest.recipe_hash,
        "records_digest": manifest.records_digest,
        "records_read": manifest.records_read,
        "interactions_read": groups.whole.read + groups.unstated,
        "interactions_used": groups.whole.used,
        "source": manifest.recipe.get("source", {}),
        "first_day": iso_day(groups.first_day),
        "last_day": iso_day(groups.last_day),
        "sources": {name: _sources(groups.dimensions[name]) for name in DIMENSIONS},
        "steps": _steps(manifest, groups),
        "changes": manifest.changes,
        "signals": _signals(observed),
        "left_out": {
            reason: count for reason, count in sorted(manifest.drops.items()) if not reason.startswith("steps.")
        },
        "groups": manifest.groups,
        "examples": manifest.examples,
    }


def _sources(groups: Mapping[str, Group]) -> dict[str, Any]:
    found = shown(groups)
    return {
        "groups": [{"name": name, "read": group.read, "used": group.used} for name, group in found.groups],
        "suppressed": {"groups": found.suppressed, "read": found.rest.read, "used": found.rest.used},
    }


def _steps(manifest: Manifest, groups: Groups) -> list[dict[str, Any]]:
    steps = []
    coming = groups.whole.read
    for number, step in enumerate(manifest.recipe.get("steps", [])):
        dropped = {
            reason.removeprefix("steps."): count
            for (at, reason), count in sorted(groups.steps.items())
            if at == number
        }  # fmt: skip
        going = coming - sum(dropped.values())
        steps.append({"step": step["step"], "in": coming, "out": going, "dropped": dropped})
        coming = going
    return steps


def _signals(observed: Mapping[str, Observed]) -> dict[str, dict[str, int]]:
    """Rows by type and the rule that made them."""
    return {
        tag: dict(sorted(seen.values["signal"].counts.items()))
        for tag, seen in sorted(observed.items())
        if "signal" in seen.values
    }
