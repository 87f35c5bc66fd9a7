"""Whether a workspace is well: what `tracemill doctor` shows."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from tracemill.core.consent import NO_CONSENT
from tracemill.core.errors import TracemillError
from tracemill.core.pseudonym import load_pseudonymizer
from tracemill.core.settings import Settings
from tracemill.privacy.policies import load_policies
from tracemill.sdk.ledger import Counts
from tracemill.sdk.spool import inspect
from tracemill.store.hot import HotStore

LOW_SPACE_BYTES = 1024**3


class Check(Struct, frozen=True):
    """One thing looked at. ``advice`` says what to do when it is not well."""

    name: str
    ok: bool
    detail: str
    advice: str = ""


class Health(Struct, frozen=True):
    """Every check, and where all records ever captured in this workspace are.

    ``success_rate`` is the share of captured records that were stored or wait in the spool; None before the first.
    """

    checks: list[Check]
    collection: Counts
    success_rate: float | None

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)


def examine(path: Path, store: HotStore, *, verify: bool = True) -> Health:
    """Look at a workspace. With ``verify`` every stored record is read, which takes a while in a large store."""
    spool = inspect(path)
    counts = spool.counts
    rate = (counts.stored + counts.spooled + counts.queued) / counts.captured if counts.captured else None
    checks = [
        _guarded("identity", lambda: _identity(path, store)),
        _guarded("write permission", lambda: _writable(path)),
        _guarded("free space", lambda: _space(path)),
        _guarded("redaction", lambda: _redaction(store.settings)),
        Check(
            "spool",
            not spool.problems,
            "; ".join(spool.problems)
            or f"{counts.spooled:,} records waiting, {sum(1 for one in spool.producers if one.live)} live producers",
            "Run `tracemill deliver`; whole records around a damage are kept." if spool.problems else "",
        ),
        Check(
            "dead letters",
            spool.dead_letters == 0,
            f"{spool.dead_letters:,} records nobody would take",
            f"Look at {path / 'spool' / 'dead'}." if spool.dead_letters else "",
        ),
        _guarded("quarantine", lambda: _quarantine(store)),
        *([_guarded("store", lambda: _store(store))] if verify else []),
        _collection(counts, rate),
    ]
    return Health(checks, counts, rate)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except TracemillError as error:
        return Check(name, False, error.message, error.hint)
    except OSError as error:
        return Check(name, False, str(error), "Check the folder and its owner.")


def _identity(path: Path, store: HotStore) -> Check:
    key = load_pseudonymizer(path).key_id
    return Check("identity", True, f"workspace {path.resolve()}, database {store.address}, pseudonym key {key}")


def _writable(path: Path) -> Check:
    with tempfile.NamedTemporaryFile(dir=path) as probe:
        probe.write(b"x")
        probe.flush()
        os.fsync(probe.fileno())
    return Check("write permission", True, "a file can be written and synced")


def _space(path: Path) -> Check:
    free = shutil.disk_usage(path).free
    return Check(
        "free space",
        free > LOW_SPACE_BYTES,
        f"{free / 1024**3:,.1f} GiB free",
        "Make room; capture drops records on a full disk.",
    )


def _redaction(settings: Settings) -> Check:
    if not settings.redaction:
        return Check("redaction", True, "off: records are stored as they come, personal data included")
    policy = load_policies(settings).find(settings.redaction)
    named = f"{policy.name}@{policy.version} (digest {policy.digest()})"
    return Check("redaction", True, f"records are redacted by {named} before they are stored")


def _quarantine(store: HotStore) -> Check:
    number = store.quarantine_count()
    advice = "See `tracemill quarantine`." if number else ""
    return Check("quarantine", number == 0, f"{number:,} records refused and kept aside", advice)


def _store(store: HotStore) -> Check:
    problems = store.verify()
    detail = "; ".join(problems[:3]) or f"{store.count():,} records read, every one whole; {store.size():,} bytes"
    return Check("store", not problems, detail, "Restore the database from a backup." if problems else "")


def _collection(counts: Counts, rate: float | None) -> Check:
    if rate is None:
        return Check("collection", True, "nothing captured yet")
    dropped = sum(number for reason, number in counts.dropped.items() if reason != NO_CONSENT)
    parts = [f"{rate:.2%} of {counts.captured:,} captured records kept"]
    if counts.dropped:
        parts.append("dropped: " + ", ".join(f"{number:,} {reason}" for reason, number in counts.dropped.items()))
    if counts.unaccounted > 0:
        parts.append(f"{counts.unaccounted:,} were in the memory of a process that was killed")
    advice = "Raise queue_max_records or make room for the spool; docs/settings.md." if dropped else ""
    return Check("collection", not dropped, "; ".join(parts), advice)
