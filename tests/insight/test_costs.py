"""What storage costs, against sums made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tracemill.core.archive import ArchivedFile
from tracemill.core.errors import SettingError
from tracemill.core.ids import microseconds, new_id, now
from tracemill.core.settings import Settings, load_settings
from tracemill.insight.costs import GB, NOT_AT_ONCE, Sizes, advice, billed, costs, early_deletion, price_names, prices

DAY = 86_400_000_000


def settings_of(tmp_path: Path, **more: Any) -> Settings:
    return load_settings({"workspace": str(tmp_path), **more}, environment={})


def file(size: int, days: float = 0.0) -> ArchivedFile:
    return ArchivedFile(
        id=new_id(), object_key="k", platform="p", day=1, status="live", stored_bytes=size,
        created=microseconds(now()) - int(days * DAY),
    )  # fmt: skip


def test_a_month_is_size_times_price(tmp_path: Path) -> None:
    table = {"dear": {"gb_month": 10.0}, "cheap": {"gb_month": 0.5, "writes": 100.0, "reads": 50.0}}
    chosen = settings_of(tmp_path, prices=table, price_hot="dear", price_cold="cheap")
    found = costs(Sizes(2 * GB, 1000, GB, 4 * GB), [file(GB)], chosen, (1000, 3000))
    assert found["hot_monthly_usd"] == 20.0
    assert found["cold_monthly_usd"] == 0.5
    assert found["without_archive_monthly_usd"] == 60.0
    assert found["savings_monthly_usd"] == 39.5
    assert found["savings_yearly_usd"] == 474.0
    assert found["savings_percentage"] == pytest.approx(65.8)
    # One write and one read (0.15 USD) against 39.5 USD saved a month of 30 days.
    assert found["break_even_days"] == pytest.approx(0.15 / (39.5 / 30), abs=1e-3)
    assert found["usd_per_million_turns_month"] == {"hot": 20_000.0, "cold": pytest.approx(166.6667)}


def test_small_objects_are_billed_as_larger_ones(tmp_path: Path) -> None:
    table = prices(settings_of(tmp_path))
    files = [file(1000), file(200_000)]
    assert billed(files, table["S3 STANDARD"]) == 201_000
    assert billed(files, table["S3 STANDARD_IA"]) == 128 * 1024 + 200_000


def test_deleting_early_costs_the_rest_of_the_time(tmp_path: Path) -> None:
    price = prices(settings_of(tmp_path))["S3 GLACIER_IR"]
    found = early_deletion([file(GB, days=60), file(GB, days=100)], price)
    assert (found["minimum_days"], found["objects"]) == (90, 1)
    assert found["usd"] == pytest.approx(price.gb_month * 30 / 30, rel=1e-3)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "local disk"),
        ({"s3_bucket_name": "b"}, "S3 STANDARD"),
        ({"archive_url": "s3://b", "s3_storage_class": "STANDARD_IA"}, "S3 STANDARD_IA"),
        ({"archive_url": "s3a://b"}, "S3 STANDARD"),
        ({"archive_url": "r2://b"}, "R2"),
        ({"archive_url": "s3://b", "s3_endpoint": "https://x.r2.cloudflarestorage.com"}, "R2"),
        ({"price_cold": "R2 Infrequent Access"}, "R2 Infrequent Access"),
    ],
)
def test_the_archive_is_reckoned_by_where_it_lies(tmp_path: Path, given: dict[str, Any], name: str) -> None:
    assert price_names(settings_of(tmp_path, **given))[1] == name


def test_a_price_nobody_knows_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="price_hot"):
        price_names(settings_of(tmp_path, price_hot="gold"))


def test_advice_names_the_traps(tmp_path: Path) -> None:
    for name in sorted(NOT_AT_ONCE):
        chosen = settings_of(tmp_path, price_cold=name)
        found = costs(Sizes(GB, 1, GB, GB), [file(GB)], chosen, (1, 1))
        assert any("cannot be read at once" in line for line in advice(found, [file(GB)], chosen))
    chosen = settings_of(tmp_path, price_cold="S3 STANDARD_IA")
    small = [file(1000, days=1)]
    found = costs(Sizes(GB, 1, 1000, GB), small, chosen, (1, 1))
    lines = " ".join(advice(found, small, chosen))
    assert "archive compact" in lines
    assert "younger than the 30 days" in lines


def test_nothing_stored_costs_nothing(tmp_path: Path) -> None:
    found = costs(Sizes(0, 0, 0, 0), [], settings_of(tmp_path), (0, 0))
    assert found["savings_percentage"] == 0.0
    assert found["break_even_days"] is None
    assert found["usd_per_million_turns_month"] == {"hot": None, "cold": None}
