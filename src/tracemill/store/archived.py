"""A hot store that knows its archive: the catalogue, and the objects it names. What reads and rewrites them builds on it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tracemill.core.archive import ArchivedFile, ArchiveStatus
from tracemill.core.errors import SettingError
from tracemill.core.settings import Settings
from tracemill.store.cold import catalogue
from tracemill.store.cold.objects import Objects
from tracemill.store.engine import reading
from tracemill.store.hot import HotStore

if TYPE_CHECKING:
    from tracemill.store.cold.cold import ColdStore


class ArchivedStore(HotStore):
    """The database and its archive, each read by itself; :class:`tracemill.store.tiered.TieredStore` reads them as one."""

    def __init__(self, url: str, settings: Settings) -> None:
        """Open the database, making or migrating its tables. Raises StoreError when that cannot be done."""
        super().__init__(url, settings)
        self.objects = Objects(settings)
        self._opened: ColdStore | None = None
        self._known: tuple[int, tuple[ArchivedFile, ...]] = (-1, ())
        self._knowing, self._loading = threading.Lock(), threading.Lock()

    def archived_files(self, statuses: Sequence[ArchiveStatus] = ("live",)) -> list[ArchivedFile]:
        """The live objects of the archive, in the order of the first record each holds; or those of other statuses."""
        with reading(self._engine) as connection:
            return catalogue.entries(connection, statuses)

    @property
    def _files(self) -> tuple[ArchivedFile, ...]:
        """The live objects of the newest catalogue that any thread has read."""
        return self._known[1]

    def _refresh(self) -> int:
        """Have the catalogue at hand, never an older one than another thread has; the version that is committed now."""
        with reading(self._engine) as connection:
            version = catalogue.version(connection)
            if version > self._known[0]:
                files = tuple(catalogue.entries(connection))
                with self._knowing:
                    if version > self._known[0]:
                        self._known = version, files
        return version

    @property
    def cold(self) -> ColdStore:
        """The archive as of the catalogue that was read last."""
        with self._loading:
            if self._opened is None:
                need_archive_packages()
                from tracemill.store.cold.cold import ColdStore  # noqa: PLC0415 - heavy, and an optional part

                self._opened = ColdStore(self.objects, self.settings.cold_cache_bytes, self.sealer)
            version, files = self._known
            if self._opened.version != version:
                self._opened.load(files, version)
            return self._opened


def need_archive_packages() -> None:
    """Raise SettingError when what writes and reads the archive is not installed."""
    missing = [name for name in ("numpy", "obstore", "pyarrow") if find_spec(name) is None]
    if missing:
        raise SettingError(
            f"the archive needs packages that are not installed: {', '.join(missing)}",
            hint="Install them with: pip install 'tracemill[archive]'",
        )


def archive_folder(settings: Settings) -> Path:
    """Where objects are sealed before they are uploaded."""
    return Path(settings.workspace) / "archiving"
