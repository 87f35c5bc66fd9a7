"""A whole run of the archiver as the settings ask for it: what is old enough, moved, merged, and reported."""

from __future__ import annotations

from collections.abc import Sequence

from tracemill.core.ids import days_ago, microseconds
from tracemill.core.steps import Progress
from tracemill.store.archived import archive_folder, need_archive_packages
from tracemill.store.archiving import Archiver, ArchiveReport, Group, PlatformArchived
from tracemill.store.tiered import TieredStore


def archiver_of(store: TieredStore) -> Archiver:
    """The archiver of a store."""
    return Archiver(store, store.objects, archive_folder(store.settings))


def old_enough(store: TieredStore, days_old: int | None = None, platforms: Sequence[str] = ()) -> list[Group]:
    """What may leave the database: older than ``days_old``, or than the settings say of each platform."""
    settings = store.settings

    def cutoff(days: int) -> int:
        return microseconds(days_ago(days))

    default = settings.data_retention_days
    own = {name: rule.hot_days for name, rule in settings.retention.items() if rule.hot_days is not None}
    default = own.pop("*", default)
    if days_old is not None:
        own, default = {}, days_old
    groups = archiver_of(store).plan({name: cutoff(days) for name, days in own.items()}, cutoff(default))
    return [group for group in groups if not platforms or group.platform in platforms]


def run_archive(
    store: TieredStore,
    *,
    days_old: int | None = None,
    platforms: Sequence[str] = (),
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ArchiveReport:
    """Move what is old enough into the archive, and merge small objects. Raises StoreError.

    ``dry_run`` only counts. Stopped at any moment, what is archived stays archived and the rest stays where it is.
    """
    report = ArchiveReport(dry_run, str(store.objects.place))
    groups = old_enough(store, days_old, platforms)
    if dry_run:
        for group in groups:
            own = report.platforms.setdefault(group.platform, PlatformArchived())
            own.records += group.records
            own.raw_bytes += group.raw_bytes
            own.hot_bytes += group.hot_bytes
        return report
    if not groups and not store.archived_files(("pending", "live", "retired")):
        return report
    need_archive_packages()
    archiver = archiver_of(store)
    try:
        archiver.run(groups, report, progress)
        if report.objects:
            report.merged = compact(store, progress)
    finally:
        if report.objects:
            store.shrink()
    return report


def compact(store: TieredStore, progress: Progress | None = None) -> int:
    """Merge small objects; returns how many became part of a larger one. Raises StoreError."""
    from tracemill.store.resealing import merge_small  # noqa: PLC0415 - heavy, and an optional part

    return merge_small(store, archiver_of(store), progress)
