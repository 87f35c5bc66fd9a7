"""Erasure in dataset versions, exports and trained models.

A version never changes, so one that was made of an erased record is not mended: its rows go, and ``tombstone.json`` stands
in their place beside the manifest, which holds counts and no content. Its documents go with them: their counts and rates
are of people who are gone. The workspace then builds a new version of the
same recipe from what is left. An export of such a version goes the same way. A model that was trained on it cannot be
mended either: it is listed as tainted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from tracemill.core.erasure import Touched
from tracemill.core.errors import DatasetError
from tracemill.core.examples import ExportManifest, Fate, Tombstone, TrainedModel
from tracemill.core.ids import now
from tracemill.dataset.files import locked, sha256_of, write_whole
from tracemill.dataset.version import BESIDE, MANIFEST, TOMBSTONE, Version, open_version, version_folders
from tracemill.privacy.subject import Subject

_PATIENCE = 60.0
"""Seconds to wait for a build or an export that is under way: what it makes has to be looked at too."""
EXPORT = "export.json"
DRAFT = ".draft"
"""The folder in which an export is written, before its files are put in their place."""
BEFORE = "before.json"
"""The manifest of the export that the draft is about to replace; empty where there was none."""
MODELS = "models.jsonl"
_fate = msgspec.json.Decoder(Fate).decode


class VersionsPlace:
    """Every dataset version of a workspace, and what builds that were cut off left."""

    name = "dataset versions"

    def __init__(self, root: Path, receipt: Callable[[], str]) -> None:
        self._root = root
        self._receipt = receipt

    def erase(self, subject: Subject) -> Touched:
        """Tombstone each version that read any of the records. Raises DatasetError while one is being built."""
        rows = builds = 0
        gone: list[str] = []
        for folder in self._datasets():
            with locked(folder, "erasing", wait=_PATIENCE):
                for path in folder.glob(".building-*"):
                    shutil.rmtree(path, ignore_errors=True)
                    builds += 1
                for version, hit in self._hit(folder, subject):
                    rows += _bury_version(version, hit, self._receipt())
                    gone.append(f"dataset {version.reference}")
        removed = {
            name: number for name, number in (("versions", len(gone)), ("rows", rows), ("builds", builds)) if number
        }
        return Touched(place=self.name, removed=removed, notes=gone)

    def left(self, subject: Subject) -> int:
        """How many versions still hold any of the records."""
        return sum(1 for folder in self._datasets() for _ in self._hit(folder, subject))

    def _datasets(self) -> Iterator[Path]:
        if self._root.is_dir():
            yield from (
                path for path in sorted(self._root.iterdir()) if path.is_dir() and not path.name.startswith(".")
            )

    def _hit(self, folder: Path, subject: Subject) -> Iterator[tuple[Version, int]]:
        """Versions with rows that read any of the records, and how many."""
        for path in version_folders(folder):
            version = open_version(path)
            if (stone := version.tombstone) is not None:
                if any((path / name).exists() for name in _going(version)):
                    yield version, stone.records  # a kill came between the tombstone and the end of all that goes
                continue
            try:
                with (path / version.manifest.fates).open("rb") as lines:
                    hit = sum(1 for line in lines if _fate(line).id in subject.ids)
            except (OSError, msgspec.MsgspecError):
                hit = 1  # what cannot be read cannot be shown to be free of them
            if hit:
                yield version, hit


def _bury_version(version: Version, records: int, receipt: str) -> int:
    """Put a tombstone in the place of a version's rows; returns how many there were."""
    rows = version.count()
    if version.tombstone is None:
        write_tombstone(version.path, Tombstone(receipt=receipt, erased=now(), records=records, rows=rows))
    for name in _going(version):
        (version.path / name).unlink(missing_ok=True)
    return rows


def _going(version: Version) -> list[str]:
    """What goes with a version's rows: all its manifest names, and what was said of the rows beside it."""
    return [*(file.path for file in version.listed()), *BESIDE]


def write_tombstone(folder: Path, stone: Tombstone) -> None:
    """Set or replace the tombstone of a folder; it is there whole or not at all."""
    write_whole(folder / TOMBSTONE, msgspec.json.format(msgspec.json.encode(stone), indent=2) + b"\n")


