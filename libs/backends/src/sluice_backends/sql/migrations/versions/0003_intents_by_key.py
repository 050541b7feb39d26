"""Index of intents by object."""

from __future__ import annotations

from alembic import op

from sluice_backends.sql.migrations.steps import create_index

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# For the lookup of each object that a client put directly (ADR 0015). Without the index it reads
# one row per upload in flight.
_NAME = "ix_object_intents_object_key_bucket"


def upgrade() -> None:
    create_index(_NAME, "object_intents", ["object_key", "bucket"])


def downgrade() -> None:
    op.drop_index(_NAME, "object_intents")
