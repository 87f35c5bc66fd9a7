"""Stores to test against: SQLite always, PostgreSQL where its server is installed (pgserver)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tracemill.core.settings import load_settings
from tracemill.store.hot import HotStore
from tracemill.store.tiered import open_store

OpenStore = Callable[..., HotStore]


@pytest.fixture
def open_at(tmp_path: Path) -> Iterator[OpenStore]:
    """Opens SQLite stores in the test's folder; all are closed at the end."""
    opened: list[HotStore] = []

    def open_one(name: str = "workspace", **arguments: Any) -> HotStore:
        settings = load_settings({"workspace": str(tmp_path / name), **arguments}, environment={})
        opened.append(open_store(settings))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, open_at: OpenStore, tmp_path: Path) -> HotStore:
    """An empty store on each database."""
    if request.param == "sqlite":
        return open_at()
    import psycopg

    base = request.getfixturevalue("postgres")
    name = f"test_{abs(hash(str(tmp_path)))}"
    with psycopg.connect(base, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    address = base.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", f"/{name}?")
    return open_at(database=address)
