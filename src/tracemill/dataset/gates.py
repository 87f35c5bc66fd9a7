"""Gates: what has to hold of a proposed version before it may become the current one without an explanation."""

from __future__ import annotations

from collections.abc import Iterator

from tracemill.core.errors import DatasetError
from tracemill.dataset.certified import binding_problems, read_certificate
from tracemill.dataset.diff import Changes
from tracemill.dataset.standing import Gate, Gates
from tracemill.dataset.version import Version
from tracemill.privacy.signing import Signer


def check_version(version: Version) -> Gate:
    """Whether the version is as it was built."""
    problems = version.verify()
    return Gate(name="verify", passed=not problems, detail=problems[0] if problems else "every file is as it was built")


def check_rows(version: Version, gates: Gates) -> Iterator[Gate]:
    """Whether there are enough rows, of all splits and of those that are named."""
    wanted = {"": gates.minimum_rows, **gates.minimum_rows_of}
    for split, least in wanted.items():
        rows = version.count(split or None)
        name = f"rows.{split}" if split else "rows"
        yield Gate(name=name, passed=rows >= least, detail=f"{rows:,} rows, at least {least:,} are asked for")


def check_certificate(version: Version, signer: Signer) -> Gate:
    """Whether the certificate beside the manifest is of this very version, holds its signature, and has no failed check.

    Without a certificate nothing failed. The files of the version are for :func:`check_version`.
    """
    name = "certificate"
    try:
        found = read_certificate(version)
    except DatasetError as error:
        return Gate(name=name, passed=False, detail=error.message)
    if found is None:
        return Gate(name=name, passed=True, detail="there is none")
    if problems := binding_problems(version, found, signer):
        return Gate(name=name, passed=False, detail=problems[0])
    failed = [check.name for check in found.checks if check.state == "failed"]
    detail = f"failed: {', '.join(failed)}" if failed else f"none of {len(found.checks)} checks failed"
    return Gate(name=name, passed=not failed, detail=detail)


def check_lost(changes: Changes | None, gates: Gates) -> Gate:
    """Whether too many rows of the current version are gone. The first version, and one after an erasure, loses none."""
    if changes is None:
        return Gate(name="lost", passed=True, detail="there is no version before it")
    if not changes.compared:
        return Gate(name="lost", passed=True, detail=f"{changes.before} has no rows any more to be compared with")
    lost = changes.lost_share
    number = sum(counts.dropped for counts in changes.examples.values())
    detail = f"{number:,} rows of {changes.before} ({lost:.1%}) are gone; at most {gates.maximum_lost:.1%} may be"
    return Gate(name="lost", passed=lost <= gates.maximum_lost, detail=detail)
