"""Drives, nodes, paths, outbox, deletions, intents and leases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from sluice_backends.sql.migrations.steps import (
    MICROS,
    OPTIONS,
    binary,
    create_index,
    create_table,
)

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Types are written out instead of imported: changes of `schema/` must not change a revision.
_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    create_table(
        "drives",
        sa.Column("drive_id", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column(
            "tenant",
            sa.String(128).with_variant(mysql.VARBINARY(512), "mysql", "mariadb"),
            nullable=False,
        ),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("bucket", sa.String(255), nullable=False),
        sa.Column("key_prefix", sa.String(512), nullable=False),
        sa.Column("integrity", sa.String(32), nullable=False),
        sa.Column("part_bytes", sa.BigInteger(), nullable=False),
        sa.Column("require_uniform", sa.Boolean(), nullable=False),
        sa.Column("read_only", sa.Boolean(), nullable=False),
        sa.Column("storage_class", sa.String(64), nullable=False),
        sa.Column("encryption", sa.String(255), nullable=False),
        sa.Column("created_at", MICROS, nullable=False),
        sa.Column("updated_at", MICROS, nullable=False),
        sa.PrimaryKeyConstraint("drive_id", name="pk_drives"),
        sa.UniqueConstraint("tenant", "name", name="uq_drives_tenant_name"),
        **OPTIONS,
    )
    create_table(
        "nodes",
        sa.Column("node_id", sa.String(128), nullable=False),
        sa.Column("drive_id", _ROW_ID, nullable=False),
        sa.Column("path", binary(1024), nullable=False),
        sa.Column("upload_id", sa.String(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("crc32c", sa.BigInteger(), nullable=False),
        sa.Column("sha256", binary(32), nullable=True),
        sa.Column("sha256_owed_since", MICROS, nullable=True),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("bucket", sa.String(255), nullable=False),
        sa.Column("object_key", binary(1024), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", MICROS, nullable=False),
        sa.Column("updated_at", MICROS, nullable=False),
        sa.ForeignKeyConstraint(["drive_id"], ["drives.drive_id"], name="fk_nodes_drive_id"),
        sa.PrimaryKeyConstraint("node_id", name="pk_nodes"),
        **OPTIONS,
    )
    create_index("ix_nodes_drive_id", "nodes", ["drive_id"])
    create_index("ix_nodes_object_key_bucket", "nodes", ["object_key", "bucket"])
    create_index("ix_nodes_sha256_owed_since", "nodes", ["sha256_owed_since"])
    create_table(
        "paths",
        sa.Column("drive_id", _ROW_ID, nullable=False),
        sa.Column("path", binary(1024), nullable=False),
        sa.Column("node_id", sa.String(128), nullable=False),
        sa.ForeignKeyConstraint(["drive_id"], ["drives.drive_id"], name="fk_paths_drive_id"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.node_id"], name="fk_paths_node_id"),
        sa.PrimaryKeyConstraint("drive_id", "path", name="pk_paths"),
        sa.UniqueConstraint("node_id", name="uq_paths_node_id"),
        sqlite_with_rowid=False,
        **OPTIONS,
    )
    create_table(
        "outbox",
        sa.Column("row_id", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("type", sa.String(128), nullable=False),
        sa.Column("topic", sa.String(128), nullable=False),
        sa.Column("event_key", sa.String(128), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("occurred_at", MICROS, nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("row_id", name="pk_outbox"),
        sqlite_autoincrement=True,
        **OPTIONS,
    )
    create_table(
        "object_deletions",
        sa.Column("deletion_id", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column("bucket", sa.String(255), nullable=False),
        sa.Column("object_key", binary(1024), nullable=False),
        sa.Column("not_before", MICROS, nullable=False),
        sa.PrimaryKeyConstraint("deletion_id", name="pk_object_deletions"),
        sqlite_autoincrement=True,
        **OPTIONS,
    )
    create_index("ix_object_deletions_not_before", "object_deletions", ["not_before"])
    create_table(
        "object_intents",
        sa.Column("upload_id", sa.String(128), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("bucket", sa.String(255), nullable=False),
        sa.Column("object_key", binary(1024), nullable=False),
        sa.Column("multipart_id", sa.String(1024), nullable=False),
        sa.Column("created_at", MICROS, nullable=False),
        sa.PrimaryKeyConstraint("upload_id", name="pk_object_intents"),
        **OPTIONS,
    )
    create_index("ix_object_intents_created_at", "object_intents", ["created_at"])
    create_table(
        "leases",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("holder", sa.String(255), nullable=False),
        sa.Column("expires_at", MICROS, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
        **OPTIONS,
    )


def downgrade() -> None:
    for table in (
        "leases",
        "object_intents",
        "object_deletions",
        "outbox",
        "paths",
        "nodes",
        "drives",
    ):
        op.drop_table(table)
