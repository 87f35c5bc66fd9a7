"""Dataset versions on disk: find, list, read, verify.

A version is a folder ``<root>/<name>/v<N>`` that never changes: ``manifest.json`` (what it is), ``<split>-<type>.jsonl``
(the examples, sorted by id), ``fates.jsonl`` (what became of every record read), documents
(:mod:`tracemill.dataset.documents`), ``build.json`` (when and from where). Beside them lies ``certificate.json`` once it was
certified.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path

import msgspec

from tracemill.core.errors import DatasetError
from tracemill.core.examples import (
    EXAMPLE_TYPES,
    MANIFEST_VERSION,
    BuildRecord,
    DatasetFile,
    Example,
    Fate,
    Manifest,
    Tombstone,
)
from tracemill.dataset.files import sha256_of
from tracemill.dataset.identity import example_tag
from tracemill.dataset.rows import decode_line
from tracemill.dataset.standing import current_folder

MANIFEST = "manifest.json"
BUILD = "build.json"
TOMBSTONE = "tombstone.json"
CERTIFICATE = "certificate.json"
PATTERNS = "patterns.json"
"""Tool patterns of the records a package was made of, beside the manifest: numbers and names of tools."""
BESIDE = (PATTERNS, CERTIFICATE, *(f".{name}.draft" for name in (PATTERNS, CERTIFICATE)))
"""What is written beside the manifest after the version is there, and what a kill leaves of the writing."""
_FOLDER = re.compile(r"v([1-9][0-9]{0,8})")
_REFERENCE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:@v?([1-9][0-9]{0,8}))?")


@dataclass(frozen=True)
class Version:
    """One dataset version. Opening it reads the manifest only."""

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.manifest.name

    @property
    def number(self) -> int:
        """Its number among the versions of this name, from 1."""
        return int(self.path.name[1:])

    @property
    def reference(self) -> str:
        """What :func:`find_version` finds it by: ``name@v3``."""
        return f"{self.name}@{self.path.name}"

    @cached_property
    def manifest_sha256(self) -> str:
        """The SHA-256 of its manifest: equal wherever the same recipe met the same records."""
        return sha256_of(self.path / MANIFEST)

    @cached_property
    def tombstone(self) -> Tombstone | None:
        """What stands in the place of its rows, where some of its records were erased. Raises DatasetError."""
        path = self.path / TOMBSTONE
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=Tombstone)
        except (OSError, msgspec.MsgspecError) as error:
            raise DatasetError(f"{self.reference}: {TOMBSTONE} cannot be read: {error}") from error

    def build_record(self) -> BuildRecord:
        """When and from where it was built. Raises DatasetError when that file is missing or damaged."""
        try:
            return msgspec.json.decode((self.path / BUILD).read_bytes(), type=BuildRecord)
        except (OSError, msgspec.MsgspecError) as error:
            raise DatasetError(f"{self.reference}: {BUILD} cannot be read: {error}") from error

    def shares(self) -> dict[str, float]:
        """The splits its recipe names and their shares; also of those that got no example."""
        return dict(self.manifest.recipe.get("split", {}))

    def listed(self) -> list[DatasetFile]:
        """Every file its manifest names: rows, fates, documents. None of them is there any more once it was erased."""
        return [*self.manifest.files, *self.manifest.documents]

    def splits(self) -> list[str]:
        """The splits that have examples, in alphabetical order."""
        return sorted(self.manifest.examples)

    def count(self, split: str | None = None, type: str | None = None) -> int:  # noqa: A002 - the field's own name
        """How many examples there are, of one split or all, of one type or all."""
        return sum(
            rows
            for name, by_type in self.manifest.examples.items()
            for tag, rows in by_type.items()
            if split in (None, name) and type in (None, tag)
        )

    def examples(
        self,
        split: str | None = None,
        type: str | None = None,  # noqa: A002
        *,
        after: int = 0,
    ) -> Iterator[Example]:
        """The examples of one split or all, of one type or all, file by file in the order of their ids.

        The first ``after`` of them are passed over, unread.

        Raises DatasetError for a split or type that no version has, and for a file that is missing or damaged.
        """
        if type is not None and type not in EXAMPLE_TYPES:
            raise DatasetError(f"no example type {type!r}", hint=f"Types: {', '.join(EXAMPLE_TYPES)}.")
        if split is not None and split not in self.manifest.recipe.get("split", {}):
            known = ", ".join(sorted(self.manifest.recipe.get("split", {})))
            raise DatasetError(f"{self.reference} has no split {split!r}", hint=f"Splits: {known}.")
        for name, by_type in sorted(self.manifest.examples.items()):
            for tag in sorted(by_type):
                if split in (None, name) and type in (None, tag):
                    passed = min(after, by_type[tag])
                    after -= passed
                    yield from map(decode_line, islice(self._lines(f"{name}-{tag}.jsonl"), passed, None))

    def fates(self) -> Iterator[Fate]:
        """What became of every record that was read, by record id."""
        decoder = msgspec.json.Decoder(Fate)
        try:
            yield from map(decoder.decode, self._lines(self.manifest.fates))
        except msgspec.MsgspecError as error:
            raise DatasetError(f"{self.reference}: {self.manifest.fates} is damaged: {error}") from error

    def _lines(self, name: str) -> Iterator[bytes]:
        if (stone := self.tombstone) is not None:
            instead = f"Use {stone.replaced_by}." if stone.replaced_by else "Build it again."
            raise DatasetError(
                f"{self.reference} has no rows any more: records it was made of were erased ({stone.receipt})",
                hint=instead,
            )
        try:
            with (self.path / name).open("rb") as file:
                for line in file:
                    yield line.rstrip(b"\n")
        except OSError as error:
            raise DatasetError(f"{self.reference}: {name} cannot be read: {error}") from error

    def verify(self) -> list[str]:
        """What is wrong with the version on disk, one sentence each; empty when it is as it was built.

        Checks every file's size, hash and rows, that every row can be read, that rows are sorted and unique, that the
        manifest's counts agree with them, and that no file lies there that the manifest does not know.
        """
        if self.tombstone is not None:
            there = [file.path for file in self.listed() if (self.path / file.path).exists()]
            return [f"{name} is still there, though the version was erased" for name in there]
        problems = self._check_files()
        if problems:
            return problems
        counted: dict[str, Counter[str]] = {}
        for file in self.manifest.files:
            if file.path == self.manifest.fates:
                continue
            split, _, tag = file.path.removesuffix(".jsonl").partition("-")
            last = ""
            for line in self._lines(file.path):
                try:
                    example = decode_line(line)
                except DatasetError as error:
                    problems.append(f"{file.path}: {error.message}")
                    continue
                if example.id <= last:
                    problems.append(f"{file.path} is not sorted by id, or holds {example.id} twice")
                last = example.id
                counted.setdefault(split, Counter())[example_tag(example)] += 1
                if example_tag(example) != tag:
                    problems.append(f"{file.path} holds a {example_tag(example)} example")
        if counted != {split: Counter(types) for split, types in self.manifest.examples.items()}:
            problems.append("the manifest's counts of examples are not those of the files")
        if sum(1 for _ in self.fates()) != self.manifest.records_read:
            problems.append("the manifest's count of records is not that of the fates")
        return problems

    def _check_files(self) -> list[str]:
        problems = []
        for file in self.listed():
            path = self.path / file.path
            if not path.is_file():
                problems.append(f"{file.path} is missing")
            elif path.stat().st_size != file.bytes or sha256_of(path) != file.sha256:
                problems.append(f"{file.path} was changed: its size or SHA-256 is not the manifest's")
            elif sum(1 for _ in self._lines(file.path)) != file.rows:
                problems.append(f"{file.path} does not have {file.rows} rows")
        known = {MANIFEST, BUILD, *BESIDE, *(file.path for file in self.listed())}
        problems.extend(
            f"{path.name} does not belong here" for path in sorted(self.path.iterdir()) if path.name not in known
        )
        try:
            if self.build_record().manifest_sha256 != self.manifest_sha256:
                problems.append(f"{MANIFEST} was changed: its SHA-256 is not the one {BUILD} names")
        except DatasetError as error:
            problems.append(error.message)
        return problems


def open_version(path: Path) -> Version:
    """The version in a folder. Raises DatasetError when there is none, or one this tracemill cannot read."""
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise DatasetError(f"{path} holds no dataset version") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise DatasetError(f"{path / MANIFEST} cannot be read: {error}") from error
    if manifest.manifest_version > MANIFEST_VERSION:
        raise DatasetError(f"{path} was built by a newer tracemill", hint="Upgrade tracemill to read it.")
    return Version(path, manifest)


def version_folders(folder: Path) -> list[Path]:
    """The folders of the versions of one dataset, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _FOLDER.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name[1:]))


