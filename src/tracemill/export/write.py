"""Writing an export: one file a split, a list of what rows lack, and what the export is.

Every file is whole or absent, and ``export.json`` comes last: a folder without it is an export that was interrupted. Rows
are checked as the bytes they will be (:mod:`tracemill.export.check`); one that fails is listed and not written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import msgspec

from tracemill.core.errors import ExportError
from tracemill.core.examples import DatasetFile, Example, ExportManifest, Loss
from tracemill.core.steps import Progress
from tracemill.dataset.files import WholeFile, locked, sync_folder, write_whole
from tracemill.dataset.version import Version
from tracemill.export.check import check_row
from tracemill.export.formats import FORMATS, Format, Lost, RefusedError

EXPORT = "export.json"
LOSSES = "losses.jsonl"
CARD = "README.md"
_encode = msgspec.json.Encoder().encode
_REPORT_EVERY = 500


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export gave: its folder, and its manifest with rows, refusals and losses counted."""

    path: Path
    manifest: ExportManifest

    @property
    def rows(self) -> int:
        """Rows of all splits."""
        return sum(self.manifest.rows.values())


def export_version(
    version: Version,
    format: str,  # noqa: A002 - the word for it everywhere else
    to: Path | None = None,
    *,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a version in a format into a folder, by default ``exports/<name>-<version>-<format>`` beside the datasets.

    The same version and format give the same bytes. Raises ExportError for a format nobody knows and for a version that
    has no examples it is made of; DatasetError when the version is damaged or another process writes the same folder.
    """
    made = FORMATS.get(format)
    if made is None:
        near = get_close_matches(format, FORMATS, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise ExportError(f"no format {format!r}", hint=f"{hint}Formats: {', '.join(FORMATS)}.")
    tag = str(made.example.__struct_config__.tag)
    if not version.count(type=tag):
        raise ExportError(f"{version.reference} has no {tag} examples to export as {format}", hint=_instead(version))
    if to is None:
        to = version.path.parents[2] / "exports" / f"{version.name}-{version.path.name}-{format}"
    with locked(to, f"exporting {version.reference}"):
        return _Export(version, made, tag, to, progress).run()


def _instead(version: Version) -> str:
    counts = {made.name: version.count(type=str(made.example.__struct_config__.tag)) for made in FORMATS.values()}
    there = [f"{name} ({count})" for name, count in counts.items() if count]
    return f"It has examples for: {', '.join(there)}." if there else "It has no examples at all: see its drops."


class _Export:
    """One export, under the lock of its folder."""

    def __init__(self, version: Version, made: Format, tag: str, to: Path, progress: Progress | None) -> None:
        self.version, self.made, self.tag, self.to, self.progress = version, made, tag, to, progress
        self.rows: dict[str, int] = {}
        self.refused: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.done = 0
        self.optional: set[str] = set()

    def run(self) -> ExportReport:
        stale = {path for path in self.to.iterdir() if path.suffix == ".jsonl" or path.name == CARD}
        (self.to / EXPORT).unlink(missing_ok=True)
        files: list[DatasetFile] = []
        with WholeFile(self.to / LOSSES) as losses:
            for split in self.version.splits():
                if self.version.count(split, self.tag):
                    with WholeFile(self.to / f"{split}.jsonl") as file:
                        self._split(split, file, losses)
                    files.append(file.describe())
                    self.rows[split] = file.rows
        files.append(losses.describe())
        files.append(write_whole(self.to / CARD, self._card(files).encode()))
        for path in stale - {self.to / file.path for file in files}:
            path.unlink()
        manifest = ExportManifest(
            format=self.made.name,
            dataset=self.version.name,
            version=self.version.path.name,
            manifest_sha256=self.version.manifest_sha256,
            rows=self.rows,
            refused=dict(sorted(self.refused.items())),
            losses=dict(sorted(self.lost.items())),
            files=sorted(files, key=lambda file: file.path),
        )
        sync_folder(self.to)
        write_whole(self.to / EXPORT, msgspec.json.format(_encode(manifest), indent=2) + b"\n")
        sync_folder(self.to)
        return ExportReport(self.to, manifest)

    def _split(self, split: str, file: WholeFile, losses: WholeFile) -> None:
        total = self.version.count(type=self.tag)
        for example in self.version.examples(split, self.tag):
            row, lost, refused = make_row(example, self.made)
            if row is not None:
                file.write_line(row)
                self.optional.update(name for name in _OPTIONAL if b'"%s":' % name.encode() in row)
            self._list(split, example, file.rows, lost, refused, losses)
            self.done += 1
            if self.progress is not None and (self.done % _REPORT_EVERY == 0 or self.done == total):
                self.progress(f"export {self.made.name}", self.done, total)

    def _list(
        self,
        split: str,
        example: Example,
        row: int,
        lost: Sequence[Lost],
        refused: RefusedError | None,
        losses: WholeFile,
    ) -> None:
        """Write what a row lacks, or why there is none."""
        if refused is not None:
            self.refused[refused.reason] += 1
            loss = Loss(split=split, example=example.id, reason=refused.reason, detail=_printable(refused.detail))
            losses.write_line(_encode(loss))
            return
        for entry in lost:
            self.lost[entry.reason] += 1
            loss = Loss(
                split=split,
                example=example.id,
                row=row,
                path=_printable(entry.path),
                reason=entry.reason,
                detail=_printable(entry.detail),
                call_ids=[_printable(call_id) for call_id in entry.call_ids],
            )
            losses.write_line(_encode(loss))

    def _card(self, files: Sequence[DatasetFile]) -> str:
        """A card by which Hugging Face ``datasets`` loads the folder without guessing types.

        Guessed from the rows, messages become structs in which every message has the union of all keys, the missing ones
        null: a chat template would write those nulls out. As ``json`` they are read back as they stand.
        """
        columns = [f"  - name: {side}\n    list: json" for side in self.made.sides]
        columns.extend(f"  - name: {name}\n    {_COLUMN_TYPES[name]}" for name in self.made.values)
        columns.extend(f"  - name: {name}\n    {kind}" for name, kind in _OPTIONAL.items() if name in self.optional)
        splits = [f"  - split: {file.path.removesuffix('.jsonl')}\n    path: {file.path}" for file in files]
        splits = splits[:-1]  # the last file lists losses
        return "\n".join(
            [
                "---",
                "configs:",
                "- config_name: default",
                "  data_files:",
                *splits,
                "dataset_info:",
                "  features:",
                *columns,
                "---",
                "",
                f"{self.version.reference} as {self.made.name}, written by tracemill: `{EXPORT}` says from what,",
                f"`{LOSSES}` lists what the rows do not hold. Load it with `datasets.load_dataset` on this folder",
                "(`datasets` 4.7 or newer).",
                "",
            ]
        )


_COLUMN_TYPES = {
    "label": "dtype: bool",
    "shared": "dtype: int64",
    "chosen_score": "dtype: float64",
    "rejected_score": "dtype: float64",
    "rejected_tools": "list: json",
}


_OPTIONAL = {"tools": "list: json", "parallel_tool_calls": "dtype: bool"}
"""Columns that a card names where a row has them. A key of that name deeper inside a row names a column that stays empty."""


def make_row(example: Example, made: Format) -> tuple[bytes | None, list[Lost], RefusedError | None]:
    """The line of an example in a format, what it lacks, and why there is no line when there is none."""
    try:
        row, lost = made.row(example)
        data = _encode(row)
    except RefusedError as refused:
        return None, [], refused
    except UnicodeEncodeError:
        return None, [], RefusedError("lone_surrogate", "a text holds half of a surrogate pair, which UTF-8 cannot")
    except (OverflowError, TypeError, RecursionError, msgspec.MsgspecError) as error:
        return None, [], RefusedError("not_json", str(error))
    fault = check_row(data, example, made, lost)
    return (data, lost, None) if fault is None else (None, [], RefusedError(fault.reason, fault.detail))


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
