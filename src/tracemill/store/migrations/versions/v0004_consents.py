"""Who allowed or withdrew what, in narrow rows; those of records of before are made when the store is opened next."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

ROLE = "tracemill_application"
SERVICE = "(SELECT current_setting('tracemill.scope', true)) = 'service'"


def upgrade() -> None:
    """Make the table; on PostgreSQL only the service itself sees it."""
    op.create_table(
        "consents",
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("person", sa.LargeBinary(length=16), nullable=False),
        sa.Column("purpose", sa.SmallInteger(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("granted", sa.SmallInteger(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("erased", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("consents_person", "consents", ["person"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON consents TO {ROLE}")
        op.execute("ALTER TABLE consents ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE consents FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY service ON consents USING ({SERVICE}) WITH CHECK ({SERVICE})")
