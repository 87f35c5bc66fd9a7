"""The workspace: every verb of tracemill, in the order data takes. Commands and servers are thin faces over it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from tracemill.capture.gepeto import GepetoSink, write_tree
from tracemill.capture.importers import ImportContext, ImportReport, import_paths
from tracemill.core.codec import decode
from tracemill.core.errors import DatasetError, DeliveryError, SettingError, StoreError
from tracemill.core.pseudonym import load_pseudonymizer
from tracemill.core.records import AnyRecord, Interaction
from tracemill.core.settings import Settings, load_settings
from tracemill.core.steps import Progress
from tracemill.dataset.build import Built, build
from tracemill.dataset.recipe import Recipe, default_recipe
from tracemill.dataset.version import Version, find_version, list_versions
from tracemill.export.lines import openai_line
from tracemill.export.write import ExportReport, export_version
from tracemill.feedback.attach import attach
from tracemill.feedback.cascade import erase_interaction
from tracemill.insight.health import Health, examine
from tracemill.insight.readiness import Readiness, readiness
from tracemill.insight.report import write_html
from tracemill.insight.statistics import Statistics, collect_statistics
from tracemill.insight.storage import storage_statistics
from tracemill.sdk.delivery import Delivered, Delivery
from tracemill.sdk.http import HttpDelivery
from tracemill.sdk.spool import Drained, drain
from tracemill.store.base import Filter, QuarantinedItem
from tracemill.store.tiered import TieredStore, open_store


class StoreDelivery:
    """Delivers what the SDK spooled into the store of the same workspace, and as Gepeto files where that is asked for."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        folder = workspace.settings.gepeto_path
        self._gepeto = GepetoSink(Path(folder)) if folder else None

    def deliver(self, items: Sequence[bytes]) -> Delivered:
        """See :class:`tracemill.sdk.delivery.Delivery`. What the store refuses is in its quarantine."""
        try:
            result = self._workspace.store.append_encoded(items)
        except StoreError as error:
            raise DeliveryError(error.message, hint=error.hint) from error
        if self._gepeto is not None:
            refused = {refusal.index for refusal in result.refused}
            self._gepeto.write([decode(item) for index, item in enumerate(items) if index not in refused])
        return Delivered(result.stored + result.duplicates, len(result.refused))

    def close(self) -> None:
        """Close the workspace."""
        self._workspace.close()


