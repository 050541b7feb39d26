"""Alembic runs this file. The connection, with its lock and transaction, is the caller's."""

from __future__ import annotations

from alembic import context

from sluice_backends.sql.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
