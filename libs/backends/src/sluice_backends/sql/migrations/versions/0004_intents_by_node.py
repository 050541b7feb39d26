"""Intents are of one node, and one that was cleared is remembered.

An upload id that is derived from a request id names another upload, with another node, once the
ledger has forgotten the first one. The object's key ends with the node id and makes the row unique.

Types are written out, see 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from sluice_backends.sql.migrations.steps import (
    MICROS,
    OPTIONS,
    binary,
    change_primary_key,
    create_index,
    create_table,
)

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    change_primary_key("object_intents", ["upload_id", "object_key"])
    create_table(
        "cleared_intents",
        sa.Column("upload_id", sa.String(128), nullable=False),
        sa.Column("object_key", binary(1024), nullable=False),
        sa.Column("cleared_at", MICROS, nullable=False),
        sa.PrimaryKeyConstraint("upload_id", "object_key", name="pk_cleared_intents"),
        **OPTIONS,
    )
    create_index("ix_cleared_intents_cleared_at", "cleared_intents", ["cleared_at"])


def downgrade() -> None:
    op.drop_table("cleared_intents")
    # Of several intents under one upload id all but one are of uploads that have ended.
    op.execute("DELETE FROM object_intents")
    change_primary_key("object_intents", ["upload_id"])
