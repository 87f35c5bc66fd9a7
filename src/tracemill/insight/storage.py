"""What is stored, where, what it costs, and what to do next: one document for dashboards.

Prices are assumptions and stated in the answer (:mod:`tracemill.insight.costs`); sizes are measured here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tracemill.core.archive import ArchivedFile
from tracemill.core.ids import days_ago, from_microseconds
from tracemill.insight.costs import Sizes, advice, costs
from tracemill.insight.readiness import Judged, readiness
from tracemill.store.base import DailyRow
from tracemill.store.tiered import TieredStore

_UNITS = ("B", "KB", "MB", "GB", "TB")


def storage_statistics(
    store: TieredStore, said: Mapping[str, Judged], *, platform: str | None = None
) -> dict[str, Any]:
    """Overview, storage, costs, platforms, readiness and recommendations; ``said`` is what people said. Raises StoreError."""
    rows = store.daily(platform=platform)
    files = [file for file in store.archived_files() if platform in (None, file.platform)]
    interactions = [row for row in rows if row.type == "interaction"]
    names = sorted({row.platform for row in interactions})
    ready = {name: readiness(store, name, said, rows) for name in names}
    with_feedback = {name: _gate(ready[name].gates, "with_feedback") for name in names}
    sizes = _sizes(store, rows, files)
    archived_turns = sum(file.types.get("interaction", 0) for file in files)
    turns = sum(row.records for row in interactions)
    money = costs(sizes, files, store.settings, (turns - archived_turns, archived_turns))
    records = sum(row.records for row in rows)
    archived = sum(file.records for file in files)
    return {
        "overview": {
            "total_records": records,
            "active_records": records - archived,
            "archived_records": archived,
            "interactions": turns,
            "success_rate": _rate(interactions),
            "with_feedback": sum(with_feedback.values()),
            "feedback_rate": round(sum(with_feedback.values()) / turns, 4) if turns else None,
        },
        "storage": _storage(store, sizes, rows, files),
        # The two names the specification's own example has, beside those every store has.
        "costs": {**money, "supabase_monthly_usd": money["hot_monthly_usd"], "r2_monthly_usd": money["by_class"]["R2"]},
        "savings": {
            "monthly_usd": money["savings_monthly_usd"],
            "yearly_usd": money["savings_yearly_usd"],
            "percentage": money["savings_percentage"],
            "break_even_days": money["break_even_days"],
        },
        "by_platform": {name: _platform(name, rows, files) for name in names},
        "training_readiness": {name: ready[name].as_dict() for name in names},
        "recommendations": _recommendations(store, ready, rows, files) + advice(money, files, store.settings)
        if names
        else ["capture interactions: there are none yet"],
    }


def _sizes(store: TieredStore, rows: list[DailyRow], files: Sequence[ArchivedFile]) -> Sizes:
    """What the archived rows would take in the database: their bodies, and as much beside as the others have beside theirs."""
    records = sum(row.records for row in rows)
    cold_records = sum(file.records for file in files)
    hot = store.size()
    moved = sum(file.hot_bytes for file in files)
    hot_bodies = max(0, sum(row.stored_bytes for row in rows) - moved)
    active = records - cold_records
    beside = max(0, hot - hot_bodies) / active if active else 0
    return Sizes(hot, active, sum(file.stored_bytes for file in files), round(moved + min(beside, 400) * cold_records))


def _storage(store: TieredStore, sizes: Sizes, rows: list[DailyRow], files: Sequence[ArchivedFile]) -> dict[str, Any]:
    raw = sum(row.raw_bytes for row in rows)
    raw_cold = sum(file.raw_bytes for file in files)
    total = sizes.hot + sizes.cold
    return {
        "hot_bytes": sizes.hot,
        "hot_human": human(sizes.hot),
        "cold_bytes": sizes.cold,
        "cold_human": human(sizes.cold),
        "cold_objects": len(files),
        "raw_bytes": raw,
        "raw_human": human(raw),
        "compression_ratio": round(raw / total, 2) if total else None,
        "cold_compression_ratio": round(raw_cold / sizes.cold, 2) if sizes.cold else None,
        "location": store.address.partition("://")[0],
        "archive_location": str(store.objects.place),
        "archive_oldest": from_microseconds(min(file.first_time for file in files)).isoformat() if files else None,
        "archive_newest": from_microseconds(max(file.last_time for file in files)).isoformat() if files else None,
    }


def _gate(gates: Any, name: str) -> int:
    return next(int(gate.value) for gate in gates if gate.name == name)


def _rate(rows: list[DailyRow]) -> float | None:
    judged = sum(row.succeeded + row.failed for row in rows)
    return round(sum(row.succeeded for row in rows) / judged, 4) if judged else None


def _platform(name: str, rows: list[DailyRow], files: Sequence[ArchivedFile]) -> dict[str, Any]:
    own = [row for row in rows if row.platform == name]
    calls = [row for row in own if row.type == "interaction"]
    archived = [file for file in files if file.platform == name]
    counts: dict[str, int] = defaultdict(int)
    for row in own:
        counts[row.type] += row.records
    return {
        "records": dict(counts),
        "archived_records": sum(file.records for file in archived),
        "success_rate": _rate(calls),
        "input_tokens": sum(row.input_tokens for row in calls),
        "output_tokens": sum(row.output_tokens for row in calls),
        "cost_usd": round(sum(row.cost_usd for row in calls), 6),
        "raw_bytes": sum(row.raw_bytes for row in own),
        "stored_bytes": sum(row.stored_bytes for row in own),
        "cold_bytes": sum(file.stored_bytes for file in archived),
    }


def _recommendations(
    store: TieredStore, ready: dict[str, Any], rows: list[DailyRow], files: Sequence[ArchivedFile]
) -> list[str]:
    lines = [f"{name}: {text}" for name, found in ready.items() for text in found.recommendations]
    edge = days_ago(store.settings.data_retention_days).date()
    old = sum(row.records for row in rows if row.day < edge) - sum(file.records for file in files)
    if old > 0:
        lines.append(
            f"{old:,} records in the database are older than {store.settings.data_retention_days} days: "
            "run `tracemill archive run`"
        )
    return lines


def human(size: float) -> str:
    """A size for people, in powers of a thousand."""
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.2f} {_UNITS[unit]}"
