"""What is stored, where, what it costs, and what to do next: one document for dashboards.

Prices are assumptions, stated in the answer: a managed database at 12.50 US dollars a GB and month for what is hot.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tracemill.feedback.attach import attach
from tracemill.insight.readiness import readiness
from tracemill.store.base import DailyRow
from tracemill.store.hot import HotStore

HOT_USD_PER_GB_MONTH = 12.5
_GB = 1_000_000_000
_UNITS = ("B", "KB", "MB", "GB", "TB")


def storage_statistics(store: HotStore, *, platform: str | None = None, archived: int = 0) -> dict[str, Any]:
    """Overview, storage, costs, platforms, readiness and recommendations. Raises what the store raises.

    ``archived`` is how many more records lie in cold storage.
    """
    rows = store.daily(platform=platform)
    interactions = [row for row in rows if row.type == "interaction"]
    records = sum(row.records for row in rows)
    attachments = attach(store)
    names = sorted({row.platform for row in interactions})
    ready = {name: readiness(store, name, attachments=attachments) for name in names}
    with_feedback = {name: _gate(ready[name].gates, "with_feedback") for name in names}
    size = store.size()
    raw = sum(row.raw_bytes for row in rows)
    return {
        "overview": {
            "total_records": records + archived,
            "active_records": records,
            "archived_records": archived,
            "interactions": sum(row.records for row in interactions),
            "success_rate": _rate(interactions),
            "with_feedback": sum(with_feedback.values()),
        },
        "storage": {
            "hot_bytes": size,
            "hot_human": human(size),
            "raw_bytes": raw,
            "raw_human": human(raw),
            "compression_ratio": round(raw / size, 2) if size else None,
            "location": store.address.partition("://")[0],
        },
        "costs": {
            "hot_usd_per_gb_month": HOT_USD_PER_GB_MONTH,
            "hot_monthly_usd": round(size / _GB * HOT_USD_PER_GB_MONTH, 4),
            "uncompressed_monthly_usd": round(raw / _GB * HOT_USD_PER_GB_MONTH, 4),
        },
        "by_platform": {name: _platform(name, rows) for name in names},
        "training_readiness": {name: ready[name].as_dict() for name in names},
        "recommendations": _recommendations(ready) if names else ["capture interactions: there are none yet"],
    }


def _gate(gates: Any, name: str) -> int:
    return next(int(gate.value) for gate in gates if gate.name == name)


def _rate(rows: list[DailyRow]) -> float | None:
    judged = sum(row.succeeded + row.failed for row in rows)
    return round(sum(row.succeeded for row in rows) / judged, 4) if judged else None


def _platform(name: str, rows: list[DailyRow]) -> dict[str, Any]:
    own = [row for row in rows if row.platform == name]
    calls = [row for row in own if row.type == "interaction"]
    counts: dict[str, int] = defaultdict(int)
    for row in own:
        counts[row.type] += row.records
    return {
        "records": dict(counts),
        "success_rate": _rate(calls),
        "input_tokens": sum(row.input_tokens for row in calls),
        "output_tokens": sum(row.output_tokens for row in calls),
        "cost_usd": round(sum(row.cost_usd for row in calls), 6),
        "raw_bytes": sum(row.raw_bytes for row in own),
        "stored_bytes": sum(row.stored_bytes for row in own),
    }


def _recommendations(ready: dict[str, Any]) -> list[str]:
    return [f"{name}: {advice}" for name, found in ready.items() for advice in found.recommendations]


def human(size: float) -> str:
    """A size for people, in powers of a thousand."""
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.2f} {_UNITS[unit]}"