def list_versions(root: Path, name: str | None = None) -> list[Version]:
    """All versions under a root, by name and number; of one dataset when it is named."""
    if not root.is_dir():
        return []
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [open_version(path) for found in names if name in (None, found) for path in version_folders(root / found)]


def current_versions(root: Path) -> list[Version]:
    """The current version of every dataset that has one, by name."""
    found = []
    for name, versions in groupby(list_versions(root), key=lambda version: version.name):
        by_folder = {version.path.name: version for version in versions}
        current = current_folder(root / name, list(by_folder))
        found.extend([] if current is None else [by_folder[current]])
    return found


def find_version(root: Path, reference: str) -> Version:
    """The version a reference means: ``name@v3``, or the current one for ``name`` alone.

    Raises DatasetError when there is none; the hint names those there are.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise DatasetError(f"{reference!r} names no dataset version", hint="Write name or name@v3.")
    name, number = match.groups()
    folders = version_folders(root / name)
    chosen = current_folder(root / name, [path.name for path in folders]) if number is None else f"v{number}"
    wanted = [path for path in folders if path.name == chosen]
    if folders and chosen is None:
        waiting = f"{name}@{folders[-1].name}"
        raise DatasetError(
            f"no version of {name!r} was approved yet",
            hint=f"`tracemill dataset approve {waiting}` makes it the current one; name it in full to look at it.",
        )
    if not wanted:
        there = [f"{name}@{path.name}" for path in folders] or sorted({v.name for v in list_versions(root)})
        hint = f"There are: {', '.join(there)}." if there else "Run `tracemill dataset build` first."
        raise DatasetError(f"there is no dataset version {reference!r}", hint=hint)
    return open_version(wanted[0])
