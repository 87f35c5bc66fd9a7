"""Whether a version can be exported: every row made and checked as an export would, and nothing written."""

from __future__ import annotations

from collections import Counter

from tracemill.dataset.standing import Gate
from tracemill.dataset.version import Version
from tracemill.export.formats import FORMATS
from tracemill.export.write import make_row

USUAL = {
    "supervised": "trl-sft",
    "labelled": "trl-kto",
    "preference": "trl-dpo",
    "trajectory_preference": "trajectory-preference",
    "action": "next-action",
    "reward": "reward",
    "retrieval": "retrieval-pairs",
}
"""The format that stands for a type of row where none is asked for."""


def usual_formats(version: Version) -> tuple[str, ...]:
    """One format for each type of row the version has."""
    return tuple(name for tag, name in USUAL.items() if version.count(type=tag))


def check_export(version: Version, format: str, most: float) -> Gate:  # noqa: A002 - the word for it everywhere else
    """Whether an export in a format would have rows, and refuse at most a share ``most`` of them (0 to 1).

    Raises DatasetError when the version is damaged.
    """
    name = f"export.{format}"
    made = FORMATS.get(format)
    if made is None:
        return Gate(name=name, passed=False, detail=f"there is no format {format!r}")
    rows, refused = 0, Counter[str]()
    for example in version.examples(type=str(made.example.__struct_config__.tag)):
        row, _, refusal = make_row(example, made)
        rows += row is not None
        if refusal is not None:
            refused[refusal.reason] += 1
    total = rows + refused.total()
    if not rows:
        return Gate(name=name, passed=False, detail="it would have no row")
    share = refused.total() / total
    why = f": {', '.join(f'{number:,} {reason}' for reason, number in sorted(refused.items()))}" if refused else ""
    detail = f"{rows:,} of {total:,} rows; {share:.1%} refused{why}; at most {most:.1%} may be"
    return Gate(name=name, passed=share <= most, detail=detail)
