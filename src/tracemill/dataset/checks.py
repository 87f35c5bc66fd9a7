"""Checks of a certificate out of counts."""

from __future__ import annotations

from typing import Any

from tracemill.core.certificate import Check
from tracemill.drawing.measures import rate


def share(name: str, hits: int, total: int, threshold: float = 0.0, **detail: Any) -> Check:
    """A check that passes where the share of hits is at most the threshold; unknown where there was nothing to look at.

    The interval is Wilson's (1927), but without hits the upper bound is 3/n: the rule of three (Hanley and Lippman-Hand
    1983), 95 % from one side.
    """
    if not total:
        return unknown(name, "there was nothing to look at", **detail)
    found = rate(hits, total)
    assert found.value is not None
    high = found.high if hits else min(1.0, 3 / total)
    state = "passed" if found.value <= threshold else "failed"
    return Check(
        name=name,
        state="passed" if state == "passed" else "failed",
        hits=hits,
        total=total,
        value=found.value,
        low=found.low,
        high=high,
        threshold=threshold,
        detail=detail,
    )


def unknown(name: str, reason: str, **detail: Any) -> Check:
    """A check that could not be made."""
    return Check(name=name, state="unknown", reason=reason, detail=detail)
