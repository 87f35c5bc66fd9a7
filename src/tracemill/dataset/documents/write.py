"""Making the documents of a version: one pass over its rows, one over its fates and the facts of what was read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from tracemill.dataset.shards import Shard
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


def write_documents(
    output: Path, work: Path, manifest: Manifest, parts: Iterable[Shard], progress: Progress | None = None
) -> list[DatasetFile]:
    """Write every document into the folder of a version whose rows and fates are there; gives them as a manifest lists them.

    A pure function of the manifest, the rows, the fates and the facts of the shards. ``work`` is for files on the way.
    """
    observed = _observed(output, manifest, progress)
    groups = _groups(output / manifest.fates, work, parts)
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


def _observed(output: Path, manifest: Manifest, progress: Progress | None) -> dict[str, Observed]:
    found: dict[str, Observed] = {}
    done, total = 0, sum(number for types in manifest.examples.values() for number in types.values())
    for split, types in manifest.examples.items():
        for tag, number in types.items():
            with (output / f"{split}-{tag}.jsonl").open("rb") as lines:
                observe(lines, split, found.setdefault(tag, Observed()))
            done += number
            if progress is not None:
                progress("describe examples", done, total)
    return found


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
