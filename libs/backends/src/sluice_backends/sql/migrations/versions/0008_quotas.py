"""Quotas, usage and reservations; `usage_totals` is filled from the nodes.

Types are written out, see 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from sluice_backends.sql.migrations.steps import (
    MICROS,
    OPTIONS,
    create_index,
    create_table,
    drop_index,
)

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TENANT = sa.String(128).with_variant(mysql.VARBINARY(512), "mysql", "mariadb")

_FILL = """
    INSERT INTO usage_totals (drive_id, tenant, bytes, nodes, reconciled_at)
    SELECT drives.drive_id, drives.tenant, COALESCE(SUM(nodes.size), 0), COUNT(nodes.node_id), 0
    FROM drives LEFT JOIN nodes ON nodes.drive_id = drives.drive_id AND nodes.state = 'LIVE'
    WHERE drives.drive_id NOT IN (SELECT drive_id FROM usage_totals)
    GROUP BY drives.drive_id, drives.tenant
"""


def upgrade() -> None:
    create_table(
        "quotas",
        sa.Column("tenant", _TENANT, nullable=False),
        sa.Column("drive_id", sa.BigInteger(), nullable=False),
        sa.Column("max_bytes", sa.BigInteger(), nullable=False),
        sa.Column("max_nodes", sa.BigInteger(), nullable=False),
        sa.Column("max_open_uploads", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "drive_id", name="pk_quotas"),
        **OPTIONS,
    )
    create_table(
        "usage_totals",
        sa.Column("drive_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("tenant", _TENANT, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("nodes", sa.BigInteger(), nullable=False),
        sa.Column("reconciled_at", MICROS, nullable=False),
        sa.PrimaryKeyConstraint("drive_id", name="pk_usage_totals"),
        **OPTIONS,
    )
    create_index("ix_usage_totals_tenant", "usage_totals", ["tenant"])
    create_index("ix_usage_totals_reconciled_at", "usage_totals", ["reconciled_at"])
    create_table(
        "usage_changes",
        sa.Column(
            "change_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            autoincrement=True,
        ),
        sa.Column("tenant", _TENANT, nullable=False),
        sa.Column("drive_id", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("nodes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("change_id", name="pk_usage_changes"),
        sqlite_autoincrement=True,
        **OPTIONS,
    )
    create_index(
        "ix_usage_changes_tenant_bytes_nodes", "usage_changes", ["tenant", "bytes", "nodes"]
    )
    create_index(
        "ix_usage_changes_drive_id_bytes_nodes", "usage_changes", ["drive_id", "bytes", "nodes"]
    )
    create_table(
        "quota_reservations",
        sa.Column("upload_id", sa.String(128), nullable=False),
        sa.Column("drive_id", sa.BigInteger(), nullable=False),
        sa.Column("tenant", _TENANT, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("checked_at", MICROS, nullable=False),
        sa.PrimaryKeyConstraint("upload_id", "drive_id", name="pk_quota_reservations"),
        **OPTIONS,
    )
    create_index("ix_quota_reservations_tenant_bytes", "quota_reservations", ["tenant", "bytes"])
    create_index(
        "ix_quota_reservations_drive_id_bytes", "quota_reservations", ["drive_id", "bytes"]
    )
    create_index("ix_quota_reservations_checked_at", "quota_reservations", ["checked_at"])
    # Before the fill, which reads only this index.
    create_index("ix_nodes_drive_id_state_size", "nodes", ["drive_id", "state", "size"])
    drop_index("ix_nodes_drive_id", "nodes")
    # A repeated migration fills only what is missing. Commits of an older release that run
    # meanwhile are missed here and corrected by the first reconciliation (reconciled_at is 0).
    op.execute(_FILL)


def downgrade() -> None:
    op.create_index("ix_nodes_drive_id", "nodes", ["drive_id"])
    op.drop_index("ix_nodes_drive_id_state_size", "nodes")
    op.drop_table("quota_reservations")
    op.drop_table("usage_changes")
    op.drop_table("usage_totals")
    op.drop_table("quotas")
