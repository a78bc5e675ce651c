"""How Alembic reaches the history store: over the connection that `history` hands it."""

from alembic import context

from app.services.history_schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
