"""Intents per node, and a record of cleared intents.

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
    # An upload id derived from a request id names another upload and node once the ledger has
    # purged the first one. The object key ends with the node id and makes the row unique.
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
    # Of several intents of one upload id, all but one belong to ended uploads.
    op.execute("DELETE FROM object_intents")
    change_primary_key("object_intents", ["upload_id"])
