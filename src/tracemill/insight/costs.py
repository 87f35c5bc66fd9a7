"""What storage costs: a dated table of list prices, and sums over what is stored here.

The prices are assumptions to reckon with, not quotations: set your own under ``prices`` (docs/costs.md). A month has 30
days, a GB a thousand million bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tracemill.core.archive import ArchivedFile
from tracemill.core.errors import SettingError
from tracemill.core.ids import microseconds, now
from tracemill.core.settings import Settings, StoragePrice

GB = 1_000_000_000
DATED = "2025-01"
_DAY = 86_400_000_000
_SMALLEST_IA = 128 * 1024
_FEW_RECORDS = 50
"""Fewer records in an object take less room in the database than the object's own frame does."""
LIST_PRICES: dict[str, StoragePrice] = {
    # A small managed database sold by its disk, instance included; the figure of the specification's own cost table.
    "hosted PostgreSQL": StoragePrice(gb_month=12.5, dated=DATED),
    "PostgreSQL disk": StoragePrice(gb_month=0.125, dated=DATED),
    "local disk": StoragePrice(gb_month=0.0, dated=DATED),
    "S3 STANDARD": StoragePrice(gb_month=0.023, writes=0.005, reads=0.0004, dated=DATED),
    "S3 STANDARD_IA": StoragePrice(
        gb_month=0.0125,
        writes=0.01,
        reads=0.001,
        retrieval=0.01,
        minimum_days=30,
        minimum_bytes=_SMALLEST_IA,
        dated=DATED,
    ),
    "S3 ONEZONE_IA": StoragePrice(
        gb_month=0.01,
        writes=0.01,
        reads=0.001,
        retrieval=0.01,
        minimum_days=30,
        minimum_bytes=_SMALLEST_IA,
        dated=DATED,
    ),
    "S3 INTELLIGENT_TIERING": StoragePrice(gb_month=0.023, writes=0.005, reads=0.0004, dated=DATED),
    "S3 GLACIER_IR": StoragePrice(
        gb_month=0.004,
        writes=0.02,
        reads=0.01,
        retrieval=0.03,
        minimum_days=90,
        minimum_bytes=_SMALLEST_IA,
        dated=DATED,
    ),
    "S3 GLACIER": StoragePrice(
        gb_month=0.0036, writes=0.03, reads=0.0004, retrieval=0.01, minimum_days=90, dated=DATED
    ),
    "S3 DEEP_ARCHIVE": StoragePrice(
        gb_month=0.00099, writes=0.05, reads=0.0004, retrieval=0.02, minimum_days=180, dated=DATED
    ),
    "R2": StoragePrice(gb_month=0.015, writes=0.0045, reads=0.00036, dated=DATED),
    "R2 Infrequent Access": StoragePrice(
        gb_month=0.01, writes=0.009, reads=0.0009, retrieval=0.01, minimum_days=30, dated=DATED
    ),
}
NOT_AT_ONCE = {"S3 GLACIER", "S3 DEEP_ARCHIVE"}
"""Classes from which an object must be brought back, in hours, before it can be read: not for an archive that is read."""


def prices(settings: Settings) -> dict[str, StoragePrice]:
    """The list prices with the settings' own in their place."""
    return LIST_PRICES | settings.prices


