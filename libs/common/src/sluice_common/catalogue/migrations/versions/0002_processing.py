"""What the processor finds in nodes, their thumbnails, and the policy that drops locations.

Types are written out, see 0001.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from sluice_common.catalogue.migrations.steps import add_column, create_index, create_table

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_MICROS = sa.BigInteger()
_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}


def _binary(length: int) -> sa.types.TypeEngine[bytes]:
    return sa.LargeBinary(length).with_variant(mysql.VARBINARY(length), "mysql", "mariadb")


def upgrade() -> None:
    add_column(
        "drives",
        sa.Column("drop_location", sa.Boolean(), nullable=False, server_default=sa.text("0")),
    )
    create_table(
        "processings",
        sa.Column("node_id", sa.String(128), nullable=False),
        sa.Column("etag", sa.String(255), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("detail", sa.String(512), nullable=False),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("exif", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("processed_at", _MICROS, nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.node_id"], name="fk_processings_node_id"),
        sa.PrimaryKeyConstraint("node_id", name="pk_processings"),
        **_OPTIONS,
    )
    create_table(
        "thumbnails",
        sa.Column("node_id", sa.String(128), nullable=False),
        sa.Column("object_key", _binary(1024), nullable=False),
        sa.Column("bucket", sa.String(255), nullable=False),
        sa.Column("recorded", sa.Boolean(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("crc32c", sa.BigInteger(), nullable=False),
        sa.Column("etag", sa.String(255), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.node_id"], name="fk_thumbnails_node_id"),
        sa.PrimaryKeyConstraint("node_id", "object_key", name="pk_thumbnails"),
        **_OPTIONS,
    )
    create_index("ix_thumbnails_object_key_bucket", "thumbnails", ["object_key", "bucket"])


def downgrade() -> None:
    op.drop_table("thumbnails")
    op.drop_table("processings")
    op.drop_column("drives", "drop_location")
