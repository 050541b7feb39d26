"""Processing results, thumbnails and the policy that drops locations.

Types are written out, see 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from sluice_backends.sql.migrations.steps import (
    MICROS,
    OPTIONS,
    add_column,
    binary,
    create_index,
    create_table,
)

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


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
        sa.Column("processed_at", MICROS, nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.node_id"], name="fk_processings_node_id"),
        sa.PrimaryKeyConstraint("node_id", name="pk_processings"),
        **OPTIONS,
    )
    create_table(
        "thumbnails",
        sa.Column("node_id", sa.String(128), nullable=False),
        sa.Column("object_key", binary(1024), nullable=False),
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
        **OPTIONS,
    )
    create_index("ix_thumbnails_object_key_bucket", "thumbnails", ["object_key", "bucket"])


def downgrade() -> None:
    op.drop_table("thumbnails")
    op.drop_table("processings")
    op.drop_column("drives", "drop_location")
