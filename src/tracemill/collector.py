"""The collector over the embedded store: what an application imports."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemill.core.records import Interaction
from tracemill.core.settings import Settings, load_settings
from tracemill.sdk.client import Client
from tracemill.sdk.collector import Collector
from tracemill.sdk.delivery import Delivery

if TYPE_CHECKING:
    from tracemill.insight.statistics import Statistics


class DataCollector(Collector):
    """Captures into the workspace at ``base_path`` and delivers, in the background, into its store.

    Any setting may be given by name; see docs/settings.md. Nothing heavy is imported until there is something to deliver.
    """

    def __init__(self, base_path: str | Path | None = None, **settings: Any) -> None:
        """Raises SettingError for a setting that cannot be used; nothing else."""
        workspace = None if base_path is None else str(base_path)
        self.settings: Settings = load_settings({"workspace": workspace, **settings})
        super().__init__(Client(Path(self.settings.workspace), self.settings, self._open_delivery))

    def _open_delivery(self) -> Delivery:
        # Imported in the background thread, so that `import tracemill` and the first capture stay light.
        from tracemill.workspace import Workspace

        return Workspace.open(settings=self.settings).delivery()

    def get_training_data(
        self, *, platform: str | None = None, success: bool | None = None, limit: int | None = None
    ) -> list[Interaction]:
        """What was captured and delivered so far, oldest first. Waits for delivery of what this process captured."""
        from tracemill.workspace import Workspace

        self.deliver(timeout=30)
        with Workspace.open(settings=self.settings) as workspace:
            return list(workspace.training_data(platform=platform, success=success, limit=limit))

    def get_statistics(self, *, platform: str | None = None) -> Statistics:
        """Statistics of what was captured and delivered so far (see :mod:`tracemill.insight.statistics`)."""
        from tracemill.workspace import Workspace

        self.deliver(timeout=30)
        with Workspace.open(settings=self.settings) as workspace:
            return workspace.statistics(platform=platform)


_shared: DataCollector | None = None
_lock = threading.Lock()


def get_data_collector() -> DataCollector:
    """The collector of this process, made on first use with the settings of the environment."""
    global _shared  # noqa: PLW0603 - one a process is what it is for
    if _shared is None:
        with _lock:
            if _shared is None:
                _shared = DataCollector()
    return _shared


def collect_interaction_data(**arguments: Any) -> str:
    """:meth:`DataCollector.collect_interaction_data` of this process's collector."""
    return get_data_collector().collect_interaction_data(**arguments)


def _new_lock() -> None:
    global _lock  # noqa: PLW0603 - a lock held by another thread of the parent would never be released in a child
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_new_lock)
