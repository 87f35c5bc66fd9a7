"""Tool patterns of the workspace's records, and those of a version of the package ``tool_selection``."""

from __future__ import annotations

import msgspec

from tracemill.core.steps import Progress
from tracemill.dataset.files import locked, sync_folder, write_whole
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.standing import PATIENCE
from tracemill.dataset.version import PATTERNS, TOMBSTONE, Version
from tracemill.insight.mining import mine, narrow
from tracemill.store.base import Filter, Store

PACKAGE = "tool_selection"


def add_patterns(store: Store, version: Version, recipe: Recipe, progress: Progress | None = None) -> None:
    """Put the tool patterns of the records a version was built from beside its manifest, where its package has them.

    They are mined from what the recipe's source names, up to the watermark of the build: what its steps dropped is
    counted too, since a failed execution is what success rates are about. A version that has them is left alone.
    """
    place = version.path / PATTERNS
    if recipe.package != PACKAGE or place.exists() or version.tombstone is not None:
        return

    def where(after: int, up_to: int) -> Filter:
        return recipe.source.filter(after=after, up_to=up_to)

    found = mine(store, where, up_to=version.build_record().watermark, progress=progress)
    with locked(version.path.parent, f"adding patterns to {version.reference}", wait=PATIENCE):
        if (version.path / TOMBSTONE).exists() or place.exists():
            return  # erased while they were mined, or mined by another build
        write_whole(place, msgspec.json.format(msgspec.json.encode(narrow(found)), indent=2) + b"\n")
        place.chmod(0o444)
        sync_folder(version.path)
