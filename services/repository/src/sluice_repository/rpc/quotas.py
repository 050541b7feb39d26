"""Use cases of quotas: limits and usage, and the reservations of the intake."""

from __future__ import annotations

from dataclasses import asdict, astuple

from sluice_core.access.actions import Action
from sluice_core.access.audit import audited, quota_object
from sluice_core.access.decisions import Decision, Refusal, check_whole_tenant
from sluice_core.access.principal import Principal
from sluice_core.errors import InvalidArgument, NotFound
from sluice_core.ports import LifecycleLedger
from sluice_core.ports.catalogue import Catalogue
from sluice_core.ports.quotas import Quota, Usage
from sluice_core.uploads.model import MAX_OBJECT_BYTES, UploadOwner
from sluice_core.uploads.names import check_drive_name, check_upload_id
from sluice_repository.rpc.access import DriveGuard

MAX_LIMIT = 2**62
"""Largest limit. The sum of two still fits into the database's integers."""


class QuotaRegistry:
    """The use cases of quotas. An empty name of a drive means the whole tenant.

    All methods raise `InvalidArgument` for invalid values, `NotFound` DRIVE_NOT_FOUND,
    `PermissionDenied` MISSING_SCOPE or NOT_GRANTED.
    """

    def __init__(self, catalogue: Catalogue, ledger: LifecycleLedger, guard: DriveGuard) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._guard = guard

    async def set(self, principal: Principal, drive: str, quota: Quota) -> tuple[Quota, Usage]:
        """Set the limits; 0 removes a limit. Idempotent.

        Limits below the usage are allowed: they refuse new uploads and delete nothing.
        """
        if not all(0 <= limit <= MAX_LIMIT for limit in astuple(quota)):
            raise InvalidArgument(
                "BAD_QUOTA",
                f"A limit of a quota is 1 to {MAX_LIMIT}, or 0 for no limit.",
                field="quota",
            )
        audit = audited(Action.SET_QUOTA, quota_object(drive, asdict(quota)))
        await self._check(principal, Action.SET_QUOTA, drive)
        await self._catalogue.set_quota(principal.tenant, drive, quota, audit=audit)
        return await self._catalogue.get_quota(principal.tenant, drive)

    async def get(self, principal: Principal, drive: str) -> tuple[Quota, Usage]:
        await self._check(principal, Action.GET_USAGE, drive)
        return await self._catalogue.get_quota(principal.tenant, drive)

    async def reserve(self, principal: Principal, drive: str, upload_id: str, size: int) -> bool:
        """Reserve room for an upload; return whether a quota applies.

        The caller may write to the upload, or is about to open it. Raise `ResourceExhausted`
        QUOTA_EXCEEDED.
        """
        owner = await self._owner_of(principal, drive, upload_id)
        if not 0 <= size <= MAX_OBJECT_BYTES:
            raise InvalidArgument(
                "BAD_RESERVATION", f"Reserve 0 to {MAX_OBJECT_BYTES} bytes.", field="bytes"
            )
        action = Action.RESERVE_QUOTA
        if owner is not None and owner.drive != drive:
            Decision(action, Refusal.NOT_GRANTED).enforce()
        subject = principal.subject if owner is None else owner.subject
        await self._guard.check(principal, action, drive, upload_subject=subject)
        return await self._catalogue.reserve(principal.tenant, drive, upload_id, size)

    async def release(self, principal: Principal, drive: str, upload_id: str) -> None:
        """Give the room of an upload in this drive back. Idempotent.

        The caller may write to the upload, or was about to open it. At worst the room of an own
        open upload is lost with it: its commit then needs room anew. Room in another drive than the
        upload's belongs to no upload, and is left by a request that did not open it.
        """
        action = Action.RELEASE_QUOTA
        owner = await self._owner_of(principal, drive, upload_id)
        subject = owner.subject if owner and owner.drive == drive else principal.subject
        await self._guard.check(principal, action, drive, upload_subject=subject)
        await self._catalogue.release(principal.tenant, upload_id, drive)

    async def _owner_of(
        self, principal: Principal, drive: str, upload_id: str
    ) -> UploadOwner | None:
        """Return the owner of an upload; None for one that is unknown, or of another tenant.

        Such an upload counts as the caller's own: it is not opened yet. The sweeper releases the
        reservation if it never is.
        """
        check_drive_name(drive)
        check_upload_id(upload_id)
        try:
            owner = await self._ledger.owner_of(upload_id)
        except NotFound:
            return None
        return owner if owner.tenant == principal.tenant else None

    async def _check(self, principal: Principal, action: Action, drive: str) -> None:
        if drive:
            await self._guard.check(principal, action, check_drive_name(drive))
        else:
            check_whole_tenant(principal)
