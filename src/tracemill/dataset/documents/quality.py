"""How good a version is, as far as counting can tell: sizes of rows, confidence, labels, what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tracemill.core.examples import Manifest
from tracemill.dataset.documents.groups import plain_rate
from tracemill.dataset.documents.observe import Observed
from tracemill.drawing.measures import Measure, shares

_MOST_TOOLS = 50


def quality_document(manifest: Manifest, observed: Mapping[str, Observed]) -> dict[str, Any]:
    """The document.

    By type of example: ``rows`` by split; distributions of the messages of a row, the characters the assistant wrote in it,
    the tools it called and the confidence (:class:`tracemill.drawing.measures.Distribution`); ``human_validated`` and
    ``empty_answers`` (assistant messages with neither text nor a call) as counts; ``labels`` with the share that was wanted
    and its 95 % Wilson interval, by split; roles of messages and names of tools with their counts.
    """
    return {
        "examples": {tag: _type(seen) for tag, seen in sorted(observed.items())},
        "left_out": manifest.drops,
        "changed": manifest.changes,
        "notes": manifest.notes,
    }


def _type(seen: Observed) -> dict[str, Any]:
    return {
        "rows": dict(sorted(seen.rows.items())),
        "messages": _distribution(seen.messages),
        "assistant_characters": _distribution(seen.characters),
        "tool_calls": _distribution(seen.calls),
        "confidence": _distribution(seen.confidence),
        "human_validated": seen.human,
        "empty_answers": seen.empty_answers,
        "labels": {
            split: {
                "wanted": counts[True],
                "unwanted": counts[False],
                "share": plain_rate(counts[True], counts.total()),
            }
            for split, counts in sorted(seen.labels.items())
        },
        "roles": {share.name: share.count for share in shares(seen.roles)},
        "tools": {share.name: share.count for share in shares(seen.tools.counts)[:_MOST_TOOLS]},
    }


def _distribution(measure: Measure) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(measure.distribution())
    return plain
