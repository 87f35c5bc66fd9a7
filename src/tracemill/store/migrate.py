"""The schema of a database is brought up to date by Alembic, on `tracemill init` and on first use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, inspect, text

from tracemill.core.errors import StoreVersionError
from tracemill.core.owned import locked
from tracemill.store.engine import translated

HEAD = "0004"
"""The newest revision under ``migrations/versions``."""
_FOLDER = Path(__file__).parent / "migrations"


def current_revision(engine: Engine) -> str | None:
    """The revision a database is at, or None when it has no tables of ours."""
    with translated(), engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(engine: Engine) -> bool:
    """Bring the schema to HEAD; safe when several processes do it at once. True when something was changed.

    Raises StoreVersionError when the database is newer than this tracemill.
    """
    if current_revision(engine) == HEAD:
        return False
    from alembic import command  # noqa: PLC0415 - 0.2 s to import, needed once in a database's life
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    with _one_at_a_time(engine):
        revision = current_revision(engine)
        if revision == HEAD:
            return False
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if revision is not None and revision not in known:
            raise StoreVersionError(
                f"the database is at revision {revision}, which this tracemill does not know",
                hint="Upgrade tracemill to the version that wrote it, or newer.",
            )
        with translated(), engine.connect() as connection, connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return True


@contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[None]:
    if engine.dialect.name == "sqlite" and engine.url.database:
        with locked(Path(f"{engine.url.database}.migration.lock")):
            yield
        return
    if engine.dialect.name == "postgresql":
        with translated(), engine.connect() as connection, connection.begin():
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": 0x6D6967})
            yield
        return
    yield
