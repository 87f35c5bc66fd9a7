"""Making the documents of a version: one pass over its rows, one over its fates and the facts of what was read.

Rows are looked at type by type. The types, and the fates, are parts of the build that workers share; what each gives is added
up in the order of the files, whoever did it, so that it is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tracemill.core.examples import DatasetFile, Fate, Manifest
from tracemill.core.ids import id_bytes
from tracemill.core.steps import Progress
from tracemill.dataset.documents.card import CARD, version_card
from tracemill.dataset.documents.croissant import croissant_document
from tracemill.dataset.documents.groups import Groups
from tracemill.dataset.documents.lineage import lineage_document
from tracemill.dataset.documents.observe import Observed, observe
from tracemill.dataset.documents.page import quality_page
from tracemill.dataset.documents.quality import quality_document
from tracemill.dataset.documents.representation import representation_document
from tracemill.dataset.documents.schema import schema_document
from tracemill.dataset.documents.usage import usage_guidelines
from tracemill.dataset.facts import Facts
from tracemill.dataset.files import write_whole
from tracemill.dataset.merge import version_file
from tracemill.dataset.shards import Shard, shards
from tracemill.dataset.site import Crew, Site
from tracemill.dataset.sort import Entry, RunWriter, merge_runs

DOCUMENTS = {
    "USAGE.md": "what the rows are for, what they must not be used for, known limits, licence",
    "schema.json": "every field of every type: meaning, type, presence, ranges",
    "quality.html": "the quality report, with charts",
    "quality.json": "the numbers of the quality report",
    "lineage.json": "sources, steps with what went in and came out, what was left out",
    "representation.json": "shares and rates by group, concentration of users",
    "croissant.json": "the version as Croissant 1.0 (JSON-LD)",
}
"""The documents beside the card, with what each is."""
_encode = msgspec.msgpack.Encoder().encode
_facts = msgspec.msgpack.Decoder(Facts | None).decode
_fate = msgspec.json.Decoder(Fate).decode


@dataclass(frozen=True)
class _Asked:
    """What one worker describes: the rows of a type in some splits, or where there is no type the records by their fates."""

    output: Path
    fates: str
    tag: str = ""
    splits: tuple[str, ...] = ()


def write_documents(
    crew: Crew, output: Path, manifest: Manifest, progress: Progress | None = None
) -> list[DatasetFile]:
    """Write every document into the folder of a version whose rows and fates are there; gives them as a manifest lists them.

    A pure function of the manifest, the rows, the fates and the facts of the shards.
    """
    observed, groups = _described(crew, output.resolve(), manifest, progress)
    lineage = lineage_document(manifest, groups, observed)
    quality = quality_document(manifest, observed)
    representation = representation_document(groups, observed)
    findings = representation["findings"]
    license_name = str(manifest.recipe.get("license", ""))
    span = [f"Their interactions are of {lineage['first_day']} to {lineage['last_day']}."] if groups.whole.used else []
    contents: dict[str, bytes] = {
        CARD: _text(version_card(manifest, license_name, DOCUMENTS, span)),
        "USAGE.md": _text(usage_guidelines(manifest, findings)),
        "schema.json": _json(schema_document(observed)),
        "quality.html": _text(quality_page(manifest, quality, lineage, representation)),
        "quality.json": _json(quality),
        "lineage.json": _json(lineage),
        "representation.json": _json(representation),
        "croissant.json": _json(croissant_document(manifest, observed)),
    }
    return [write_whole(output / name, data) for name, data in sorted(contents.items())]


def _described(
    crew: Crew, output: Path, manifest: Manifest, progress: Progress | None
) -> tuple[dict[str, Observed], Groups]:
    rows: dict[str, int] = {}
    for types in manifest.examples.values():
        for tag, number in types.items():
            rows[tag] = rows.get(tag, 0) + number
    asked = [_Asked(output, manifest.fates)]
    for tag in sorted(rows, key=lambda tag: -rows[tag]):  # what takes long is given out first
        splits = tuple(split for split, types in manifest.examples.items() if tag in types)
        asked.append(_Asked(output, manifest.fates, tag, splits))
    groups, found, done = Groups(), dict.fromkeys(rows, Observed()), 0
    for place, made in crew.run(describe, asked):
        if tag := asked[place].tag:
            found[tag] = made
            done += rows[tag]
            if progress is not None:
                progress("describe examples", done, sum(rows.values()))
        else:
            groups = made
    return found, groups


def describe(site: Site, asked: _Asked) -> Observed | Groups:
    """Look at all rows of one type, or at all records."""
    if not asked.tag:
        return _groups(asked.output / asked.fates, site.work, shards(site.work, site.watermark))
    observed = Observed()
    for split in asked.splits:
        with (asked.output / version_file(split, asked.tag)).open("rb") as lines:
            observe(lines, split, observed)
    return observed


def _groups(fates: Path, work: Path, parts: Iterable[Shard]) -> Groups:
    """Every interaction that was read, with what became of it: both sides sorted by id and met once."""
    runs = RunWriter(work, "facts")
    for shard in parts:
        for row in shard.columns():
            runs.add(id_bytes(row.id), _encode(row.facts))
    groups = Groups()
    with fates.open("rb") as lines:
        for fate, payload in _met(map(_fate, lines), merge_runs(runs.close(), work, "facts")):
            groups.add(_facts(payload), fate)
    return groups.counted()


def _met(fates: Iterator[Fate], facts: Iterator[Entry]) -> Iterator[tuple[Fate, bytes]]:
    """The fates of interactions with their facts. Every fact has a fate; feedback has no facts."""
    for key, payload in facts:
        for fate in fates:
            if id_bytes(fate.id) == key:
                yield fate, payload
                break


def _text(text: str) -> bytes:
    return (text.rstrip("\n") + "\n").encode("utf-8", "backslashreplace")


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
