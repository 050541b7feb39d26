"""The drive of a user's photos."""

from __future__ import annotations

from dataclasses import replace

from sluice_core.access.actions import Action
from sluice_core.access.grants import Access
from sluice_core.access.principal import Principal
from sluice_core.access.scopes import Scope
from sluice_core.errors import NotFound, PermissionDenied
from sluice_core.ports.catalogue import Drive
from sluice_core.ports.drive_with_grants import DriveWithGrants
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_gateway.auth.homes import HOME_DRIVE
from sluice_gateway.jobs.ports import Homes


async def writable_drive(catalogue: GatewayCatalogue, homes: Homes, principal: Principal) -> Drive:
    """Return the drive that the caller's photos go to; create it at the first use.

    Raise `PermissionDenied` NOT_GRANTED, DRIVE_READ_ONLY.
    """
    try:
        drive = await catalogue.get_drive(principal.tenant, HOME_DRIVE)
    except NotFound:
        await homes.prepare_home(principal.tenant)
        drive = await catalogue.get_drive(principal.tenant, HOME_DRIVE)
    is_open = drive.access is Access.TENANT
    grants = () if is_open else await catalogue.grants_of(drive.tenant, drive.name)
    # To upload a photo needs what any upload needs, but for the scope, which was checked.
    uploader = replace(principal, scopes=principal.scopes | {Scope.UPLOADS_WRITE})
    DriveWithGrants.of(drive, grants).may(uploader, Action.INITIATE_UPLOAD).enforce()
    if drive.policy.read_only:
        raise PermissionDenied(
            "DRIVE_READ_ONLY", "The drive takes no uploads; ask its owner to open it."
        )
    return drive
