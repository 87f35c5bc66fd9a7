"""What keeps a workspace in order: retention, the archive, open erasures. Fit for cron, and for a server's schedule."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tracemill.core.erasure import ErasureRequest, LegalHold
from tracemill.core.ids import microseconds, now
from tracemill.core.records import AnyRecord
from tracemill.core.settings import Settings
from tracemill.core.steps import Progress
from tracemill.feedback.cascade import belongings
from tracemill.store.archiving import ArchiveReport
from tracemill.store.base import Filter
from tracemill.store.keeping import run_archive
from tracemill.store.tiered import TieredStore
from tracemill.workspace.erasing import Erasing

LOG = "archive.log"
_AT_ONCE = 1000
EVERY_OTHER = "*"


@dataclass
class Maintained:
    """What a maintenance run did. ``expired`` counts removed records by platform, ``held`` those a legal hold kept."""

    archive: ArchiveReport
    erasures: dict[str, int] = field(default_factory=dict)
    expired: dict[str, int] = field(default_factory=dict)
    held: int = 0

    def to_plain(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "archived": self.archive.records,
            "merged": self.archive.merged,
            "cleaned": self.archive.cleaned,
            "erasures": self.erasures,
            "expired": self.expired,
            "held": self.held,
        }


def maintain(store: TieredStore, erasing: Erasing, progress: Progress | None = None) -> Maintained:
    """Go on with open erasures, remove what is too old to keep, archive what is old enough. Raises TracemillError."""
    erasing.eraser.set_again()
    receipts = Counter(str(receipt.status) for receipt in erasing.go_on(progress))
    expired, held = expire(store, erasing.eraser.holds())
    report = run_archive(store, progress=progress)
    store.shrink()
    return Maintained(report, dict(receipts), expired, held)


def expire(store: TieredStore, holds: list[LegalHold]) -> tuple[dict[str, int], int]:
    """Remove records older than their platform's ``store_days``; counts by platform, and how many a hold kept."""
    standing = [hold for hold in holds if not hold.released]
    expired: Counter[str] = Counter()
    held = 0
    retention = store.settings.retention
    if not any(rule.store_days for rule in retention.values()):
        return {}, 0
    kept = _held(store, standing)
    for platform in sorted({row.platform for row in store.daily()}):
        rule = retention.get(platform) or retention.get(EVERY_OTHER)
        if rule is None or rule.store_days is None:
            continue
        where = Filter(platforms=(platform,), until=now() - timedelta(days=rule.store_days))
        old: list[str] = []
        for record in store.scan(where):
            if record.id in kept or any(_holds(hold, record) for hold in standing):
                held += 1
            else:
                old.append(record.id)
        for start in range(0, len(old), _AT_ONCE):
            expired[platform] += store.erase(old[start : start + _AT_ONCE])
    return dict(expired), held


def _held(store: TieredStore, standing: list[LegalHold]) -> set[str]:
    """The ids of all records that belong to a person, conversation or interaction that is held: steps name none of them."""
    kept: set[str] = set()
    for hold in standing:
        if hold.kind in ("user", "conversation", "interaction"):
            request = ErasureRequest(
                id="",
                kind=hold.kind,
                value=hold.value,
                actor="",
                requested=microseconds(now()),
                watermark=store.watermark(),
            )
            kept |= belongings(store, request).records.keys()
    return kept


def _holds(hold: LegalHold, record: AnyRecord) -> bool:
    user = getattr(record, "user", None)
    named = {
        "all": True,
        "platform": record.platform == hold.value,
        "user": user is not None and user.pseudonym == hold.value,
        "conversation": getattr(record, "conversation_id", None) == hold.value,
        "interaction": hold.value in (record.id, getattr(record, "interaction_id", None)),
    }
    return named[hold.kind]


def trainable_since(settings: Settings, platforms: tuple[str, ...]) -> datetime | None:
    """From when on records may be trained on: the strictest ``train_days`` of the platforms, to the day; None: always."""
    rules = settings.retention
    named = [rules.get(platform) or rules.get(EVERY_OTHER) for platform in platforms] or [rules.get(EVERY_OTHER)]
    days = [rule.train_days for rule in named if rule is not None and rule.train_days is not None]
    if not days:
        return None
    edge = now() - timedelta(days=min(days))
    return edge.replace(hour=0, minute=0, second=0, microsecond=0)


def write_log(path: Path, report: ArchiveReport) -> None:
    """Append what a run did to the workspace's log of them."""
    verb = "would archive" if report.dry_run else "archived"
    moment = now().isoformat(timespec="seconds")
    lines = [f"{moment} {verb} {report.records} records to {report.location} in {report.seconds:.1f} s"]
    for name, own in sorted(report.platforms.items()):
        lines.append(
            f"  {name or '(no platform)'}: {own.records} records, {own.raw_bytes} bytes raw, {own.stored_bytes} stored"
        )
    lines += [f"  passed over: {reason}" for reason in report.skipped]
    with (path / LOG).open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
