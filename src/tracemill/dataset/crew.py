"""Who works on a build: this process alone, processes of this machine, or a Ray cluster, as the settings say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec

import msgspec

from tracemill.core.errors import DatasetError, SettingError
from tracemill.core.settings import Settings
from tracemill.dataset.processes import Processes, sendable
from tracemill.dataset.site import Alone, Crew, Plan, Site
from tracemill.store.hot import HotStore


@contextmanager
def at_work(site: Site, settings: Settings | None, shards: int, lock: int) -> Iterator[Crew]:
    """The crew of one build while inside. ``shards`` are still to be read, ``lock`` is the folder's.

    This process works alone where it was given no settings, where there is only one shard to read, where the store is not
    one that others can open, and where a step of the recipe is known to this process only. With ``engine: ray`` the last is an
    error. Raises SettingError and DatasetError.
    """
    store = site.store
    if settings is None or not isinstance(store, HotStore) or ":memory:" in store.url:
        yield Alone(site)
        return
    opened = msgspec.structs.replace(settings, database=store.url)
    plan = Plan(site.work.resolve(), site.recipe, site.watermark, opened, site.redactor)
    if settings.engine == "ray":
        with _cluster(plan) as cluster:
            yield cluster
        return
    workers = min(settings.workers or cores(), shards)
    if workers < 2 or not sendable(plan):
        yield Alone(site)
        return
    with Processes(plan, workers, hold=(lock,)) as crew:
        yield crew


def _cluster(plan: Plan) -> AbstractContextManager[Crew]:
    """A crew on a Ray cluster. Raises SettingError without Ray, DatasetError for a recipe that cannot be sent."""
    if find_spec("ray") is None:
        raise SettingError(
            "engine: ray needs Ray, which is not installed", hint="Install it with: pip install 'tracemill[scale]'"
        )
    if not sendable(plan):
        raise DatasetError(
            "a step of the recipe is known to this process only",
            hint="Define it in a module that every machine of the cluster can import.",
        )
    from tracemill.dataset.cluster import Cluster  # noqa: PLC0415 - needs Ray

    return Cluster(plan, plan.settings.ray_address, plan.settings.workers)


def cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
