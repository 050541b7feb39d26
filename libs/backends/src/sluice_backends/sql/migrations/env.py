"""Entry point of Alembic. The caller owns the connection, its lock and its transaction."""

from __future__ import annotations

from alembic import context

from sluice_backends.sql.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
