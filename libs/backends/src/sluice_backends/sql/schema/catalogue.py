"""Tables of drives, nodes, quotas, the outbox and the audit log."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

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
from sluice_core.uploads.names import MAX_PATH_BYTES

LIVE = "LIVE"
SUPERSEDED = "SUPERSEDED"
DELETED = "DELETED"
"""States of a node row; the last two are tombstones and stay forever (rule 19)."""

drives = Table(
    "drives",
    metadata,
    Column("drive_id", ROW_ID, primary_key=True, autoincrement=True),
    Column("tenant", Exact(128), nullable=False),
    Column("name", String(63), nullable=False),
    Column("bucket", String(255), nullable=False),
    Column("key_prefix", String(512), nullable=False),
    Column("integrity", String(32), nullable=False),
    Column("part_bytes", BigInteger, nullable=False),
    Column("require_uniform", Boolean, nullable=False),
    Column("read_only", Boolean, nullable=False),
    Column("storage_class", String(64), nullable=False),
    Column("encryption", String(255), nullable=False),
    Column("created_at", Micros, nullable=False),
    Column("updated_at", Micros, nullable=False),
    # The default serves an older release that does not know the column.
    Column("drop_location", Boolean, nullable=False, server_default=text("0")),
    Column("access", String(16), nullable=False, server_default=text("'tenant'")),
    # Time of the drive's deletion, else NULL. The row stays, because tombstones of nodes reference
    # it, under a name that no drive can have.
    Column("deleted_at", Micros, nullable=True),
    UniqueConstraint("tenant", "name"),
    **OPTIONS,
)

drive_grants = Table(
    "drive_grants",
    metadata,
    Column("drive_id", ROW_ID, ForeignKey("drives.drive_id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("grantee", Exact(255), nullable=False),
    Column("role", Integer, nullable=False),
    Column("created_at", Micros, nullable=False),
    PrimaryKeyConstraint("drive_id", "kind", "grantee"),
    **OPTIONS,
)

# Upper limits of a drive, or of a tenant under the drive id 0. 0 means no limit of this kind.
quotas = Table(
    "quotas",
    metadata,
    Column("tenant", Exact(128), nullable=False),
    Column("drive_id", BigInteger, nullable=False),
    Column("max_bytes", BigInteger, nullable=False),
    Column("max_nodes", BigInteger, nullable=False),
    Column("max_open_uploads", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "drive_id"),
    **OPTIONS,
)

# Live nodes of a drive, up to the changes that are folded in. No row means nothing counted yet.
usage_totals = Table(
    "usage_totals",
    metadata,
    Column("drive_id", BigInteger, nullable=False, autoincrement=False),
    Column("tenant", Exact(128), nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("nodes", BigInteger, nullable=False),
    # Time of the last comparison with the nodes; 0 before the first.
    Column("reconciled_at", Micros, nullable=False, index=True),
    PrimaryKeyConstraint("drive_id"),
    **OPTIONS,
)

# What each commit and deletion of nodes changes, inserted in its transaction. A counter of the
# drive would serialize all commits to it. The sweeper folds the rows into `usage_totals`.
usage_changes = Table(
    "usage_changes",
    metadata,
    Column("change_id", ROW_ID, primary_key=True, autoincrement=True),
    Column("tenant", Exact(128), nullable=False),
    Column("drive_id", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("nodes", Integer, nullable=False),
    # With all that is summed, here and in the next table.
    Index(None, "tenant", "bytes", "nodes"),
    Index(None, "drive_id", "bytes", "nodes"),
    sqlite_autoincrement=True,
    **OPTIONS,
)

# Room of an open upload: its bytes, one node and one open upload. The commit of its node turns it
# into usage; the sweeper deletes those of other ended uploads.
quota_reservations = Table(
    "quota_reservations",
    metadata,
    Column("upload_id", String(128), nullable=False),
    Column("drive_id", BigInteger, nullable=False),
    Column("tenant", Exact(128), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    # Time since which nobody has asserted that the upload is open. A later time than now delays the
    # next check.
    Column("checked_at", Micros, nullable=False, index=True),
    # The drive is part of the key: a caller names the upload, and may write to this drive only.
    PrimaryKeyConstraint("upload_id", "drive_id"),
    Index(None, "tenant", "bytes"),
    Index(None, "drive_id", "bytes"),
    **OPTIONS,
)

nodes = Table(
    "nodes",
    metadata,
    Column("node_id", String(128), primary_key=True),
    Column("drive_id", ROW_ID, ForeignKey("drives.drive_id"), nullable=False),
    Column("path", Utf8(MAX_PATH_BYTES), nullable=False),
    Column("upload_id", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("crc32c", BigInteger, nullable=False),
    Column("sha256", SHA256, nullable=True),
    # Time since which a SHA-256 is owed (rule 20), else NULL. The verifier's work list.
    Column("sha256_owed_since", Micros, nullable=True, index=True),
    Column("metadata", Text, nullable=False),
    Column("bucket", String(255), nullable=False),
    Column("object_key", Utf8(MAX_KEY_BYTES), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Micros, nullable=False),
    Column("updated_at", Micros, nullable=False),
    # For the check whether a live node references an object (rule 26).
    Index(None, "object_key", "bucket"),
    # For the sum over a drive, which does not read the rows.
    Index(None, "drive_id", "state", "size"),
    **OPTIONS,
)

# The live node of each path. A commit locks the row, and the primary key makes a path unique
# (rule 19). Its bytewise order is the order of listings.
paths = Table(
    "paths",
    metadata,
    Column("drive_id", ROW_ID, ForeignKey("drives.drive_id"), nullable=False),
    Column("path", Utf8(MAX_PATH_BYTES), nullable=False),
    Column("node_id", String(128), ForeignKey("nodes.node_id"), nullable=False),
    PrimaryKeyConstraint("drive_id", "path"),
    UniqueConstraint("node_id"),
    sqlite_with_rowid=False,
    **OPTIONS,
)

# The processor's result for a node's content; no row means not yet processed.
processings = Table(
    "processings",
    metadata,
    Column("node_id", String(128), ForeignKey("nodes.node_id"), primary_key=True),
    Column("etag", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("detail", String(512), nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("frames", Integer, nullable=False),
    Column("exif", Text, nullable=False),
    # Separate from `exif`, so that it can be omitted; NULL when omitted or unknown.
    Column("location", Text, nullable=True),
    Column("processed_at", Micros, nullable=False),
    **OPTIONS,
)

# Objects of a node besides its content. A row is inserted before the object exists, with only the
# name filled in, and is deleted when the object's deletion is scheduled.
thumbnails = Table(
    "thumbnails",
    metadata,
    Column("node_id", String(128), ForeignKey("nodes.node_id"), nullable=False),
    Column("object_key", Utf8(MAX_KEY_BYTES), nullable=False),
    Column("bucket", String(255), nullable=False),
    Column("recorded", Boolean, nullable=False),
    Column("size", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("crc32c", BigInteger, nullable=False),
    Column("etag", String(255), nullable=False),
    PrimaryKeyConstraint("node_id", "object_key"),
    Index(None, "object_key", "bucket"),
    **OPTIONS,
)

# Events that wait for the relay (rule 22). Published rows are deleted, so every row is unpublished
# and the table is as small as the backlog. Autoincrement never reuses an id, here and in
# `object_deletions`, so a late "done" cannot hit another row.
outbox = Table(
    "outbox",
    metadata,
    Column("row_id", ROW_ID, primary_key=True, autoincrement=True),
    Column("event_id", String(36), nullable=False),
    Column("type", String(128), nullable=False),
    Column("topic", String(128), nullable=False),
    Column("event_key", String(128), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("occurred_at", Micros, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("headers", Text, nullable=False),
    # The publisher refused an event of this key: the relay's pages exclude its events, which are
    # retried separately. The default serves an older release that does not know the column.
    Column("withheld", Boolean, nullable=False, server_default=text("0")),
    Index(None, "withheld"),
    Index(None, "event_key"),
    sqlite_autoincrement=True,
    **OPTIONS,
)

object_deletions = Table(
    "object_deletions",
    metadata,
    Column("deletion_id", ROW_ID, primary_key=True, autoincrement=True),
    Column("bucket", String(255), nullable=False),
    Column("object_key", Utf8(MAX_KEY_BYTES), nullable=False),
    Column("not_before", Micros, nullable=False, index=True),
    sqlite_autoincrement=True,
    **OPTIONS,
)

object_intents = Table(
    "object_intents",
    metadata,
    Column("upload_id", String(128), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("bucket", String(255), nullable=False),
    Column("object_key", Utf8(MAX_KEY_BYTES), nullable=False),
    Column("multipart_id", String(1024), nullable=False),
    Column("created_at", Micros, nullable=False, index=True),
    # An upload id recurs with its request id; the object key contains the node id.
    PrimaryKeyConstraint("upload_id", "object_key"),
    # For the check whether an upload is about to create an object.
    Index(None, "object_key", "bucket"),
    **OPTIONS,
)

# Intents cleared after the end of their upload: its commits can no longer create a node.
cleared_intents = Table(
    "cleared_intents",
    metadata,
    Column("upload_id", String(128), nullable=False),
    Column("object_key", Utf8(MAX_KEY_BYTES), nullable=False),
    Column("cleared_at", Micros, nullable=False, index=True),
    PrimaryKeyConstraint("upload_id", "object_key"),
    **OPTIONS,
)

# Who changed what, and who was refused. Append only, apart from the retention.
audit_log = Table(
    "audit_log",
    metadata,
    Column("row_id", ROW_ID, primary_key=True, autoincrement=True),
    Column("occurred_at", Micros, nullable=False, index=True),
    # Empty for refused tokens.
    Column("tenant", Exact(128), nullable=False),
    Column("subject", Exact(255), nullable=False),
    Column("action", String(64), nullable=False),
    Column("object", Exact(512), nullable=False),
    Column("outcome", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("peer", Exact(64), nullable=False),
    Column("occurrences", BigInteger, nullable=False),
    Index(None, "tenant", "occurred_at"),
    Index(None, "tenant", "subject", "occurred_at"),
    # The entries of a rare action, without the rest of the tenant's log.
    Index(None, "tenant", "action", "occurred_at"),
    sqlite_autoincrement=True,
    **OPTIONS,
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("holder", String(255), nullable=False),
    Column("expires_at", Micros, nullable=False),
    **OPTIONS,
)
