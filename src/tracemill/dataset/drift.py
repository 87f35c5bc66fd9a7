"""How the numbers of one version differ from those of another, out of the documents both carry."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from tracemill.dataset.version import Version

SMALL_EFFECT = 0.2
"""Difference of means, in standard deviations, called small (Cohen, Statistical Power Analysis, 1988)."""
SMALL_DISTANCE = 0.1
_MEANS = ("messages", "assistant_characters", "tool_calls", "confidence")


class Drift(Struct, frozen=True, kw_only=True):
    """One number in both versions; None where a version does not have it.

    ``size`` is how large the difference is: for a mean Cohen's d = (after − before) / √((s₁² + s₂²)/2), for a rate the
    difference, for shares of groups the total variation distance ½ Σ |p − q| (``before`` and ``after`` are None). ``notable``:
    |d| ≥ 0.2; 95 % Wilson intervals that do not touch; a distance ≥ 0.1.
    """

    name: str
    before: float | None
    after: float | None
    size: float | None
    notable: bool


def drifts(before: Version, after: Version) -> list[Drift]:
    """Every number that both versions' documents have, or one of them. Empty when a version has no documents."""
    quality = _document(before, "quality.json"), _document(after, "quality.json")
    people = _document(before, "representation.json"), _document(after, "representation.json")
    if None in (*quality, *people):
        return []
    return [*_quality(*quality), *_people(*people)]  # type: ignore[arg-type]


def _document(version: Version, name: str) -> dict[str, Any] | None:
    """A document of a version; None where it has none, because it is older than they are or was erased."""
    if name not in {file.path for file in version.manifest.documents}:
        return None
    try:
        found = json.loads((version.path / name).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _quality(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Drift]:
    one, other = before["examples"], after["examples"]
    for tag in sorted(one.keys() & other.keys()):
        for name in _MEANS:
            yield _mean(f"{tag}.{name}", one[tag][name], other[tag][name])
        for split in sorted(one[tag]["labels"].keys() | other[tag]["labels"].keys()):
            rates = (side[tag]["labels"].get(split, {}).get("share") for side in (one, other))
            yield _rate(f"{tag}.wanted.{split}", *rates)


def _people(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Drift]:
    for measure in ("kept", "outcome", "label"):
        yield _rate(f"interactions.{measure}", before["whole"][measure], after["whole"][measure])
    for dimension in sorted(before["dimensions"].keys() & after["dimensions"].keys()):
        one, other = (
            {group["name"]: group["share"] for group in side["dimensions"][dimension]["groups"]}
            for side in (before, after)
        )
        # what is not shown is one group more, so that both sides add up to one
        rest = abs(sum(one.values()) - sum(other.values()))
        distance = (sum(abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in one | other) + rest) / 2
        yield Drift(
            name=f"interactions.{dimension}", before=None, after=None, size=distance, notable=distance >= SMALL_DISTANCE
        )
    for name in ("users", "top_share", "effective_entropy", "effective_kish"):
        yield Drift(
            name=f"users.{name}", before=before["users"][name], after=after["users"][name], size=None, notable=False
        )


def _mean(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Drift:
    one, other = before.get("mean"), after.get("mean")
    size = None
    if one is not None and other is not None:
        spread = math.sqrt((before["standard_deviation"] ** 2 + after["standard_deviation"] ** 2) / 2)
        size = (other - one) / spread if spread else (0.0 if one == other else None)
    notable = one != other if size is None else abs(size) >= SMALL_EFFECT
    return Drift(name=name, before=one, after=other, size=size, notable=notable)


def _rate(name: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Drift:
    if not before or not after:
        values = [side["value"] if side else None for side in (before, after)]
        return Drift(name=name, before=values[0], after=values[1], size=None, notable=False)
    apart = before["high"] < after["low"] or after["high"] < before["low"]
    size = after["value"] - before["value"]
    return Drift(name=name, before=before["value"], after=after["value"], size=size, notable=apart)
