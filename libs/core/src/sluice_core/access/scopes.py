"""Scopes of tokens (docs/security.md)."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """What a token allows, within its tenant and beside the grants on a drive."""

    UPLOADS_WRITE = "uploads:write"
    UPLOADS_READ = "uploads:read"
    NODES_READ = "nodes:read"
    NODES_WRITE = "nodes:write"
    DRIVES_READ = "drives:read"
    DRIVES_ADMIN = "drives:admin"
    PHOTOS_READ = "photos:read"
    PHOTOS_WRITE = "photos:write"
    TENANT_ADMIN = "tenant:admin"
    """Everything in its tenant."""
