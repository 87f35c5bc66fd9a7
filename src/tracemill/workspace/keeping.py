"""What keeps a workspace in order: retention, the archive, open erasures. Fit for cron, and for a server's schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from tracemill.core.erasure import ErasureRequest, LegalHold
from tracemill.core.ids import days_ago, microseconds, now
from tracemill.core.records import RECORD_TYPES, AnyRecord
from tracemill.core.settings import Settings
from tracemill.core.steps import Progress
from tracemill.feedback.cascade import belongings
from tracemill.store.archiving import ArchiveReport
from tracemill.store.base import Filter
from tracemill.store.keeping import run_archive
from tracemill.store.tiered import TieredStore
from tracemill.workspace.erasing import Erasing
from tracemill.workspace.judging import forget

LOG = "archive.log"
_AT_ONCE = 1000
EVERY_OTHER = "*"
_LOOSE = tuple(tag for tag in RECORD_TYPES if tag != "interaction")


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
    expired, held = expire(store, erasing.eraser.holds(), erasing.eraser.link)
    report = run_archive(store, progress=progress)
    store.shrink()
    return Maintained(report, dict(receipts), expired, held)


def expire(store: TieredStore, holds: list[LegalHold], link: Callable[[str], str] = str) -> tuple[dict[str, int], int]:
    """Remove records older than their platform's ``store_days``; counts by platform, and how many a hold kept.

    ``link`` gives a conversation's id as redacted records have it.
    """
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
        until = days_ago(rule.store_days)
        old: list[str] = []
        for some in _batched(_too_old(store, platform, until), _AT_ONCE):
            going = [identity for identity in _let_go(store, standing, some, link) if identity not in kept]
            held += len(some) - len(going)
            old += going
        for start in range(0, len(old), _AT_ONCE):
            expired[platform] += store.erase(old[start : start + _AT_ONCE])
            forget(Path(store.settings.workspace), old[start : start + _AT_ONCE])
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


def _too_old(store: TieredStore, platform: str, until: datetime) -> Iterator[AnyRecord]:
    """A platform's records of before a moment, and what names no platform itself but belongs to one of them.

    Without a platform (empty): what names none and belongs to no interaction that is here.
    """
    if platform:
        for some in _batched(store.scan(Filter(platforms=(platform,), until=until)), _AT_ONCE):
            yield from some
            belonging = store.get_many(sorted(store.linked([record.id for record in some]))).values()
            yield from (record for record in belonging if not record.platform)
        return
    loose = (record for record in store.scan(Filter(types=_LOOSE, until=until)) if not record.platform)
    for some in _batched(loose, _AT_ONCE):
        known = store.known([linked for record in some if (linked := _interaction_of(record)) is not None])
        yield from (record for record in some if _interaction_of(record) not in known)


def _let_go(
    store: TieredStore, standing: list[LegalHold], records: Sequence[AnyRecord], link: Callable[[str], str]
) -> list[str]:
    """The ids of those that no hold keeps: neither itself nor as part of the interaction it belongs to."""
    if not standing:
        return [record.id for record in records]
    linked = {identity for record in records if (identity := _interaction_of(record)) is not None}
    whole = store.get_many(sorted(linked))
    kept = {
        identity
        for identity, record in [(record.id, record) for record in records] + list(whole.items())
        if any(_holds(hold, record, link) for hold in standing)
    }
    return [record.id for record in records if record.id not in kept and _interaction_of(record) not in kept]


def _interaction_of(record: AnyRecord) -> str | None:
    found: str | None = getattr(record, "interaction_id", None)
    return found


def _batched(records: Iterable[AnyRecord], size: int) -> Iterator[list[AnyRecord]]:
    """Lists of so many records, the last shorter."""
    rest = iter(records)
    while some := list(islice(rest, size)):
        yield some


def _holds(hold: LegalHold, record: AnyRecord, link: Callable[[str], str]) -> bool:
    user = getattr(record, "user", None)
    conversation = getattr(record, "conversation_id", None) if hold.kind == "conversation" else None
    named = {
        "all": True,
        "platform": record.platform == hold.value,
        "user": user is not None and user.pseudonym == hold.value,
        "conversation": conversation is not None and link(conversation) == link(hold.value),
        "interaction": hold.value in (record.id, getattr(record, "interaction_id", None)),
    }
    return named[hold.kind]


def trainable_since(settings: Settings, platforms: tuple[str, ...]) -> datetime | None:
    """From when on records may be trained on: the strictest ``train_days`` of the platforms, to the day; None: always.

    No platform named stands for all of them.
    """
    rules = settings.retention
    named = [rules.get(platform) or rules.get(EVERY_OTHER) for platform in platforms] or list(rules.values())
    days = [rule.train_days for rule in named if rule is not None and rule.train_days is not None]
    if not days:
        return None
    edge = days_ago(min(days))
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
