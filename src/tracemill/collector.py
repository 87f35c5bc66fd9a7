"""The collector over the embedded store: what an application imports."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemill.core.errors import SettingError
from tracemill.core.records import Interaction
from tracemill.core.settings import Settings, load_settings
from tracemill.sdk.background import Redact
from tracemill.sdk.client import Client
from tracemill.sdk.collector import Collector
from tracemill.sdk.delivery import Delivery

if TYPE_CHECKING:
    from tracemill.insight.health import Health
    from tracemill.insight.readiness import Readiness
    from tracemill.insight.statistics import Statistics
    from tracemill.store.archiving import ArchiveReport
    from tracemill.workspace import Workspace


class DataCollector(Collector):
    """Captures into the workspace at ``base_path`` and delivers, in the background, into its store.

    Any setting may be given by name; see docs/settings.md. Nothing heavy is imported until there is something to deliver.
    """

    def __init__(self, base_path: str | Path | None = None, **settings: Any) -> None:
        """Raises SettingError for a setting that cannot be used; nothing else."""
        workspace = None if base_path is None else str(base_path)
        self._begin(load_settings({"workspace": workspace, **settings}))

    def _begin(self, settings: Settings) -> None:
        self.settings = settings
        if settings.endpoint:
            from tracemill.sdk.http import check_endpoint

            check_endpoint(settings)
        in_process = settings.redact_in_process and settings.enabled
        if in_process or (settings.enabled and settings.redaction and not settings.endpoint):
            check_redaction(settings)
        redaction = self._open_redaction if in_process else None
        super().__init__(Client(Path(settings.workspace), settings, self._open_delivery, redaction))

    @classmethod
    def disabled(cls) -> DataCollector:
        """A collector that takes everything and keeps nothing, whatever the settings say."""
        collector = cls.__new__(cls)
        collector._begin(Settings(enabled=False))
        return collector

    def _open_delivery(self) -> Delivery:
        # Imported in the background thread, so that `import tracemill` and the first capture stay light.
        if self.settings.endpoint:
            from tracemill.sdk.http import HttpDelivery

            return HttpDelivery(self.settings)
        from tracemill.workspace import Workspace

        return Workspace.open(settings=self.settings).delivery()

    def _open_redaction(self) -> Redact:
        from tracemill.workspace.redacting import Redacting

        opened = Redacting(Path(self.settings.workspace), self.settings).open_in_process()
        assert opened is not None  # the settings ask for it
        return opened()

    def get_training_data(
        self, *, platform: str | None = None, success: bool | None = None, limit: int | None = None
    ) -> list[Interaction]:
        """What was captured and delivered so far, oldest first. Waits for delivery of what this process captured.

        Raises SettingError where it is delivered to a server: it is read there.
        """
        return self.get_training_dataset(platform, success, limit=limit)

    def get_training_dataset(
        self,
        platform: str | None = None,
        success: bool | None = None,
        with_feedback: bool | None = None,
        include_archived: bool = True,
        limit: int | None = None,
    ) -> list[Interaction]:
        """Interactions of the database and the archive, oldest first; see :meth:`tracemill.workspace.Workspace.training_data`.

        Waits for delivery of what this process captured. Raises SettingError where it is delivered to a server.
        """
        with self._own_workspace() as workspace:
            found = workspace.training_data(
                platform=platform,
                success=success,
                with_feedback=with_feedback,
                include_archived=include_archived,
                limit=limit,
            )
            return list(found)

    def export_training_data(
        self, platform: str, *, success_only: bool = True, with_feedback_only: bool = False
    ) -> Iterator[bytes]:
        """A platform's interactions as OpenAI chat JSON lines, as ``GET /api/feedback/export/{platform}`` gives them.

        Noted in the audit log. A dataset version is the better way: it names every record and what became of it. Waits for
        delivery of what this process captured. Raises SettingError where it is delivered to a server.
        """
        self._needs_own_store()

        def lines() -> Iterator[bytes]:
            with self._own_workspace() as workspace:
                chosen: dict[str, Any] = {"success_only": success_only, "with_feedback_only": with_feedback_only}
                workspace.audit("training_data.download", platform, **chosen)
                yield from workspace.openai_rows(platform, **chosen)

        return lines()

    def get_training_readiness(self, platform: str) -> Readiness:
        """Whether a platform's interactions are enough to train on, gate by gate (docs/feedback.md).

        Waits for delivery of what this process captured. Raises SettingError where it is delivered to a server.
        """
        with self._own_workspace() as workspace:
            return workspace.readiness(platform)

    def get_storage_stats(self, platform: str | None = None) -> dict[str, Any]:
        """What is stored where, what it costs, whether it is enough to train on, and what to do next (docs/costs.md).

        Waits for delivery of what this process captured. Raises SettingError where it is delivered to a server.
        """
        with self._own_workspace() as workspace:
            return workspace.storage_statistics(platform)

    def archive_old_data(self, days_old: int | None = None, *, dry_run: bool = False) -> ArchiveReport:
        """Move records older than ``days_old`` days (by default as the settings say) into the archive (docs/archive.md).

        Raises SettingError where records are delivered to a server, or the archive's packages are not installed; StoreError.
        """
        with self._own_workspace() as workspace:
            return workspace.archive(days_old=days_old, dry_run=dry_run)

    def _own_workspace(self) -> Workspace:
        from tracemill.workspace import Workspace

        self._needs_own_store()
        self.deliver(timeout=30)
        return Workspace.open(settings=self.settings)

    def get_statistics(self, *, platform: str | None = None) -> Statistics:
        """Statistics of what was captured and delivered so far (see :mod:`tracemill.insight.statistics`).

        Raises SettingError where it is delivered to a server: it is read there.
        """
        with self._own_workspace() as workspace:
            return workspace.statistics(platform=platform)

    def _needs_own_store(self) -> None:
        if self.settings.endpoint:
            raise SettingError(
                "records go to a server, and this process has none of its own to read",
                hint="Ask the server (GET /v1/records), or run `tracemill stats` beside its store.",
            )

    def health(self) -> Health:
        """Identity, write permission, free space, the state of spool and store, and the collection success rate."""
        from tracemill.workspace import Workspace

        with Workspace.open(settings=self.settings) as workspace:
            return workspace.doctor(verify=False)

    def close(self, timeout: float | None = None) -> None:
        """See :meth:`tracemill.sdk.client.Client.close`. The next :func:`get_data_collector` makes another."""
        global _shared  # noqa: PLW0603 - one a process is what it is for
        with _lock:
            if _shared is self:
                _shared = None
        super().close(timeout)


def check_redaction(settings: Settings) -> None:
    """Raise SettingError where the settings ask for redaction in this process and it cannot be had."""
    from tracemill.privacy.policies import load_policies, need_packages

    if not settings.redaction:  # so redact_in_process is set
        raise SettingError("redact_in_process is set, and redaction is not", hint="Set redaction to a policy's name.")
    need_packages()
    load_policies(settings).find(settings.redaction)


logger = logging.getLogger("tracemill")
_shared: DataCollector | None = None
_lock = threading.Lock()


def get_data_collector() -> DataCollector:
    """The collector of this process, made on first use with the settings of the environment.

    Where those cannot be used, the log says so and the collector keeps nothing: an application does not fail for it
    (under pytest it does, with SettingError).
    """
    global _shared  # noqa: PLW0603 - one a process is what it is for
    collector = _shared
    if collector is None:
        with _lock:
            if _shared is None:
                try:
                    _shared = DataCollector()
                except SettingError as error:
                    if "PYTEST_CURRENT_TEST" in os.environ:
                        raise
                    logger.error("tracemill keeps nothing: %s %s", error.message, error.hint)
                    _shared = DataCollector.disabled()
            collector = _shared
    return collector


def collect_interaction_data(**arguments: Any) -> str:
    """:meth:`DataCollector.collect_interaction_data` of this process's collector."""
    return get_data_collector().collect_interaction_data(**arguments)


def _new_lock() -> None:
    global _lock  # noqa: PLW0603 - a lock held by another thread of the parent would never be released in a child
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_new_lock)
