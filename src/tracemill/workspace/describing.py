"""How the versions of a workspace stand and what each changed, computed when it is asked for."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec

from tracemill.core.errors import DatasetError
from tracemill.core.steps import Progress
from tracemill.dataset.diff import Changes
from tracemill.dataset.standing import current_folder, read_standing
from tracemill.dataset.version import Version

if TYPE_CHECKING:
    from tracemill.workspace import Workspace


def states(versions: list[Version]) -> list[tuple[Version, dict[str, Any]]]:
    """Versions, by name and number, each with how it stands: ``current``, ``proposal``, ``tombstone``, and in ``words``.

    All versions of a name must be there.
    """
    found = []
    for _, group in groupby(versions, key=lambda version: version.name):
        of_name = list(group)
        folder = of_name[0].path.parent
        standing = read_standing(folder)
        current = current_folder(folder, [version.path.name for version in of_name])
        for version in of_name:
            proposal, stone = standing.proposals.get(version.path.name), version.tombstone
            words = ["current"] if version.path.name == current else []
            if proposal is not None:
                waits = proposal.status == "waiting"
                words.append("waiting for approval" if waits else f"{proposal.status} by {proposal.decided_by}")
            if stone is not None:
                words.append(f"rows erased, see {stone.replaced_by}" if stone.replaced_by else "rows erased")
            plain = {
                "current": version.path.name == current,
                "proposal": None if proposal is None else msgspec.to_builtins(proposal),
                "tombstone": None if stone is None else msgspec.to_builtins(stone),
                "words": words,
            }
            found.append((version, plain))
    return found


def state(version: Version, versions: list[Version]) -> dict[str, Any]:
    """How one version stands among all of its name."""
    return next(plain for found, plain in states(versions) if found.path == version.path)


def version_history(workspace: Workspace, name: str, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Every version of a dataset, oldest first, with when it was built and what changed since the one before it.

    Counts of rows are None where the rows of one of the two were erased. Raises DatasetError when a version is damaged.
    """
    entries: list[dict[str, Any]] = []
    before: Version | None = None
    for version, standing in states(workspace.datasets(name)):
        changes = None if before is None else workspace.proposing.compare(before, version, progress=progress)
        entries.append(
            {
                "reference": version.reference,
                "built": _built(version),
                "records_read": version.manifest.records_read,
                "rows": version.count(),
                **_counts(changes),
                "state": standing["words"],
            }
        )
        before = version
    return entries


def _built(version: Version) -> str | None:
    try:
        return version.build_record().built.isoformat(timespec="seconds")
    except DatasetError:
        return None


def _counts(changes: Changes | None) -> dict[str, Any]:
    if changes is None:
        return {"added": None, "dropped": None, "moved": None, "dropped_why": {}, "recipe": []}
    whole = list(changes.examples.values()) if changes.compared else None
    recipe = changes.recipe
    return {
        "added": None if whole is None else sum(each.added for each in whole),
        "dropped": None if whole is None else sum(each.dropped for each in whole),
        "moved": None if whole is None else sum(each.moved for each in whole),
        "dropped_why": changes.dropped,
        "recipe": sorted([*recipe.added, *recipe.removed, *recipe.modified]),
    }
