"""Migrations make exactly the tables that tables.py declares."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tests.store.conftest import OpenStore
from tracemill.store import migrate
from tracemill.store.hot import HotStore
from tracemill.store.tables import metadata


def test_the_migrated_schema_is_the_declared_one(store: HotStore) -> None:
    with store._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_head_names_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [migrate.HEAD]


def test_opening_again_changes_nothing(open_at: OpenStore) -> None:
    store = open_at()
    assert migrate.current_revision(store._engine) == migrate.HEAD
    assert migrate.upgrade(store._engine) is False
