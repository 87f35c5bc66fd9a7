"""Alembic's scripts: one module a revision, never edited once released."""
