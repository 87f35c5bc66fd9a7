"""What the server needs: API keys, parts that wait for each other, and on PostgreSQL row-level security."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


ROLE = "tracemill_application"
TABLES = (
    "api_keys", "chains", "counters", "daily", "daily_tools", "dictionaries", "names", "parts", "pending", "quarantine",
    "records",
)  # fmt: skip
SERVICE = "(SELECT current_setting('tracemill.scope', true)) = 'service'"
PERSON = "(SELECT nullif(current_setting('tracemill.person', true), '')::integer)"


def upgrade() -> None:
    """Make both tables, and on PostgreSQL let nobody see a row who does not say for whom."""
    _tables()
    if op.get_bind().dialect.name == "postgresql":
        _row_level_security()


def _row_level_security() -> None:
    """The policies, and the role they hold for. They hold for the owner too (FORCE), so nothing passes them by mistake.

    Whether an interaction is somebody's is asked by a function, since a policy cannot look into its own table; it runs as
    the owner with its search path pinned, and answers for the person of the transaction only.
    """
    bind = op.get_bind()
    schema = bind.dialect.identifier_preparer.quote(bind.execute(sa.text("SELECT current_schema()")).scalar_one())
    op.execute(
        f"""DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
                CREATE ROLE {ROLE} NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$"""
    )
    op.execute(  # an administrator may have made the role and granted it to a login that may do neither
        f"""DO $$ BEGIN
            IF NOT pg_has_role(current_user, '{ROLE}', 'MEMBER') THEN GRANT {ROLE} TO CURRENT_USER; END IF;
        END $$"""
    )
    op.execute(f"GRANT USAGE ON SCHEMA {schema} TO {ROLE}")
    op.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {ROLE}")
    for table in TABLES:
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY service ON {table} USING ({SERVICE}) WITH CHECK ({SERVICE})")
    # Said inside and not by the function's SET clause: only a superuser may write a parameter of ours into one.
    op.execute(  # nothing in it comes from outside
        f"""CREATE FUNCTION tracemill_owns(wanted bytea) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER
            SET search_path = pg_catalog, {schema} AS $$
            DECLARE
                asked text := coalesce(current_setting('tracemill.scope', true), '');
                found boolean;
            BEGIN
                PERFORM set_config('tracemill.scope', 'service', true);
                SELECT EXISTS (SELECT FROM {schema}.records WHERE id = wanted AND person = {PERSON}) INTO found;
                PERFORM set_config('tracemill.scope', asked, true);
                RETURN found;
            END $$"""  # noqa: S608
    )
    op.execute("REVOKE ALL ON FUNCTION tracemill_owns(bytea) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION tracemill_owns(bytea) TO {ROLE}")
    op.execute(
        f"""CREATE POLICY person ON records FOR SELECT USING (
            (SELECT current_setting('tracemill.scope', true)) = 'user'
            AND (person = {PERSON} OR (interaction IS NOT NULL AND tracemill_owns(interaction))))"""
    )


def _tables() -> None:
    op.create_table(
        "pending",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("source", "key", "part"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("last_used", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
