"""Intents are found by the object that they name, too.

Asked for every object that a client has put by itself (ADR 0015): without it, as many rows are
read as there are uploads in flight.
"""

from __future__ import annotations

from alembic import op

from sluice_backends.sql.migrations.steps import create_index

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NAME = "ix_object_intents_object_key_bucket"


def upgrade() -> None:
    create_index(_NAME, "object_intents", ["object_key", "bucket"])


def downgrade() -> None:
    op.drop_index(_NAME, "object_intents")
