"""Catalogue port: the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sluice_core.access.audit import AuditEntry


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What to list. Times are Unix seconds: from `since` on, before `until`; None for any."""

    since: float | None = None
    until: float | None = None
    subject: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class AuditCursor:
    """Place in a listing: after the entry of this time and row."""

    occurred_at: float
    row_id: int


@dataclass(frozen=True, slots=True)
class AuditPage:
    entries: tuple[AuditEntry, ...]
    next_after: AuditCursor | None


class AuditCatalogue(Protocol):
    """The audit log: append only, apart from the retention.

    A successful change appends its entry in its own transaction (`audit` of its method), so that
    there is none without the other. A repeated call that changes nothing appends none.
    """

    async def append_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Append entries that belong to no other transaction, all or none."""
        ...

    async def list_audit(
        self, tenant: str, limit: int, after: AuditCursor | None, wanted: AuditFilter
    ) -> AuditPage:
        """Return entries of the tenant, newest first, starting after the cursor."""
        ...

    async def purge_audit(self, older_than: float, limit: int) -> int:
        """Delete the oldest entries before this time (of `now`); return how many.

        Of all tenants. Fewer than `limit` means that none is left, or that a concurrent call
        deletes the same ones.
        """
        ...
