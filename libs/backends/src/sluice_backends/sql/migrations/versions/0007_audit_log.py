"""The audit log.

Types are written out, see 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from sluice_backends.sql.migrations.steps import MICROS, OPTIONS, create_index, create_table

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_table(
        "audit_log",
        sa.Column(
            "row_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("occurred_at", MICROS, nullable=False),
        sa.Column("tenant", _exact(128), nullable=False),
        sa.Column("subject", _exact(255), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("object", _exact(512), nullable=False),
        sa.Column("outcome", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("peer", _exact(64), nullable=False),
        sa.Column("occurrences", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("row_id", name="pk_audit_log"),
        sqlite_autoincrement=True,
        **OPTIONS,
    )
    create_index("ix_audit_log_occurred_at", "audit_log", ["occurred_at"])
    create_index("ix_audit_log_tenant_occurred_at", "audit_log", ["tenant", "occurred_at"])
    create_index(
        "ix_audit_log_tenant_subject_occurred_at", "audit_log", ["tenant", "subject", "occurred_at"]
    )
    create_index(
        "ix_audit_log_tenant_action_occurred_at", "audit_log", ["tenant", "action", "occurred_at"]
    )


def downgrade() -> None:
    op.drop_table("audit_log")


def _exact(max_characters: int) -> sa.types.TypeEngine[str]:
    """Return a type of text that compares exactly, trailing spaces included."""
    return sa.String(max_characters).with_variant(
        mysql.VARBINARY(4 * max_characters), "mysql", "mariadb"
    )
