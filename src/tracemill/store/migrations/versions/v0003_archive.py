"""What leaves and what must not come back: the archive's catalogue, tombstones, holds, erasures, and the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ROLE = "tracemill_application"
SERVICE = "(SELECT current_setting('tracemill.scope', true)) = 'service'"
GRANTS = {
    "archive_metadata": "SELECT, INSERT, UPDATE, DELETE",
    "tombstones": "SELECT, INSERT, UPDATE, DELETE",
    "legal_holds": "SELECT, INSERT, UPDATE, DELETE",
    "erasures": "SELECT, INSERT, UPDATE, DELETE",
    "audit": "SELECT, INSERT",  # append-only
}


def upgrade() -> None:
    """Make the tables; let nobody change an audit entry; count answered interactions from now on."""
    _tables()
    for name in ("answered", "answered_well"):  # NULL where there are rows: what was counted before is not known
        op.add_column("daily", sa.Column(name, sa.BigInteger()))
    if op.get_bind().dialect.name == "postgresql":
        for table, rights in GRANTS.items():
            op.execute(f"GRANT {rights} ON {table} TO {ROLE}")
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY service ON {table} USING ({SERVICE}) WITH CHECK ({SERVICE})")
        op.execute(
            """CREATE FUNCTION tracemill_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"""
        )
        op.execute(
            """CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
               FOR EACH STATEMENT EXECUTE FUNCTION tracemill_append_only()"""
        )
    else:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
            )


def _tables() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "archive_metadata",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tombstones",
        sa.Column("kind", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "digest"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "legal_holds",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "erasures",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "audit",
        sa.Column("number", key, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
