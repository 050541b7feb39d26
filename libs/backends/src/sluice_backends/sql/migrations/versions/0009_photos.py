"""Users, refresh tokens, upload jobs, photos, parts, tags and idempotency keys.

Types are written out, see 0001.
"""

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

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def _exact(max_characters: int) -> sa.types.TypeEngine[str]:
    """Return a type of text that compares exactly, trailing spaces included."""
    return sa.String(max_characters).with_variant(
        mysql.VARBINARY(4 * max_characters), "mysql", "mariadb"
    )


_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BODY = sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
_OWNED = ("tenant", "user_id")


def upgrade() -> None:
    _create_users()
    _create_jobs()
    _create_tags()
    create_table(
        "idempotency_keys",
        *_owner(),
        sa.Column("idempotency_key", _exact(255), nullable=False),
        sa.Column("fingerprint", binary(32), nullable=False),
        sa.Column("operation_id", sa.String(36), nullable=False),
        sa.Column("claimed_until", MICROS, nullable=False),
        sa.Column("answer", _BODY, nullable=True),
        sa.Column("created_at", MICROS, nullable=False),
        sa.Column("expires_at", MICROS, nullable=False),
        sa.PrimaryKeyConstraint(*_OWNED, "idempotency_key", name="pk_idempotency_keys"),
        **OPTIONS,
    )
    create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"])


def _create_users() -> None:
    create_table(
        "users",
        sa.Column("user_id", sa.String(63), nullable=False),
        sa.Column("email", binary(254), nullable=False),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("created_at", MICROS, nullable=False),
        sa.Column("updated_at", MICROS, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
        **OPTIONS,
    )
    create_table(
        "refresh_tokens",
        sa.Column("token_hash", binary(32), nullable=False),
        sa.Column("family_id", binary(32), nullable=False),
        sa.Column("user_id", sa.String(63), nullable=False),
        sa.Column("created_at", MICROS, nullable=False),
        sa.Column("expires_at", MICROS, nullable=False),
        sa.Column("used_at", MICROS, nullable=True),
        sa.Column("revoked_at", MICROS, nullable=True),
        sa.Column("family_expires_at", MICROS, nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name="fk_refresh_tokens_user_id"),
        sa.PrimaryKeyConstraint("token_hash", name="pk_refresh_tokens"),
        **OPTIONS,
    )
    create_index("ix_refresh_tokens_family_id", "refresh_tokens", ["family_id"])
    create_index("ix_refresh_tokens_user_id", "refresh_tokens", ["user_id"])
    create_index("ix_refresh_tokens_family_expires_at", "refresh_tokens", ["family_expires_at"])


def _create_jobs() -> None:
    create_table(
        "upload_jobs",
        sa.Column("job_id", sa.String(64), nullable=False),
        *_owner(),
        sa.Column("drive", sa.String(63), nullable=False),
        sa.Column("strategy", sa.String(32), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("queued", sa.Integer(), nullable=False),
        sa.Column("uploading", sa.Integer(), nullable=False),
        sa.Column("processing", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("cancelled", sa.Integer(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sent_bytes", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", MICROS, nullable=False),
        sa.Column("updated_at", MICROS, nullable=False),
        sa.Column("finished_at", MICROS, nullable=True),
        sa.PrimaryKeyConstraint("job_id", name="pk_upload_jobs"),
        **OPTIONS,
    )
    _index("upload_jobs", *_OWNED, "created_at", "job_id")
    create_table(
        "photos",
        sa.Column("photo_id", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        *_owner(),
        sa.Column("node_id", sa.String(128), nullable=False),
        sa.Column("drive", sa.String(63), nullable=False),
        sa.Column("path", binary(1024), nullable=False),
        sa.Column("bucket", sa.String(255), nullable=False),
        sa.Column("object_key", binary(1024), nullable=False),
        sa.Column("filename", binary(255), nullable=False),
        sa.Column("search_key", binary(1024), nullable=False),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("detail", sa.String(512), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("multipart_id", sa.String(1024), nullable=False),
        sa.Column("created_at", MICROS, nullable=False),
        sa.Column("updated_at", MICROS, nullable=False),
        sa.Column("open_updated_at", MICROS, nullable=True),
        sa.Column("attempt_started_at", MICROS, nullable=False),
        sa.Column("asked_at", MICROS, nullable=False),
        sa.Column("completed_at", MICROS, nullable=True),
        sa.Column("taken_at", MICROS, nullable=True),
        sa.Column("dated_at", MICROS, nullable=False),
        sa.Column("deleted_at", MICROS, nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["upload_jobs.job_id"], name="fk_photos_job_id"),
        sa.PrimaryKeyConstraint("photo_id", name="pk_photos"),
        sa.UniqueConstraint("node_id", name="uq_photos_node_id"),
        **OPTIONS,
    )
    _index("photos", "job_id", "position")
    _index("photos", "open_updated_at", "photo_id")
    for column in ("created_at", "dated_at", "filename"):
        _index("photos", *_OWNED, column, "photo_id")
    create_table(
        "upload_parts",
        sa.Column("photo_id", sa.String(64), nullable=False),
        sa.Column("part_number", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("etag", sa.String(255), nullable=False),
        sa.Column("updated_at", MICROS, nullable=False),
        sa.ForeignKeyConstraint(["photo_id"], ["photos.photo_id"], name="fk_upload_parts_photo_id"),
        sa.PrimaryKeyConstraint("photo_id", "part_number", name="pk_upload_parts"),
        **OPTIONS,
    )


def _create_tags() -> None:
    create_table(
        "tags",
        sa.Column("tag_id", _ROW_ID, nullable=False, autoincrement=True),
        *_owner(),
        sa.Column("label", binary(256), nullable=False),
        sa.Column("created_at", MICROS, nullable=False),
        sa.PrimaryKeyConstraint("tag_id", name="pk_tags"),
        sa.UniqueConstraint(*_OWNED, "label", name="uq_tags_tenant_user_id_label"),
        sqlite_autoincrement=True,
        **OPTIONS,
    )
    create_table(
        "photo_tags",
        sa.Column("photo_id", sa.String(64), nullable=False),
        sa.Column("tag_id", _ROW_ID, nullable=False),
        sa.ForeignKeyConstraint(["photo_id"], ["photos.photo_id"], name="fk_photo_tags_photo_id"),
        sa.ForeignKeyConstraint(["tag_id"], ["tags.tag_id"], name="fk_photo_tags_tag_id"),
        sa.PrimaryKeyConstraint("photo_id", "tag_id", name="pk_photo_tags"),
        **OPTIONS,
    )
    create_index("ix_photo_tags_tag_id", "photo_tags", ["tag_id"])


def _owner() -> tuple[sa.Column[str], ...]:
    """Return new columns of the owner: a column belongs to one table."""
    return (
        sa.Column("tenant", _exact(128), nullable=False),
        sa.Column("user_id", _exact(255), nullable=False),
    )


def _index(table: str, *columns: str) -> None:
    create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))


def downgrade() -> None:
    for table in (
        "idempotency_keys",
        "photo_tags",
        "tags",
        "upload_parts",
        "photos",
        "upload_jobs",
        "refresh_tokens",
        "users",
    ):
        op.drop_table(table)
