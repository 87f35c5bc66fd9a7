"""Erasure put together: every place of a workspace, in the order in which they have to be cleared."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import msgspec

from tracemill.core.erasure import ErasureRequest, Receipt, SubjectKind
from tracemill.core.errors import DatasetError, ExportError, TracemillError
from tracemill.core.examples import ExportManifest, Tombstone
from tracemill.core.settings import Settings
from tracemill.core.steps import Progress
from tracemill.dataset.build import Built
from tracemill.dataset.erase import EXPORT, MODELS, ExportsPlace, ModelsPlace, VersionsPlace, write_tombstone
from tracemill.dataset.recipe import Recipe, recorded_recipe
from tracemill.dataset.standing import read_standing
from tracemill.dataset.version import TOMBSTONE, Version, current_versions, list_versions
from tracemill.export.places import external_exports
from tracemill.export.source import tokenizer_of
from tracemill.export.write import export_version
from tracemill.feedback.cascade import belongings
from tracemill.privacy.audit import AuditLog
from tracemill.privacy.erase import Eraser, Found
from tracemill.privacy.places import (
    ApiKeysPlace,
    FilesPlace,
    KeysPlace,
    Place,
    RecordsPlace,
    RefusedPlace,
    SpoolPlace,
    WorkPlace,
)
from tracemill.privacy.signing import Signer
from tracemill.store.archived import archive_folder
from tracemill.store.tiered import TieredStore
from tracemill.workspace.judging import JudgePlace


class Builds(Protocol):
    """How the workspace builds a dataset: under what retention and consent allow now."""

    def taken(self, recipe: Recipe) -> Recipe:
        """The recipe as it is built at this moment."""

    def build_dataset(self, recipe: Recipe | None = None, *, progress: Progress | None = None) -> Built:
        """Build a version. Raises TracemillError."""


class Erasing:
    """Erases over one workspace, then builds anew what had to go with it."""

    def __init__(
        self,
        path: Path,
        settings: Settings,
        store: TieredStore,
        log: AuditLog,
        signer: Signer,
        withdrawn: Callable[[Version], Mapping[str, str]],
        link: Callable[[str], str],
        builds: Builds,
    ) -> None:
        self._withdrawn = withdrawn
        self._builds = builds
        self._path, self._settings, self._store = path, settings, store
        self._datasets, self._exports = path / "datasets", path / "exports"
        self._current = ""
        self._one_at_a_time = threading.Lock()  # the places know one receipt, the current one
        self._log = log
        self.eraser = Eraser(store, path, self._places(), self._find, log, signer, link)

    def _places(self) -> list[Place]:
        """Sources before what is made of them, so that nothing is made of them again behind the back of the erasure."""
        path, settings = self._path, self._settings
        collected = settings.user_data_collection
        folders = {
            "rejected imports": path / "rejects",
            "Lightspeed transcripts": Path(collected.transcripts_storage) if collected.transcripts_storage else None,
            "Lightspeed feedback": Path(collected.feedback_storage) if collected.feedback_storage else None,
            "Gepeto files": Path(settings.gepeto_path) if settings.gepeto_path else None,
        }
        take_off = self._store.gateway.veil.take_off
        files = [FilesPlace(name, folder, take_off) for name, folder in folders.items() if folder is not None]
        datasets = self._datasets
        return [
            SpoolPlace(path),
            RefusedPlace(self._store),
            RecordsPlace(self._store),
            ApiKeysPlace(self._store),
            KeysPlace(self._store),  # after the records: their sums are put right by what they say
            *files,
            JudgePlace(path),
            WorkPlace(self._work),
            VersionsPlace(datasets, self._receipt),
            ExportsPlace(self._exports, datasets, lambda: external_exports(path), self._receipt),
            ModelsPlace(path / MODELS, datasets, self._receipt),
        ]

    def _work(self) -> list[Path]:
        folder = archive_folder(self._settings)
        return list(folder.iterdir()) if folder.is_dir() else []

    def _receipt(self) -> str:
        return self._current

    def _find(self, request: ErasureRequest) -> Found:
        if request.id:  # a preview has none
            self._current = request.id
        found = belongings(self._store, request)
        before = set(request.ids)
        return Found(
            ids=sorted(found.records),
            types=dict(
                sorted(Counter(tag for identity, tag in found.records.items() if identity not in before).items())
            ),
            conversations=sorted(found.conversations),
            platforms=sorted(found.platforms),
            people=sorted(found.people),
            within=sorted(found.within),
            others=found.others,
        )

    def erase(
        self,
        kind: SubjectKind,
        value: str,
        *,
        actor: str,
        reason: str,
        raw: frozenset[str],
        progress: Progress | None,
    ) -> Receipt:
        """Erase a subject and rebuild. Raises as :meth:`tracemill.privacy.erase.Eraser.erase`."""
        with self._one_at_a_time:
            receipt = self.eraser.erase(kind, value, actor=actor, reason=reason, raw=raw, progress=progress)
            self.rebuild(progress)
        return receipt

    def go_on(self, progress: Progress | None = None) -> list[Receipt]:
        """Carry out what was cut off, and what a hold no longer defers. Raises what the first that failed did, at the end."""
        receipts: list[Receipt] = []
        failed: TracemillError | OSError | None = None
        with self._one_at_a_time:
            for request in self.eraser.open_requests():
                try:
                    receipts.append(self.eraser.carry_out(request, progress))
                except (TracemillError, OSError) as error:
                    failed = failed or error
            self.rebuild(progress)
        if failed is not None:
            raise failed
        return receipts

    def rebuild(self, progress: Progress | None = None) -> list[str]:
        """Build a new version for the current one of each dataset that lost its rows, and its exports; the references built.

        What waited for approval and lost its rows is not built again: it has to be proposed anew.

        A version that cannot be built again (its recipe names a step that is gone) stays without rows, and the audit log
        says why.
        """
        built: list[str] = []
        versions = list_versions(self._datasets)
        for version, later in pairwise(versions):
            if (
                version.name == later.name and self._replaces(later, version) and not _proposed(later)
            ):  # a kill came before the old one named the new
                self._note_replaced(version, later.reference, progress)
        for version in current_versions(self._datasets):
            stone = version.tombstone
            if stone is None or stone.replaced_by:
                continue
            try:
                recipe = recorded_recipe(version.manifest.recipe, version.manifest.recipe_hash)
                made = self._builds.build_dataset(recipe, progress=progress)
                if _proposed(made.version):
                    raise DatasetError(f"what is left of it is {made.version.reference}, which was not approved")
            except TracemillError as error:
                self._log.record("dataset.not_rebuilt", version.reference, actor="erasure", why=error.message)
                continue
            built.append(made.version.reference)
            self._log.record("dataset.rebuilt", version.reference, actor="erasure", replaced_by=made.version.reference)
            self._note_replaced(version, made.version.reference, progress)
        return built

    def _note_replaced(self, version: Version, reference: str, progress: Progress | None) -> None:
        """Export what was exported of a version from the one built in its place, and have the old one name the new."""
        for folder in sorted(self._exports.glob(f"{version.name}-{version.path.name}-*")):
            if (folder / EXPORT).exists() and (folder / TOMBSTONE).exists():
                self._export_again(folder, version, reference, progress)
        if version.tombstone is not None:
            write_tombstone(version.path, msgspec.structs.replace(version.tombstone, replaced_by=reference))

    def _replaces(self, later: Version, version: Version) -> bool:
        """Whether a version is the one that was built of the same recipe when the one before it had lost its rows."""
        stone = version.tombstone
        if stone is None or stone.replaced_by or later.tombstone is not None:
            return False
        if later.build_record().built < stone.erased:
            return False
        was, made = version.manifest, later.manifest.recipe_hash
        if made == was.recipe_hash:
            return True
        try:
            return made == self._builds.taken(recorded_recipe(was.recipe, was.recipe_hash)).hash()
        except TracemillError:
            return False

    def _export_again(self, folder: Path, before: Version, reference: str, progress: Progress | None) -> None:
        version = next(found for found in list_versions(self._datasets) if found.reference == reference)
        try:
            old = msgspec.json.decode((folder / EXPORT).read_bytes(), type=ExportManifest)
            if (old.dataset, old.version) != (before.name, before.path.name):
                return  # of a dataset whose name begins like this one
            self._export_alike(folder, old, version, progress)
        except msgspec.MsgspecError:
            return  # nobody can say what it was
        except TracemillError:
            return  # nothing of the kind is left to export
        stone = msgspec.json.decode((folder / TOMBSTONE).read_bytes(), type=Tombstone)
        write_tombstone(folder, msgspec.structs.replace(stone, replaced_by=reference))

    def _export_alike(self, folder: Path, old: ExportManifest, version: Version, progress: Progress | None) -> None:
        """Export a version as another one was, with its tokenizer where that is still there. The audit log says where not."""

        def export(tokenizer: Path | None) -> ExportManifest:
            return export_version(
                version,
                old.format,
                container=old.container,
                shard_bytes=old.shard_bytes,
                fold=old.fold,
                columns=old.columns,
                tokenizer=tokenizer,
                max_tokens=old.tokens.max_tokens if old.tokens is not None and tokenizer is not None else None,
                progress=progress,
                withdrawn=self._withdrawn(version),
            ).manifest

        def note(why: str) -> None:
            self._log.record("export.tokens", version.reference, actor="erasure", export=folder.name, why=why)

        if old.tokens is None:
            export(None)
            return
        tokenizer, why = tokenizer_of(folder), "not counted: it was not noted where the tokenizer lies"
        if tokenizer is not None:
            try:
                made = export(tokenizer).tokens
            except ExportError:
                why = "not counted: the tokenizer is gone or cannot be read any more"
            else:
                if made is not None and made.tokenizer_sha256 != old.tokens.tokenizer_sha256:
                    note("counted with a tokenizer that is not as it was")
                return
        export(None)
        note(why)


def _proposed(version: Version) -> bool:
    """Whether a version waits for approval, or was refused."""
    return read_standing(version.path.parent).is_proposed(version.path.name)


def person_hash(value: str) -> str:
    """How a person stands in the audit log: by the hash a receipt has too."""
    return hashlib.sha256(f"user:{value}".encode()).hexdigest()
