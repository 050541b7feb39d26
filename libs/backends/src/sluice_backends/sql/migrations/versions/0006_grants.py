"""Grants of drives, who may use a drive, and deleted drives.

Types are written out, see 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from sluice_backends.sql.migrations.steps import MICROS, OPTIONS, add_column, create_table

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    add_column(
        "drives",
        sa.Column("access", sa.String(16), nullable=False, server_default=sa.text("'tenant'")),
    )
    add_column("drives", sa.Column("deleted_at", MICROS, nullable=True))
    create_table(
        "drive_grants",
        sa.Column("drive_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column(
            "grantee",
            sa.String(255).with_variant(mysql.VARBINARY(1020), "mysql", "mariadb"),
            nullable=False,
        ),
        sa.Column("role", sa.Integer(), nullable=False),
        sa.Column("created_at", MICROS, nullable=False),
        sa.ForeignKeyConstraint(["drive_id"], ["drives.drive_id"], name="fk_drive_grants_drive_id"),
        sa.PrimaryKeyConstraint("drive_id", "kind", "grantee", name="pk_drive_grants"),
        **OPTIONS,
    )


def downgrade() -> None:
    op.drop_table("drive_grants")
    op.drop_column("drives", "deleted_at")
    op.drop_column("drives", "access")
