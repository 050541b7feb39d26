"""Deletion of drives."""

from __future__ import annotations

from sluice_core.access.actions import Action
from sluice_core.access.audit import audited, drive_object
from sluice_core.access.principal import Principal
from sluice_core.errors import FailedPrecondition
from sluice_core.ports import LifecycleLedger
from sluice_core.ports.catalogue import Catalogue
from sluice_core.uploads.model import UploadStatus
from sluice_core.uploads.names import check_drive_name
from sluice_core.uploads.states import TERMINAL
from sluice_repository.rpc.access import DriveGuard

OPEN = frozenset(UploadStatus) - TERMINAL

_PAGE = 1000


class DriveDeleter:
    """Deletes empty drives. The ledger knows the open uploads, the catalogue the nodes."""

    def __init__(self, catalogue: Catalogue, ledger: LifecycleLedger, guard: DriveGuard) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._guard = guard

    async def delete(self, principal: Principal, name: str) -> None:
        """Delete a drive without nodes and open uploads, with its grants.

        The sweeper still removes the objects of deleted nodes and of ended uploads, which it knows
        by their keys. An upload that begins meanwhile fails with DRIVE_NOT_FOUND when it completes,
        and its object is removed like that of any failed upload.

        Raise `InvalidArgument` BAD_DRIVE_NAME, `NotFound` DRIVE_NOT_FOUND, `PermissionDenied`
        MISSING_SCOPE or NOT_GRANTED, `FailedPrecondition` DRIVE_NOT_EMPTY.
        """
        audit = audited(Action.DELETE_DRIVE, drive_object(name))
        check_drive_name(name, "name")
        await self._guard.check(principal, Action.DELETE_DRIVE, name)
        if await self._has_open_uploads(principal.tenant, name):
            raise FailedPrecondition(
                "DRIVE_NOT_EMPTY",
                f"The drive {name!r} has open uploads; complete or abort them first.",
                field="name",
            )
        await self._catalogue.delete_drive(principal.tenant, name, audit=audit)

    async def _has_open_uploads(self, tenant: str, name: str) -> bool:
        after = ""
        while True:
            page = await self._ledger.list_uploads(tenant, OPEN, _PAGE, after)
            if any(upload.new.drive == name for upload in page.uploads):
                return True
            if not page.next_after:
                return False
            after = page.next_after
