"""Withheld events: events that the publisher refuses do not delay others.

Types are written out, see 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from sluice_backends.sql.migrations.steps import add_column, create_index

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    add_column(
        "outbox",
        sa.Column("withheld", sa.Boolean(), nullable=False, server_default=sa.text("0")),
    )
    create_index("ix_outbox_withheld", "outbox", ["withheld"])
    create_index("ix_outbox_event_key", "outbox", ["event_key"])


def downgrade() -> None:
    op.drop_index("ix_outbox_event_key", "outbox")
    op.drop_index("ix_outbox_withheld", "outbox")
    op.drop_column("outbox", "withheld")
