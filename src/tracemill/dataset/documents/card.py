"""The card by which Hugging Face ``datasets`` and its hub read a folder: YAML between dashes, then Markdown.

The one place where such a card is written, for versions here and for exports. Types of columns stand in it, because the
loader's guess would add to every message the keys of all others, null, and a chat template would write those out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from tracemill.core.examples import EXAMPLE_TYPES, Example, Manifest
from tracemill.dataset.documents.schema import TAG, field_types, summary
from tracemill.drawing.wording import visible

CARD = "README.md"
MESSAGES = "list: json"
_TEXT = "dtype: string"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_CHARACTER = (
    *(("\\", "\\\\"), ("&", "&amp;"), ("`", "\\`"), ("~", "\\~"), ("|", "\\|"), ("<", "&lt;"), ("[", "\\[")),
    *(("\n", " "), ("\r", " ")),
)
"""What is put in the place of signs, in this order: what escapes comes before what is escaped with it."""
_NO_TEXT = re.compile(r"y|n|yes|no|on|off|true|false|null")
"""Names of splits that YAML reads as something else than a text."""


@dataclass(frozen=True, slots=True)
class Config:
    """One way to load the folder: its files by split, and its columns with their types as the header names them.

    No columns: the loader guesses.
    """

    name: str
    files: Mapping[str, Sequence[str]]
    columns: Mapping[str, str] = field(default_factory=dict)
    default: bool = False


def hub_card(
    title: str,
    rows: int,
    configs: Sequence[Config],
    body: Sequence[str],
    *,
    task: str = "text-generation",
    tags: Sequence[str] = (),
    license_name: str = "",
) -> str:
    """The whole text of a card. ``license_name`` is an SPDX identifier, or a sentence; ``body`` is the Markdown, by lines."""
    return "\n".join(
        [
            "---",
            f"pretty_name: {_quoted(title)}",
            *_license(license_name),
            f"size_categories:\n- {size_category(rows)}",
            f"task_categories:\n- {task}",
            "tags:",
            *(f"- {tag}" for tag in ("tracemill", *tags)),
            *_configs(configs),
            "---",
            "",
            f"# {plain_text(title)}",
            "",
            *body,
            "",
        ]
    )


def _configs(configs: Sequence[Config]) -> list[str]:
    lines = ["configs:"] if configs else []
    for config in configs:
        lines.append(f"- config_name: {config.name}")
        if config.default:
            lines.append("  default: true")
        lines.append("  data_files:")
        for split, files in config.files.items():
            lines += [
                f"  - split: {_quoted(split) if _NO_TEXT.fullmatch(split) else split}",
                "    path:",
                *(f"    - {path}" for path in files),
            ]
    typed = [config for config in configs if config.columns]
    if len(configs) == 1 and typed:
        return [*lines, "dataset_info:", "  features:", *_features(typed[0], "  ")]
    if typed:
        lines.append("dataset_info:")
        for config in typed:
            lines += [f"- config_name: {config.name}", "  features:", *_features(config, "  ")]
    return lines


def _features(config: Config, indent: str) -> list[str]:
    return [f"{indent}- name: {name}\n{indent}  {kind}" for name, kind in config.columns.items()]


def _license(name: str) -> list[str]:
    """The hub knows licences by their identifiers in lower case; any other is ``other`` with a name."""
    if not name:
        return []
    known = name.lower()
    if known in HUB_LICENSES:
        return [f"license: {known}"]
    return ["license: other", f"license_name: {_quoted(name)}"]


HUB_LICENSES = frozenset(
    {
        *("apache-2.0", "mit", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0"),
        *("cc-by-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "odc-by", "odbl", "pddl", "cdla-permissive-1.0"),
        *("cdla-permissive-2.0", "cdla-sharing-1.0", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "bsd-2-clause"),
        *("bsd-3-clause", "mpl-2.0", "unlicense", "openrail"),
    }
)
"""Identifiers of the hub's own list (its documentation, "Licenses") that are ever used for data."""


def size_category(rows: int) -> str:
    """The size class by which Hugging Face sorts datasets."""
    return next((name for bound, name in _SIZES if rows < bound), "n>10M")


def _quoted(text: str) -> str:
    """A text as YAML writes one in double quotes; JSON's way is part of YAML's."""
    return msgspec.json.encode(text).decode()


def plain_text(text: str) -> str:
    """A text that Markdown shows as it is: no code, link, table or tag begins in it."""
    for character, shown in _CHARACTER:
        text = text.replace(character, shown)
    return visible(text)


def version_configs(manifest: Manifest) -> list[Config]:
    """One configuration for each type of example that has rows, with the columns of its Struct."""
    tags = sorted({tag for types in manifest.examples.values() for tag in types})
    first = "supervised" if "supervised" in tags else next(iter(tags), "")
    return [
        Config(
            name=tag,
            files={split: [f"{split}-{tag}.jsonl"] for split, types in manifest.examples.items() if types.get(tag)},
            columns=column_types(EXAMPLE_TYPES[tag]) if tag in EXAMPLE_TYPES else {},
            default=tag == first,
        )
        for tag in tags
    ]


def column_types(kind: type[Example]) -> dict[str, str]:
    """A Struct's fields as the header of a card types them; what has no fixed type is read as JSON."""
    plain = {
        "str": _TEXT,
        "bool": "dtype: bool",
        "int": "dtype: int64",
        "float": "dtype: float64",
        "list[str]": "list: string",
    }
    found = {TAG: _TEXT}
    for name, written in field_types(kind).items():
        base = written.partition(" (")[0].removesuffix(" | None")
        found[name] = plain.get(base) or (MESSAGES if base.startswith("list[") else "dtype: json")
    return found


def version_card(manifest: Manifest, license_name: str, documents: Mapping[str, str], facts: Sequence[str]) -> str:
    """The card of a version. ``documents`` are the files beside it with what they are, ``facts`` sentences for its summary."""
    rows = sum(number for types in manifest.examples.values() for number in types.values())
    tags = sorted({tag for types in manifest.examples.values() for tag in types})
    counts = [
        f"| {split} | {tag} | {number:,} |"
        for split, types in manifest.examples.items()
        for tag, number in types.items()
    ]
    description = str(manifest.recipe.get("description", ""))
    body = [
        *([plain_text(description), ""] if description else []),
        f"{rows:,} training examples, made of {manifest.records_read:,} records of an application in production.",
        *facts,
        "",
        "| split | type | rows |",
        "| --- | --- | ---: |",
        *counts,
        "",
        *(f"- **{tag}**: {summary(EXAMPLE_TYPES[tag])}" for tag in tags if tag in EXAMPLE_TYPES),
        "",
        "## Files",
        "",
        *(f"- [{name}]({name}): {what}" for name, what in documents.items()),
        "",
        *(["## Known limits", "", *(f"- {plain_text(note)}" for note in manifest.notes), ""] if manifest.notes else []),
        "Load one type with `datasets.load_dataset(folder, type)` (`datasets` 4.7 or newer). Rows are sorted by id. A field",
        "that is not written has its default, which the loader reads as null.",
    ]  # fmt: skip
    return hub_card(manifest.name, rows, version_configs(manifest), body, tags=tags, license_name=license_name)
