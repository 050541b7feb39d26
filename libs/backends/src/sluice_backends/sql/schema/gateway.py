"""Tables of users, upload jobs, photos and tags, and of keys that make requests repeatable."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql

from sluice_backends.sql.schema.columns import (
    MAX_KEY_BYTES,
    OPTIONS,
    ROW_ID,
    SHA256,
    Exact,
    Micros,
    Utf8,
    metadata,
)
from sluice_core.photos.names import MAX_FILENAME_BYTES, MAX_LABEL_CHARACTERS
from sluice_core.uploads.names import MAX_PATH_BYTES

MAX_EMAIL_BYTES = 254
_MAX_SEARCH_BYTES = 1024
"""Folding the case of a file name may lengthen it."""

_BODY = LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
"""A plain BLOB of MySQL ends at 64 KiB."""

users = Table(
    "users",
    metadata,
    Column("user_id", String(63), primary_key=True),
    Column("email", Utf8(MAX_EMAIL_BYTES), nullable=False),
    Column("password_hash", String(255), nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_at", Micros, nullable=False),
    Column("updated_at", Micros, nullable=False),
    UniqueConstraint("email"),
    **OPTIONS,
)

# The first token of a family is its root: `family_id` is its own hash. Every change of a family
# locks the root, which alone has `revoked_at` and `family_expires_at`.
refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("token_hash", SHA256, primary_key=True),
    Column("family_id", SHA256, nullable=False, index=True),
    Column("user_id", String(63), ForeignKey("users.user_id"), nullable=False, index=True),
    Column("created_at", Micros, nullable=False),
    Column("expires_at", Micros, nullable=False),
    Column("used_at", Micros, nullable=True),
    Column("revoked_at", Micros, nullable=True),
    # When the family's last token expires; NULL in the other rows.
    Column("family_expires_at", Micros, nullable=True, index=True),
    **OPTIONS,
)

# The lock of a row protects the counts, and all of the job's photos with their versions.
upload_jobs = Table(
    "upload_jobs",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("tenant", Exact(128), nullable=False),
    Column("user_id", Exact(255), nullable=False),
    Column("drive", String(63), nullable=False),
    Column("strategy", String(32), nullable=False),
    # Follows from the counts; a column for listings by status.
    Column("status", String(32), nullable=False),
    Column("queued", Integer, nullable=False),
    Column("uploading", Integer, nullable=False),
    Column("processing", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("cancelled", Integer, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    Column("sent_bytes", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Micros, nullable=False),
    Column("updated_at", Micros, nullable=False),
    Column("finished_at", Micros, nullable=True),
    Index(None, "tenant", "user_id", "created_at", "job_id"),
    **OPTIONS,
)

photos = Table(
    "photos",
    metadata,
    Column("photo_id", String(64), primary_key=True),
    Column("job_id", String(64), ForeignKey("upload_jobs.job_id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("tenant", Exact(128), nullable=False),
    Column("user_id", Exact(255), nullable=False),
    # No foreign key: the node comes after the photo.
    Column("node_id", String(128), nullable=False),
    Column("drive", String(63), nullable=False),
    Column("path", Utf8(MAX_PATH_BYTES), nullable=False),
    Column("bucket", String(255), nullable=False),
    Column("object_key", Utf8(MAX_KEY_BYTES), nullable=False),
    Column("filename", Utf8(MAX_FILENAME_BYTES), nullable=False),
    # The file name without regard to case, for searches.
    Column("search_key", Utf8(_MAX_SEARCH_BYTES), nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("detail", String(512), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("multipart_id", String(1024), nullable=False),
    Column("created_at", Micros, nullable=False),
    Column("updated_at", Micros, nullable=False),
    # `updated_at` while the photo is open, NULL afterwards: an index of the few open ones.
    Column("open_updated_at", Micros, nullable=True),
    Column("attempt_started_at", Micros, nullable=False),
    Column("asked_at", Micros, nullable=False),
    Column("completed_at", Micros, nullable=True),
    Column("taken_at", Micros, nullable=True),
    # `taken_at`, or `created_at` while that is NULL: one column, so that an index sorts it.
    Column("dated_at", Micros, nullable=False),
    Column("deleted_at", Micros, nullable=True),
    UniqueConstraint("node_id"),
    Index(None, "job_id", "position"),
    Index(None, "open_updated_at", "photo_id"),
    # One for each sort of a listing.
    Index(None, "tenant", "user_id", "created_at", "photo_id"),
    Index(None, "tenant", "user_id", "dated_at", "photo_id"),
    Index(None, "tenant", "user_id", "filename", "photo_id"),
    **OPTIONS,
)

# Parts that the store has of the current attempt, as far as somebody asked it.
upload_parts = Table(
    "upload_parts",
    metadata,
    Column("photo_id", String(64), ForeignKey("photos.photo_id"), nullable=False),
    Column("part_number", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("etag", String(255), nullable=False),
    Column("updated_at", Micros, nullable=False),
    PrimaryKeyConstraint("photo_id", "part_number"),
    **OPTIONS,
)

# A row goes with the last photo that has the tag.
tags = Table(
    "tags",
    metadata,
    Column("tag_id", ROW_ID, primary_key=True, autoincrement=True),
    Column("tenant", Exact(128), nullable=False),
    Column("user_id", Exact(255), nullable=False),
    Column("label", Utf8(4 * MAX_LABEL_CHARACTERS), nullable=False),
    Column("created_at", Micros, nullable=False),
    UniqueConstraint("tenant", "user_id", "label"),
    sqlite_autoincrement=True,
    **OPTIONS,
)

photo_tags = Table(
    "photo_tags",
    metadata,
    Column("photo_id", String(64), ForeignKey("photos.photo_id"), nullable=False),
    Column("tag_id", ROW_ID, ForeignKey("tags.tag_id"), nullable=False, index=True),
    PrimaryKeyConstraint("photo_id", "tag_id"),
    **OPTIONS,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", Exact(128), nullable=False),
    Column("user_id", Exact(255), nullable=False),
    Column("idempotency_key", Exact(255), nullable=False),
    # SHA-256 of the request.
    Column("fingerprint", SHA256, nullable=False),
    Column("operation_id", String(36), nullable=False),
    # End of the lease of the process that executes the request.
    Column("claimed_until", Micros, nullable=False),
    # NULL until the request is answered.
    Column("answer", _BODY, nullable=True),
    Column("created_at", Micros, nullable=False),
    Column("expires_at", Micros, nullable=False, index=True),
    PrimaryKeyConstraint("tenant", "user_id", "idempotency_key"),
    **OPTIONS,
)
