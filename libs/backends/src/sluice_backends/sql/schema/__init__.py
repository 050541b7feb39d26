"""Tables of the catalogue: one schema for SQLite, MySQL 8 and MariaDB 10.11.

Migrations create the tables; a test compares both.
"""

from __future__ import annotations

from sluice_backends.sql.schema.catalogue import (
    DELETED,
    LIVE,
    SUPERSEDED,
    audit_log,
    cleared_intents,
    drive_grants,
    drives,
    leases,
    nodes,
    object_deletions,
    object_intents,
    outbox,
    paths,
    processings,
    quota_reservations,
    quotas,
    thumbnails,
    usage_changes,
    usage_totals,
)
from sluice_backends.sql.schema.columns import MAX_KEY_BYTES, Exact, Micros, Utf8, metadata
from sluice_backends.sql.schema.gateway import (
    idempotency_keys,
    photo_tags,
    photos,
    refresh_tokens,
    tags,
    upload_jobs,
    upload_parts,
    users,
)

__all__ = [
    "DELETED",
    "LIVE",
    "MAX_KEY_BYTES",
    "SUPERSEDED",
    "Exact",
    "Micros",
    "Utf8",
    "audit_log",
    "cleared_intents",
    "drive_grants",
    "drives",
    "idempotency_keys",
    "leases",
    "metadata",
    "nodes",
    "object_deletions",
    "object_intents",
    "outbox",
    "paths",
    "photo_tags",
    "photos",
    "processings",
    "quota_reservations",
    "quotas",
    "refresh_tokens",
    "tags",
    "thumbnails",
    "upload_jobs",
    "upload_parts",
    "usage_changes",
    "usage_totals",
    "users",
]
