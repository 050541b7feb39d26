"""Catalogue port: quotas of tenants and drives, their usage and reservations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sluice_core.access.audit import AuditEntry

QUOTA_EXCEEDED = "QUOTA_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Quota:
    """Upper limits; 0 means no limit of this kind."""

    max_bytes: int = 0
    max_nodes: int = 0
    max_open_uploads: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What counts against a quota.

    `bytes` and `nodes` are those of live nodes. `reserved_bytes` and `open_uploads` are those of
    the reservations: of each open upload that began under a quota.
    """

    bytes: int = 0
    nodes: int = 0
    reserved_bytes: int = 0
    open_uploads: int = 0


@dataclass(frozen=True, slots=True)
class QuotaReservation:
    """Room that an open upload holds; `checked_at` by the database's clock.

    `drive` is the name of the drive `drive_id`, and that of no drive if it was deleted.
    """

    upload_id: str
    tenant: str
    drive: str
    drive_id: int
    size: int
    checked_at: float


@dataclass(frozen=True, slots=True)
class UsageDifference:
    """Correction of the usage of a drive: what the nodes have beyond what was counted."""

    tenant: str
    drive: str
    bytes: int
    nodes: int


class QuotaCatalogue(Protocol):
    """Quotas (ADR 0024). `drive` is the name of a drive, or empty for the whole tenant.

    Usage plus reservations never exceed a limit, except by a limit that was lowered, by adopted
    objects and by a counting error that reconciliation corrects. Methods that name a drive raise
    `NotFound` DRIVE_NOT_FOUND.
    """

    async def set_quota(
        self, tenant: str, drive: str, quota: Quota, *, audit: AuditEntry | None = None
    ) -> None:
        """Set the limits. A quota without any limit is removed. Idempotent.

        Args:
            audit: entry to append if anything changes.
        """
        ...

    async def get_quota(self, tenant: str, drive: str) -> tuple[Quota, Usage]:
        """Return limits and usage; the usage is counted without a quota too, but no reservation."""
        ...

    async def check_room(
        self, tenant: str, drive: str, size: int, node_count: int, *, job_id: str = ""
    ) -> None:
        """Check that nodes of `size` bytes in all fit at the moment; reserve nothing.

        Photos of open jobs that may still arrive count as reserved, except those of the job
        `job_id`, for a repeated creation, and those that are sent by tus, which reserve themselves.

        Raise `ResourceExhausted` QUOTA_EXCEEDED as `reserve` does.
        """
        ...

    async def reserve(self, tenant: str, drive: str, upload_id: str, size: int) -> bool:
        """Reserve room for `size` bytes, one node and one open upload.

        A repeated call reserves nothing twice: the upload's reservation grows to `size` and never
        shrinks. Return False without a change when neither the drive nor the tenant has a quota.

        Raise `ResourceExhausted` QUOTA_EXCEEDED without a retry delay; its metadata has `scope`
        (drive or tenant), `kind` (bytes, nodes or open_uploads), `limit`, `used`, `reserved` and
        `requested`.
        """
        ...

    async def release(self, tenant: str, upload_id: str, drive: str = "") -> None:
        """Delete the upload's reservation, with `drive` only one in this drive. No-op without."""
        ...

    async def reservations_unchecked(
        self, since: float, limit: int, offset: int = 0
    ) -> Sequence[QuotaReservation]:
        """Return reservations not checked since this time (of `now`), longest first."""
        ...

    async def reservations_checked(
        self, reservations: Sequence[QuotaReservation], delay_seconds: float
    ) -> None:
        """Record that the uploads are open now, and delay their next check by this time."""
        ...

    async def drop_reservations(self, reservations: Sequence[QuotaReservation]) -> None:
        """Delete these reservations, in these drives only. Idempotent."""
        ...

    async def shrink_reservation(self, reservation: QuotaReservation, size: int) -> None:
        """Reduce a reservation to at most `size` bytes."""
        ...

    async def fold_usage(self, limit: int) -> int:
        """Fold at most `limit` changes of usage into the totals; return how many were folded."""
        ...

    async def drives_unreconciled(self, since: float, limit: int, offset: int = 0) -> Sequence[int]:
        """Return row ids of drives whose usage was not compared with the nodes since this time."""
        ...

    async def reconcile_usage(self, drive_id: int) -> UsageDifference | None:
        """Compare the usage of a drive with its live nodes, and correct it.

        Return the correction; None when there was no difference, when another call began
        meanwhile, and for a deleted drive. A call that fails counts as a comparison, too.
        """
        ...