def price_names(settings: Settings) -> tuple[str, str]:
    """Which price the database and which the archive is reckoned at. Raises SettingError for one nobody knows."""
    cold = settings.price_cold
    if not cold:
        in_bucket = settings.s3_bucket_name or settings.archive_url.startswith(("s3://", "s3a://", "r2://"))
        if "r2.cloudflarestorage" in settings.s3_endpoint or settings.archive_url.startswith("r2://"):
            cold = "R2"
        else:
            cold = f"S3 {settings.s3_storage_class or 'STANDARD'}" if in_bucket else "local disk"
    known = prices(settings)
    for setting, name in (("price_hot", settings.price_hot), ("price_cold", cold)):
        if name not in known:
            raise SettingError(f"setting {setting!r} names no price: {name!r}", hint=f"Prices: {', '.join(known)}.")
    return settings.price_hot, cold


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is stored, in bytes. ``hot`` is the whole database; ``moved`` what the archived rows would take in it."""

    hot: int
    hot_records: int
    cold: int
    moved: int


def costs(sizes: Sizes, files: Sequence[ArchivedFile], settings: Settings, turns: tuple[int, int]) -> dict[str, Any]:
    """Costs a month, what the archive saves, when it has paid for itself, and what early deletion would cost.

    ``turns`` are the interactions in the database and in the archive.
    """
    hot_name, cold_name = price_names(settings)
    table = prices(settings)
    hot, cold = table[hot_name], table[cold_name]
    monthly = {"hot": sizes.hot / GB * hot.gb_month, "cold": billed(files, cold) / GB * cold.gb_month}
    without = monthly["hot"] + sizes.moved / GB * hot.gb_month
    saved = without - monthly["hot"] - monthly["cold"]
    return {
        "prices": {"hot": hot_name, "cold": cold_name, "dated": {"hot": hot.dated, "cold": cold.dated}},
        "hot_usd_per_gb_month": hot.gb_month,
        "cold_usd_per_gb_month": cold.gb_month,
        "hot_monthly_usd": round(monthly["hot"], 6),
        "cold_monthly_usd": round(monthly["cold"], 6),
        "without_archive_monthly_usd": round(without, 6),
        "savings_monthly_usd": round(saved, 6),
        "savings_yearly_usd": round(saved * 12, 6),
        "savings_percentage": round(100 * saved / without, 1) if without else 0.0,
        "break_even_days": _break_even(sizes, files, hot, cold),
        "usd_per_million_turns_month": {
            "hot": _per_million(sizes.hot, turns[0], hot),
            "cold": _per_million(sizes.cold, turns[1], cold),
        },
        "early_deletion": early_deletion(files, cold),
        "by_class": {
            name: round(billed(files, price) / GB * price.gb_month, 6)
            for name, price in table.items()
            if name != hot_name
        },
    }


def billed(files: Sequence[ArchivedFile], price: StoragePrice) -> int:
    """Bytes that are paid for: small objects count as the least size of their class."""
    return sum(max(file.stored_bytes, price.minimum_bytes) for file in files)


def _break_even(sizes: Sizes, files: Sequence[ArchivedFile], hot: StoragePrice, cold: StoragePrice) -> float | None:
    """Days until what moving cost (a write, and a read to check it, an object) is saved; None where nothing is saved."""
    moving = sum(cold.writes / 1000 + cold.reads / 1000 + file.stored_bytes / GB * cold.retrieval for file in files)
    daily = (sizes.moved / GB * hot.gb_month - billed(files, cold) / GB * cold.gb_month) / 30
    return round(moving / daily, 3) if files and daily > 0 else None


def _per_million(size: int, turns: int, price: StoragePrice) -> float | None:
    return round(size / turns * 1_000_000 / GB * price.gb_month, 4) if turns else None


def early_deletion(files: Sequence[ArchivedFile], price: StoragePrice) -> dict[str, Any]:
    """What would still be paid for objects deleted or rewritten now, before the least time of their class is over.

    Merging and erasure rewrite objects, so in such a class each costs the rest of that time.
    """
    moment = microseconds(now())
    young = [file for file in files if (moment - file.created) / _DAY < price.minimum_days]
    rest = sum(
        max(file.stored_bytes, price.minimum_bytes)
        / GB
        * price.gb_month
        * (price.minimum_days - (moment - file.created) / _DAY)
        / 30
        for file in young
    )
    return {"minimum_days": price.minimum_days, "objects": len(young), "usd": round(rest, 6)}


def advice(found: dict[str, Any], files: Sequence[ArchivedFile], settings: Settings) -> list[str]:
    """What to do about costs, by what is there."""
    lines = []
    _, name = price_names(settings)
    price = prices(settings)[name]
    if found["savings_monthly_usd"] >= 0.01:
        lines.append(
            f"the archive saves ${found['savings_monthly_usd']:.2f} a month ({found['savings_percentage']:g} %)"
        )
    small = [file for file in files if file.stored_bytes < price.minimum_bytes]
    if small:
        lines.append(f"{len(small)} objects are smaller than {name} bills: run `tracemill archive compact`")
    tiny = sum(file.records < _FEW_RECORDS for file in files)
    if tiny > len(files) / 2:
        lines.append(
            f"{tiny:,} of {len(files):,} objects hold fewer than {_FEW_RECORDS} records, and cost more room than they save: "
            "leave platforms with little traffic in the database longer (retention: hot_days)"
        )
    early = found["early_deletion"]
    if early["objects"]:
        lines.append(
            f"{early['objects']} objects are younger than the {early['minimum_days']} days {name} bills at least: "
            f"merging or erasing them now would cost ${early['usd']:.4f}"
        )
    if name in NOT_AT_ONCE:
        lines.append(f"{name} cannot be read at once: searches, datasets and erasure would fail there")
    return lines


def table_rows(settings: Settings) -> list[dict[str, Any]]:
    """The prices in force, one row each."""
    return [{"storage": name, **msgspec.to_builtins(price)} for name, price in prices(settings).items()]