class ExportsPlace:
    """Exports of versions that were tombstoned or are gone: in the workspace, and wherever else ``places`` says one is."""

    name = "exports"

    def __init__(
        self, root: Path, datasets: Path, places: Callable[[], list[Path]], receipt: Callable[[], str]
    ) -> None:
        self._root, self._datasets, self._places, self._receipt = root, datasets, places, receipt

    def erase(self, subject: Subject) -> Touched:
        """Remove the rows of each export that was made of a version without rows, and of those that were cut off.

        Raises DatasetError while one is being written.
        """
        del subject
        exports = rows = drafts = 0
        for folder in list(self._cut_off()):
            with locked(folder, "erasing", wait=_PATIENCE):
                drafts += _clear(folder)  # nothing is left of one that came to its end meanwhile
        notes = []
        for folder, manifest in self._buried():
            with locked(folder, "erasing", wait=_PATIENCE):
                stone = Tombstone(receipt=self._receipt(), erased=now(), records=0, rows=sum(manifest.rows.values()))
                write_tombstone(folder, stone)
                for file in manifest.files:
                    (folder / Path(file.path).name).unlink(missing_ok=True)
            exports += 1
            rows += sum(manifest.rows.values())
            notes.append(f"export {folder.name} of {manifest.dataset}@{manifest.version}")
        counts = (("exports", exports), ("rows", rows), ("drafts", drafts))
        removed = {name: number for name, number in counts if number}
        return Touched(place=self.name, removed=removed, notes=notes)

    def left(self, subject: Subject) -> int:
        """How many exports still hold rows of a version that has none."""
        del subject
        return sum(1 for _ in self._buried()) + sum(1 for _ in self._cut_off())

    def _folders(self) -> list[Path]:
        inside = [path for path in sorted(self._root.iterdir()) if path.is_dir()] if self._root.is_dir() else []
        return list(dict.fromkeys([*inside, *self._places()]))

    def _cut_off(self) -> Iterator[Path]:
        """Folders whose lock says that we wrote there, with a draft, or with rows and no manifest, which comes last."""
        for folder in self._folders():
            if (folder / ".lock").exists() and ((folder / DRAFT).exists() or _rows_without_manifest(folder)):
                yield folder

    def _buried(self) -> Iterator[tuple[Path, ExportManifest]]:
        for folder in self._folders():
            try:
                manifest = msgspec.json.decode((folder / EXPORT).read_bytes(), type=ExportManifest)
            except (OSError, msgspec.MsgspecError):
                continue
            version = self._datasets / manifest.dataset / manifest.version
            gone = (version / TOMBSTONE).exists() or not _is_of(version, manifest)
            if gone and any((folder / Path(file.path).name).exists() for file in manifest.files):
                yield folder, manifest


def _is_of(version: Path, manifest: ExportManifest) -> bool:
    """Whether an export is of the version that lies there now. Of one that was removed nobody can say whom it is made of."""
    try:
        return sha256_of(version / MANIFEST) == manifest.manifest_sha256
    except OSError:
        return False


def _rows_without_manifest(folder: Path) -> list[Path]:
    """Files that an export which was cut off left, be it that its draft names them."""
    if (folder / EXPORT).exists():
        return []
    found = [*folder.glob("*.jsonl"), *folder.glob(".*.draft")]
    for name in (EXPORT, BEFORE):
        try:
            manifest = msgspec.json.decode((folder / DRAFT / name).read_bytes(), type=ExportManifest)
        except (OSError, msgspec.MsgspecError):
            continue
        found += [folder / Path(file.path).name for file in manifest.files]
    return [path for path in dict.fromkeys(found) if path.is_file()]


def _clear(folder: Path) -> bool:
    """Remove what an export that was cut off left in a folder; whether there was anything."""
    rows = _rows_without_manifest(folder)
    drafted = (folder / DRAFT).exists()
    for path in rows:
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / DRAFT, ignore_errors=True)
    return drafted or bool(rows)


class ModelsPlace:
    """The list of trained models: those trained on a version without rows are marked as tainted, and never removed."""

    name = "models"

    def __init__(self, register: Path, datasets: Path, receipt: Callable[[], str]) -> None:
        self._register, self._datasets, self._receipt = register, datasets, receipt

    def erase(self, subject: Subject) -> Touched:
        """Mark what this erasure taints."""
        del subject
        models = read_models(self._register)
        tainted = 0
        for number, model in enumerate(models):
            name, _, folder = model.dataset.partition("@")
            path = self._datasets / name / folder / TOMBSTONE
            if not path.exists() or self._receipt() in model.tainted:
                continue
            if msgspec.json.decode(path.read_bytes(), type=Tombstone).receipt == self._receipt():
                models[number] = msgspec.structs.replace(model, tainted=[*model.tainted, self._receipt()])
                tainted += 1
        if tainted:
            write_models(self._register, models)
        notes = [f"model {model.name}" for model in models if self._receipt() in model.tainted]
        return Touched(place=self.name, removed={"tainted": tainted} if tainted else {}, notes=notes)

    def left(self, subject: Subject) -> int:
        """A model cannot be cleaned: there is nothing left to do."""
        del subject
        return 0


def read_models(register: Path) -> list[TrainedModel]:
    """The models of a workspace, oldest first. Raises DatasetError when their list is damaged."""
    if not register.exists():
        return []
    try:
        return [msgspec.json.decode(line, type=TrainedModel) for line in register.read_bytes().splitlines()]
    except msgspec.MsgspecError as error:
        raise DatasetError(f"{register} is damaged: {error}", hint="Mend or remove the line.") from error


def write_models(register: Path, models: list[TrainedModel]) -> None:
    """Put a list of models in the place of the one there is."""
    write_whole(register, b"".join(msgspec.json.encode(model) + b"\n" for model in models))
