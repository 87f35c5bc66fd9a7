"""What Alembic runs for every command: our connection, our tables, one transaction."""

from alembic import context

from tracemill.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
