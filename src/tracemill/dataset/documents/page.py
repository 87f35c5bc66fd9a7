"""The quality report as one HTML file that needs nothing else: no network, no script, no font."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from markupsafe import Markup

from tracemill.core.examples import Manifest
from tracemill.drawing import wording
from tracemill.drawing.charts import bars, histogram, rates
from tracemill.drawing.measures import Distribution, Rate
from tracemill.drawing.page import page_environment, page_style

SECTIONS = (
    ("rows", "Rows"),
    ("sizes", "Sizes of rows"),
    ("labels", "Labels and confidence"),
    ("left-out", "What was left out"),
    ("sources", "Sources and steps"),
    ("representation", "Whom it speaks of"),
    ("method", "How this was counted"),
)
_MOST_BARS = 12
_NOTHING = Rate(0, 0, None, None, None)


def quality_page(
    manifest: Manifest, quality: Mapping[str, Any], lineage: Mapping[str, Any], representation: Mapping[str, Any]
) -> str:
    """The text of the file, of the documents it shows."""
    style, style_hash = page_style()
    template = page_environment("tracemill.dataset.documents").get_template("quality.html.j2")
    return template.render(
        name=manifest.name,
        description=str(manifest.recipe.get("description", "")),
        style=style,
        style_hash=style_hash,
        sections=SECTIONS,
        tiles=_tiles(manifest, quality, lineage, representation),
        notes=[*manifest.notes, *representation["findings"]],
        rows_chart=_rows_chart(manifest),
        row_table=_row_table(manifest),
        types=[_of_type(tag, seen) for tag, seen in quality["examples"].items()],
        label_chart=_label_chart(quality),
        label_table=_label_table(quality),
        dropped=_bars(manifest.drops, "What was left out, by reason"),
        drop_table=_counts(manifest.drops),
        change_table=_counts(manifest.changes),
        step_table=_step_table(lineage),
        source_tables=[(name, _source_table(lineage["sources"][name])) for name in lineage["sources"]],
        dimensions=[_dimension(name, found) for name, found in representation["dimensions"].items()],
        user_sentence=_user_sentence(representation),
        smallest=representation["smallest_group"],
    )


def _tiles(
    manifest: Manifest, quality: Mapping[str, Any], lineage: Mapping[str, Any], representation: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    rows = sum(number for types in manifest.examples.values() for number in types.values())
    human = sum(seen["human_validated"] for seen in quality["examples"].values())
    read, used = lineage["interactions_read"], lineage["interactions_used"]
    effective = representation["users"]["effective_kish"]
    span = f"{lineage['first_day']} to {lineage['last_day']}" if lineage["first_day"] else "no days"
    return [
        ("Rows", wording.count(rows), ", ".join(manifest.examples) or "no split has any"),
        ("Interactions", wording.count(used), f"became rows, of {read:,} that were read"),
        ("Judged by people", wording.percent(human / rows if rows else None), f"{human:,} rows"),
        ("Users", wording.number(effective), "of equal activity would weigh as much as those there are"),
        ("Kept together", wording.count(manifest.groups), "groups that no split parts"),
        ("Time", str((len(span) and lineage["last_day"]) or wording.NOT_KNOWN), span),
    ]


def _rows_chart(manifest: Manifest) -> Markup:
    counted = [(f"{split} {tag}", rows) for split, types in manifest.examples.items() for tag, rows in types.items()]
    return bars([(name, float(rows), wording.count(rows)) for name, rows in counted], title="Rows by split and type")


def _row_table(manifest: Manifest) -> list[list[str]]:
    return [
        [split, tag, wording.count(number)]
        for split, types in manifest.examples.items()
        for tag, number in types.items()
    ]


def _of_type(tag: str, seen: Mapping[str, Any]) -> dict[str, Any]:
    titles = {"messages": "Messages", "assistant_characters": "Characters by the assistant", "tool_calls": "Tool calls"}
    found = {name: msgspec.convert(seen[name], Distribution) for name in (*titles, "confidence")}
    return {
        "tag": tag,
        "charts": [
            (title, histogram(found[name].bins, title=f"{title} of a {tag} row", marks=_marks(found[name])))
            for name, title in titles.items()
            if found[name].maximum
        ],
        "table": [
            [title, *map(wording.number, (each.mean, each.minimum, each.median, each.p95, each.maximum))]
            for title, each in ((titles.get(name, "Confidence"), found[name]) for name in found)
        ],
        "tools": _bars(seen["tools"], f"Tools called in {tag} rows") if seen["tools"] else None,
    }


def _marks(distribution: Distribution) -> list[tuple[str, float]]:
    if distribution.median is None or distribution.p95 is None:
        return []
    return [("median", distribution.median), ("95%", distribution.p95)]


def _labels(quality: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (split if len(quality["examples"]) == 1 else f"{split}, {tag}", found)
        for tag, seen in quality["examples"].items()
        for split, found in seen["labels"].items()
    ]


def _label_chart(quality: Mapping[str, Any]) -> Markup | None:
    found = [(name, _rate(counts["share"])) for name, counts in _labels(quality)]
    return rates(found, title="Labels that say wanted") if found else None


def _label_table(quality: Mapping[str, Any]) -> list[list[str]]:
    return [
        [name, wording.count(found["wanted"]), wording.count(found["unwanted"]), wording.outcome(_rate(found["share"]))]
        for name, found in _labels(quality)
    ]


def _rate(plain: Mapping[str, Any] | None) -> Rate:
    return _NOTHING if plain is None else msgspec.convert(plain, Rate)


def _bars(counts: Mapping[str, int], title: str) -> Markup | None:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_BARS]
    return (
        bars([(name, float(count), wording.count(count)) for name, count in ordered], title=title) if ordered else None
    )


def _counts(counts: Mapping[str, int]) -> list[list[str]]:
    return [
        [name, wording.count(count)] for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _step_table(lineage: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            str(step["step"]),
            wording.count(step["in"]),
            wording.count(step["out"]),
            ", ".join(f"{count:,} {reason}" for reason, count in step["dropped"].items()) or wording.NOT_KNOWN,
        ]
        for step in lineage["steps"]
    ]


def _source_table(source: Mapping[str, Any]) -> list[list[str]]:
    rows = [[row["name"], wording.count(row["read"]), wording.count(row["used"])] for row in source["groups"]]
    return [*rows, *_suppressed(source["suppressed"], 0)]


def _suppressed(found: Mapping[str, Any], more: int) -> list[list[str]]:
    if not found["groups"]:
        return []
    name = f"({found['groups']} groups together)"
    return [[name, wording.count(found["read"]), wording.count(found["used"]), *[wording.NOT_KNOWN] * more]]


def _dimension(name: str, found: Mapping[str, Any]) -> tuple[str, Markup | None, list[list[str]]]:
    rows = [
        [row["name"], wording.count(row["read"]), wording.count(row["used"]), wording.percent(row["share"])]
        + [wording.outcome(_rate(row[measure])) for measure in ("kept", "outcome", "label")]
        for row in found["groups"]
    ]
    chart = rates(
        [(row["name"], _rate(row["outcome"])) for row in found["groups"][:_MOST_BARS]], title=f"Success by {name}"
    )
    has = any(row["outcome"] for row in found["groups"])
    return name, chart if has else None, [*rows, *_suppressed(found["suppressed"], 4)]


def _user_sentence(representation: Mapping[str, Any]) -> str:
    users: Mapping[str, Any] = representation["users"]
    unnamed = f"Interactions that name no user: {users['interactions_without_user']:,}."
    if users["users"] is None:
        return f"Users: fewer than five. {unnamed}"
    if not users["users"]:
        return "No interaction of this version names a user."
    return (
        f"Users: {users['users']:,}. The most active is the source of {wording.percent(users['top_share'])} of the "
        "interactions that name one. All together they weigh like "
        f"{wording.number(users['effective_entropy'])} (by entropy) or {wording.number(users['effective_kish'])} (Kish) users "
        f"of equal activity. {unnamed}"
    )
