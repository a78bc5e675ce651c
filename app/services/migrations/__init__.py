"""Alembic scripts of the history store."""
