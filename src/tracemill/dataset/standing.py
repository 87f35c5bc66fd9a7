"""Which version of a dataset is the current one, and which wait for somebody to approve them.

Versions never change, so this stands beside them: ``standing.json`` in the folder of the dataset, written under its lock.
``name@v3`` means that version whatever stands there; ``name`` alone means the current one. A build makes its new version the
current one; a proposal does so when it is approved, and a rollback puts an older one back.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from tracemill.core.errors import DatasetError, RecipeError
from tracemill.dataset.files import locked, write_whole

STANDING = "standing.json"
PATIENCE = 30.0
"""Seconds to wait for a build of the same dataset before a decision is given up."""
Status: TypeAlias = Literal["waiting", "approved", "refused"]


class Gate(Struct, frozen=True, kw_only=True):
    """One thing that was checked of a proposal: its name, whether it holds, and a sentence with what was measured."""

    name: str
    passed: bool
    detail: str = ""


class Gates(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Thresholds, as a recipe's ``gates`` states them. They decide about a version and are no part of what it is.

    ``minimum_rows`` and ``minimum_rows_of`` (by split) are counts; ``maximum_lost`` is the share of the current version's rows
    that the new one may lack (0 to 1); ``formats`` are exports that must be readable, by default one for each type of row;
    ``maximum_refused`` is the share of rows that such an export may refuse (0 to 1). Raises RecipeError.
    """

    minimum_rows: int = 1
    minimum_rows_of: dict[str, int] = {}
    maximum_lost: float = 0.2
    formats: tuple[str, ...] = ()
    maximum_refused: float = 0.05

    def __post_init__(self) -> None:
        for name in ("maximum_lost", "maximum_refused"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"gates.{name}: a share is between 0 and 1, not {getattr(self, name):g}")


class Proposal(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version that waits for approval, or that was decided on.

    ``wanted`` are the thresholds it was proposed with, ``gates`` what came of them when they were last checked.
    ``base`` is the version that was current when it was proposed; empty for the first. ``overridden`` says that it was approved
    though a gate did not hold.
    """

    status: Status
    actor: str
    proposed: datetime
    wanted: Gates = Gates()
    gates: list[Gate] = []
    base: str = ""
    decided: datetime | None = None
    decided_by: str = ""
    reason: str = ""
    overridden: bool = False

    @property
    def passed(self) -> bool:
        """Whether every gate held."""
        return all(gate.passed for gate in self.gates)


class Standing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``current`` is the folder of the current version (``v3``), empty where none was ever chosen: then it is the newest.

    A build notes its version before anybody can see it; until then ``before`` is still the current one.
    """

    current: str = ""
    before: str = ""
    proposals: dict[str, Proposal] = {}

    def is_proposed(self, folder: str) -> bool:
        """Whether a version waits, or was refused: it is not current of itself."""
        found = self.proposals.get(folder)
        return found is not None and found.status != "approved"


def read_standing(folder: Path) -> Standing:
    """The standing of a dataset. Raises DatasetError when the file is damaged."""
    path = folder / STANDING
    try:
        return msgspec.json.decode(path.read_bytes(), type=Standing)
    except FileNotFoundError:
        return Standing()
    except (OSError, msgspec.MsgspecError) as error:
        raise DatasetError(
            f"{path} cannot be read: {error}", hint="Mend it, or remove it to make the newest version the current one."
        ) from error


def write_standing(folder: Path, standing: Standing) -> None:
    """Put a standing in the place of the one there is. The caller holds the folder's lock."""
    write_whole(folder / STANDING, msgspec.json.format(msgspec.json.encode(standing), indent=2) + b"\n")


def change_standing(folder: Path, work: str, change: Callable[[Standing], Standing]) -> Standing:
    """Read, change and write a standing while nobody else can.

    ``change`` may raise to leave everything as it is. Raises DatasetError when a build holds the lock for too long.
    """
    if not folder.is_dir():
        raise DatasetError(f"there is no dataset {folder.name!r}")
    with locked(folder, work, wait=PATIENCE):
        changed = change(read_standing(folder))
        write_standing(folder, changed)
    return changed


def current_folder(folder: Path, versions: list[str]) -> str | None:
    """The folder of the current version among those there are, oldest first; None where there is none.

    It is the one that was chosen last, or while that is not there yet the one before it; without a choice, or when what was
    chosen is not there any more, the newest that is no proposal.
    """
    standing = read_standing(folder)
    for chosen in (standing.current, standing.before):
        if chosen in versions:
            return chosen
    return next((name for name in reversed(versions) if not standing.is_proposed(name)), None)
