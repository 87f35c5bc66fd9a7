"""Which version is the current one: proposals with gates, approval, refusal, rollback. Each leaves an audit entry.

A decision is made under the lock of the dataset, of what is the case at that moment: of two people who approve at once, one
is told that it was decided already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tracemill.core.errors import ProposalError
from tracemill.core.ids import now
from tracemill.core.settings import Settings
from tracemill.core.steps import Progress
from tracemill.dataset.build import build
from tracemill.dataset.diff import Changes, OnRow, compare
from tracemill.dataset.gates import check_certificate, check_lost, check_rows, check_version
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.redaction import Redacts
from tracemill.dataset.standing import Gate, Gates, Proposal, Standing, change_standing, current_folder, read_standing
from tracemill.dataset.version import TOMBSTONE, Version, find_version, open_version, version_folders
from tracemill.export.readable import check_export, usual_formats
from tracemill.privacy.signing import Signer
from tracemill.store.base import Store

VERIFY = "verify"


class Audit(Protocol):
    """Notes something privileged."""

    def __call__(self, action: str, target: str = "", *, actor: str = "", **detail: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Proposed:
    """A proposal with its version, and what would change; ``changes`` is None where there is no current version."""

    version: Version
    proposal: Proposal
    changes: Changes | None


class Proposing:
    """Decisions about the versions of one workspace."""

    def __init__(
        self, store: Store, root: Path, audit: Audit, signer: Signer, settings: Settings | None = None
    ) -> None:
        self._store, self._root, self._audit, self._signer = store, root, audit, signer
        self._settings = settings

    def propose(
        self, recipe: Recipe, *, actor: str, redactor: Redacts | None = None, progress: Progress | None = None
    ) -> Proposed:
        """Build a version that waits for approval, and check its gates.

        A version of the same records and recipe that is there already is proposed again, be it one that was refused. Raises
        ProposalError when it is the current one, and as :func:`tracemill.dataset.build.build`.
        """
        built = build(
            self._store,
            recipe,
            self._root,
            redactor=redactor,
            proposed_by=actor,
            settings=self._settings,
            progress=progress,
        )
        version = built.version
        if not built.new:

            def wait(standing: Standing) -> Standing:
                current = self._current(version.path.parent) or ""
                if current == version.path.name:
                    raise ProposalError(
                        f"{version.reference} is the current version already, of the same records and recipe",
                        hint="There is nothing to propose until new records come in or the recipe changes.",
                    )
                proposal = Proposal(status="waiting", actor=actor, proposed=now(), wanted=recipe.gates, base=current)
                return _with(standing, version, proposal)

            self._change(version, wait)
        base = self._base(version)
        gates, changes = self._checked(version, base, recipe.gates, progress)
        standing = self._change(version, lambda standing: _with_gates(standing, version, gates))
        proposal = standing.proposals[version.path.name]
        failed = [gate.name for gate in gates if not gate.passed]
        self._audit("dataset.propose", version.reference, actor=actor, base=proposal.base, failed_gates=failed)
        return Proposed(version, proposal, changes)

    def approve(
        self,
        reference: str,
        *,
        actor: str,
        reason: str = "",
        override: bool = False,
        progress: Progress | None = None,
    ) -> Proposed:
        """Make a waiting version the current one, after its gates were checked again.

        With ``override`` and a reason also where a gate does not hold, but never one that is damaged. Raises ProposalError
        when it does not wait, was erased, or a gate fails.
        """
        version = self._waiting(reference)
        if override and not reason.strip():
            raise ProposalError("an approval against a gate needs a reason", hint="Say why with --reason.")
        base = self._base(version)
        wanted = read_standing(version.path.parent).proposals[version.path.name].wanted
        found, changes = self._checked(version, base, wanted, progress)
        failed = [gate for gate in found if not gate.passed]
        if failed and (not override or any(gate.name == VERIFY for gate in failed)):
            self._change(version, lambda standing: _with_gates(standing, version, found))
            self._audit("dataset.approve.failed", version.reference, actor=actor, gates=[gate.name for gate in failed])
            raise ProposalError(
                f"{version.reference} does not pass: " + "; ".join(f"{gate.name}: {gate.detail}" for gate in failed),
                hint="Refuse it, or approve it with --override and --reason; a damaged version cannot be overridden.",
            )
        expected = base.path.name if base is not None else ""

        def decide(standing: Standing) -> Standing:
            waiting = _still_waiting(standing, version)
            if (self._current(version.path.parent) or "") != expected:
                raise ProposalError(
                    f"another version of {version.name} became the current one meanwhile",
                    hint="Look at it, and try again.",
                )
            decided = msgspec.structs.replace(
                waiting,
                status="approved",
                gates=found,
                base=expected,
                decided=now(),
                decided_by=actor,
                reason=reason,
                overridden=bool(failed),
            )
            return msgspec.structs.replace(_with(standing, version, decided), current=version.path.name, before="")

        standing = self._change(version, decide)
        proposal = standing.proposals[version.path.name]
        self._audit(
            *("dataset.approve", version.reference),
            actor=actor,
            before=expected,
            reason=reason,
            overridden=[gate.name for gate in failed],
        )
        return Proposed(version, proposal, changes)

    def refuse(self, reference: str, *, actor: str, reason: str) -> Proposed:
        """Refuse a waiting version: it stays, and is never current. Raises ProposalError when it does not wait."""
        version = self._waiting(reference)
        if not reason.strip():
            raise ProposalError("a refusal needs a reason", hint="Say why with --reason.")

        def decide(standing: Standing) -> Standing:
            waiting = _still_waiting(standing, version)
            decided = msgspec.structs.replace(waiting, status="refused", decided=now(), decided_by=actor, reason=reason)
            return _with(standing, version, decided)

        standing = self._change(version, decide)
        self._audit("dataset.refuse", version.reference, actor=actor, reason=reason)
        return Proposed(version, standing.proposals[version.path.name], None)

    def rollback(self, name: str, to: str, *, actor: str, reason: str = "") -> Version:
        """Make another version the current one: an older one, or a newer one that was rolled back from.

        No version changes or goes, and exports and models keep theirs. Raises DatasetError for one that is not there and
        ProposalError for one that was erased, is damaged, waits or was refused, or is the current one.
        """
        number = to.removeprefix("v")
        version = find_version(self._root, f"{name}@v{number}")
        if problems := version.verify() if version.tombstone is None else []:
            raise ProposalError(f"{version.reference} is damaged: {problems[0]}", hint="Choose another version.")
        before = self._current(version.path.parent) or ""

        def decide(standing: Standing) -> Standing:
            nonlocal before
            _not_erased(version)
            before = self._current(version.path.parent) or ""
            if before == version.path.name:
                raise ProposalError(f"{version.reference} is the current version already")
            if standing.is_proposed(version.path.name):
                status = standing.proposals[version.path.name].status
                hint = "`tracemill dataset approve` makes it current." if status == "waiting" else "Propose it again."
                raise ProposalError(f"{version.reference} was never approved ({status})", hint=hint)
            return msgspec.structs.replace(standing, current=version.path.name, before="")

        self._change(version, decide)
        self._audit("dataset.rollback", version.reference, actor=actor, before=before, reason=reason)
        return version

    def compare(
        self, before: Version, after: Version, *, on_row: OnRow | None = None, progress: Progress | None = None
    ) -> Changes:
        """What changed between two versions; records that the store has no more were erased."""
        return compare(before, after, known=self._known, on_row=on_row, progress=progress)

    # -- parts

    def _known(self, ids: Sequence[str]) -> set[str]:
        return self._store.known(ids)

    def _change(self, version: Version, change: Callable[[Standing], Standing]) -> Standing:
        return change_standing(version.path.parent, f"deciding on {version.reference}", change)

    def _current(self, folder: Path) -> str | None:
        return current_folder(folder, [path.name for path in version_folders(folder)])

    def _base(self, version: Version) -> Version | None:
        """The current version, if it is another one."""
        current = self._current(version.path.parent)
        return None if current in (None, version.path.name) else open_version(version.path.parent / str(current))

    def _waiting(self, reference: str) -> Version:
        if "@" not in reference:
            raise ProposalError(f"{reference!r} names no one version", hint="Write name@v3.")
        version = find_version(self._root, reference)
        _still_waiting(read_standing(version.path.parent), version)
        return version

    def _checked(
        self, version: Version, base: Version | None, wanted: Gates, progress: Progress | None
    ) -> tuple[list[Gate], Changes | None]:
        """Every gate of a version, and what would change. Of a damaged one the rest is not looked at."""
        whole = check_version(version)
        if not whole.passed:
            return [whole], None
        changes = None if base is None else self.compare(base, version, progress=progress)
        formats = wanted.formats or usual_formats(version)
        gates = [whole, *check_rows(version, wanted), check_lost(changes, wanted)]
        gates.append(check_certificate(version, self._signer))
        gates.extend(check_export(version, name, wanted.maximum_refused) for name in formats)
        return gates, changes


def _with(standing: Standing, version: Version, proposal: Proposal) -> Standing:
    return msgspec.structs.replace(standing, proposals={**standing.proposals, version.path.name: proposal})


def _with_gates(standing: Standing, version: Version, gates: list[Gate]) -> Standing:
    """The gates of a proposal that still waits; what was decided meanwhile stays as it was decided."""
    proposal = standing.proposals.get(version.path.name)
    if proposal is None or proposal.status != "waiting":
        return standing
    return _with(standing, version, msgspec.structs.replace(proposal, gates=gates))


def _still_waiting(standing: Standing, version: Version) -> Proposal:
    """The proposal of a version that waits. Raises ProposalError for any other."""
    _not_erased(version)
    proposal = standing.proposals.get(version.path.name)
    if proposal is None:
        raise ProposalError(
            f"{version.reference} was never proposed", hint="`tracemill dataset list` shows what waits."
        )
    if proposal.status != "waiting":
        raise ProposalError(f"{version.reference} was {proposal.status} already, by {proposal.decided_by}")
    return proposal


def _not_erased(version: Version) -> None:
    if (version.path / TOMBSTONE).exists():
        raise ProposalError(
            f"{version.reference} has no rows any more: records it was made of were erased",
            hint="Build or propose the dataset again.",
        )
