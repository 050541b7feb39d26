"""Catalogue port: the grants of drives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sluice_core.access.audit import AuditEntry
from sluice_core.access.grants import Grant, Grantee, Role


@dataclass(frozen=True, slots=True)
class GrantPage:
    grants: tuple[Grant, ...]
    next_after: Grantee | None


class GrantCatalogue(Protocol):
    """Grants of drives. All methods raise `NotFound` DRIVE_NOT_FOUND."""

    async def put_grant(
        self,
        tenant: str,
        drive: str,
        grantee: Grantee,
        role: Role,
        *,
        audit: AuditEntry | None = None,
    ) -> Grant:
        """Give the grantee this role, in place of a former one.

        A repeated call changes nothing and returns the same grant. Raise `FailedPrecondition`
        TOO_MANY_GRANTS for a new grantee beyond `MAX_GRANTS`.
        """
        ...

    async def remove_grant(
        self, tenant: str, drive: str, grantee: Grantee, *, audit: AuditEntry | None = None
    ) -> None:
        """Remove the grantee's role. No-op without one."""
        ...

    async def grants_of(self, tenant: str, drive: str) -> Sequence[Grant]:
        """Return all grants of the drive, at most `MAX_GRANTS`, by grantee."""
        ...

    async def list_grants(
        self, tenant: str, drive: str, limit: int, after: Grantee | None
    ) -> GrantPage:
        """Return grants by grantee, starting after the grantee `after`."""
        ...