class Workspace:
    """One folder: spool, store, keys, datasets, exports. Use as a context manager, or close it."""

    def __init__(self, path: Path, settings: Settings, store: TieredStore) -> None:
        self.path = path
        self.settings = settings
        self.store = store

    @classmethod
    def open(cls, path: Path | str | None = None, *, settings: Settings | None = None) -> Workspace:
        """Open a workspace, making its folder and the tables of its store where there are none.

        Raises SettingError when the folder cannot be made, StoreError when the database cannot be opened.
        """
        if settings is None:
            settings = load_settings({"workspace": None if path is None else str(path)})
        elif path is not None:
            settings = msgspec.structs.replace(settings, workspace=str(path))
        folder = Path(settings.workspace)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingError(
                f"the workspace {folder} cannot be made: {error}", hint="Choose another with --workspace."
            ) from error
        return cls(folder, settings, open_store(settings))

    def close(self) -> None:
        """Release the store."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- in

    def delivery(self) -> StoreDelivery:
        """What the SDK's background thread delivers through."""
        return StoreDelivery(self)

    def drain(self, *, progress: Progress | None = None) -> Drained:
        """Deliver what finished or killed processes left in the spool, to the endpoint where one is set."""
        batch = self.settings.delivery_batch_records
        delivery: Delivery = HttpDelivery(self.settings) if self.settings.endpoint else self.delivery()
        return drain(self.path, delivery, batch_records=batch, progress=progress)

    def import_files(
        self,
        format: str,  # noqa: A002 - the word for it everywhere else
        paths: Sequence[Path],
        *,
        platform: str | None = None,
        model: str | None = None,
        expand: bool = False,
        rejects: Path | None = None,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Import files of a format; see :mod:`tracemill.capture.importers`. Rejected entries go to ``rejects``."""
        pseudonymizer = load_pseudonymizer(self.path, keep_raw=self.settings.keep_raw_user_ids)
        context = ImportContext(platform=platform, model=model, expand=expand, pseudonymize=pseudonymizer.user)
        reject_file = rejects if rejects is not None else self.path / "rejects" / f"{format}.jsonl"
        return import_paths(self.store, format, paths, context=context, rejects=reject_file, progress=progress)

    # -- what is there

    def records(self, where: Filter | None = None, *, limit: int | None = None) -> Iterator[AnyRecord]:
        """Records that pass a filter, in the order of storing."""
        for number, record in enumerate(self.store.scan(where)):
            if limit is not None and number >= limit:
                return
            yield record

    def training_data(
        self,
        *,
        platform: str | None = None,
        success: bool | None = None,
        with_feedback: bool | None = None,
        limit: int | None = None,
    ) -> Iterator[Interaction]:
        """Interactions, oldest first; ``with_feedback`` keeps those that have some (True) or none (False)."""
        attached = attach(self.store) if with_feedback is not None else None
        platforms = () if platform is None else (platform,)
        given = 0
        for record in self.store.scan(Filter(types=("interaction",), platforms=platforms, success=success)):
            if limit is not None and given >= limit:
                return
            if attached is not None and bool(attached.of(record.id)) is not with_feedback:
                continue
            if isinstance(record, Interaction):
                given += 1
                yield record

    def statistics(
        self,
        *,
        platform: str | None = None,
        bodies: bool = True,
        newest: int | None = None,
        progress: Progress | None = None,
    ) -> Statistics:
        """See :func:`tracemill.insight.statistics.collect_statistics`."""
        return collect_statistics(self.store, platform=platform, bodies=bodies, newest=newest, progress=progress)

    def readiness(self, platform: str) -> Readiness:
        """Whether a platform's records are enough to train on; see :mod:`tracemill.insight.readiness`."""
        return readiness(self.store, platform)

    def storage_statistics(self, platform: str | None = None) -> dict[str, Any]:
        """What is stored, what it costs, and what to do next; see :mod:`tracemill.insight.storage`."""
        return storage_statistics(self.store, platform=platform)

    def write_report(self, path: Path, *, platform: str | None = None) -> Statistics:
        """Write the report as one HTML file, and give the statistics it shows."""
        statistics = self.statistics(platform=platform)
        write_html(statistics, path)
        return statistics

    def doctor(self, *, verify: bool = True) -> Health:
        """See :mod:`tracemill.insight.health`."""
        return examine(self.path, self.store, verify=verify)

    def quarantined(self, limit: int = 100) -> list[QuarantinedItem]:
        """The newest refused items."""
        return self.store.quarantined(limit)

    # -- out

    @property
    def dataset_root(self) -> Path:
        """The folder of all dataset versions."""
        return self.path / "datasets"

    def build_dataset(self, recipe: Recipe | None = None, *, progress: Progress | None = None) -> Built:
        """Build a version of a dataset, or give the one there already is of the same records and recipe."""
        return build(self.store, recipe or default_recipe(), self.dataset_root, progress=progress)

    def datasets(self, name: str | None = None) -> list[Version]:
        """Every dataset version, or those of one name."""
        return list_versions(self.dataset_root, name)

    def dataset(self, reference: str) -> Version:
        """The version of ``name@v3``, or the newest of ``name``. Raises DatasetError when there is none."""
        if not reference:
            raise DatasetError("no dataset is named", hint="Give a name, or name@v1.")
        return find_version(self.dataset_root, reference)

    def export(
        self,
        reference: str,
        format: str,  # noqa: A002 - the word for it everywhere else
        to: Path | None = None,
        *,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write a dataset version in a trainer's format."""
        return export_version(self.dataset(reference), format, to, progress=progress)

    def openai_rows(
        self, platform: str, *, success_only: bool = True, with_feedback_only: bool = False
    ) -> Iterator[bytes]:
        """OpenAI chat rows of a platform's interactions, a line each, in the order of storing.

        What has no answer, or does not fit the format, is left out. A dataset version is the better way: it names every
        record and what became of it.
        """
        kept = self.training_data(
            platform=platform,
            success=True if success_only else None,
            with_feedback=True if with_feedback_only else None,
        )
        return (line for interaction in kept if (line := openai_line(interaction)) is not None)

    def erase_interaction(self, interaction_id: str) -> dict[str, int]:
        """Remove an interaction with its steps, decisions, validations, feedback and the calls inside it.

        Returns how many records of each type went.
        """
        return erase_interaction(self.store, interaction_id)

    def write_gepeto(self, to: Path, *, platform: str | None = None) -> int:
        """Write the records as a Gepeto tree of JSON files; returns how many."""
        platforms = () if platform is None else (platform,)
        return write_tree(self.store.scan(Filter(platforms=platforms)), to)
