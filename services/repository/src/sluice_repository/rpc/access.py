"""Access of callers to drives."""

from __future__ import annotations

from sluice_core.access.actions import Action
from sluice_core.access.decisions import (
    NamedDrive,
    depends_on_grants,
    grantees_of,
    is_admin,
    may,
)
from sluice_core.access.grants import Access, Grantee
from sluice_core.access.principal import Principal
from sluice_core.ports.catalogue import Catalogue
from sluice_core.ports.drive_with_grants import DriveWithGrants


class DriveGuard:
    """Decides who may do what with a drive and its nodes."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def check(
        self, principal: Principal, action: Action, name: str, *, upload_subject: str | None = None
    ) -> None:
        """Check that the caller may do this in a drive of this name, or to an upload in it.

        Reads no drive if the decision does not depend on it: then it need not exist. Raise
        `PermissionDenied` MISSING_SCOPE or NOT_GRANTED, `NotFound` DRIVE_NOT_FOUND.
        """
        tenant = principal.tenant
        if not depends_on_grants(principal, action, upload_subject):
            named = NamedDrive(tenant, name)
            may(principal, action, named, upload_subject=upload_subject).enforce()
            return
        drive = DriveWithGrants(await self._catalogue.get_drive(tenant, name))
        # On an open drive a role counts only for somebody else's upload.
        is_foreign = upload_subject not in (None, principal.subject)
        if drive.drive.access is Access.GRANTS or is_foreign:
            grants = await self._catalogue.grants_of(tenant, name)
            drive = DriveWithGrants.of(drive.drive, grants)
        drive.may(principal, action, upload_subject).enforce()


def future_owner(principal: Principal, access: Access) -> Grantee | None:
    """Return who becomes the owner of a drive that the caller creates or closes.

    An administrator of the tenant needs no grant. Anybody else would lock themselves out.
    """
    if is_admin(principal) or access is not Access.GRANTS:
        return None
    return grantees_of(principal)[0]


def viewers(principal: Principal) -> tuple[Grantee, ...] | None:
    """Return whose drives a listing shows, None for every drive of the tenant."""
    return None if is_admin(principal) else grantees_of(principal)
