"""Run by alembic, on the connection that `nas.storage.migrate` opened and will commit."""

from __future__ import annotations

from alembic import context

from nas.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
