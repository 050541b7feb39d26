"""Use cases of grants: give, take away and list the roles on a drive."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_core.access.actions import Action
from sluice_core.access.audit import audited, grant_object
from sluice_core.access.grants import Grant, Grantee, GranteeKind, Role
from sluice_core.access.principal import Principal
from sluice_core.errors import InvalidArgument
from sluice_core.ports.catalogue import Catalogue, Drive
from sluice_core.ports.drive_with_grants import DriveWithGrants
from sluice_core.ports.grants import GrantPage
from sluice_core.uploads.names import check_drive_name
from sluice_repository.rpc.access import DriveGuard

MAX_GRANTEE_CHARACTERS = 255
"""OpenID Connect's limit of `sub`."""

_CURSOR_SEPARATOR = ":"


class DriveSharing:
    """The use cases of grants. The last owner may be removed: the tenant's administrators remain.

    All methods raise `InvalidArgument` for invalid names, `NotFound` DRIVE_NOT_FOUND,
    `PermissionDenied` MISSING_SCOPE or NOT_GRANTED.
    """

    def __init__(self, catalogue: Catalogue, guard: DriveGuard) -> None:
        self._catalogue = catalogue
        self._guard = guard

    async def grant(self, principal: Principal, drive: str, grantee: Grantee, role: Role) -> Grant:
        """Give the grantee this role in place of a former one. Idempotent.

        Raise `FailedPrecondition` TOO_MANY_GRANTS.
        """
        audit = audited(Action.GRANT_DRIVE, grant_object(drive, grantee, role))
        check_grantee(grantee)
        await self._guard.check(principal, Action.GRANT_DRIVE, check_drive_name(drive))
        return await self._catalogue.put_grant(principal.tenant, drive, grantee, role, audit=audit)

    async def revoke(self, principal: Principal, drive: str, grantee: Grantee) -> None:
        """Take the grantee's role away. Idempotent."""
        audit = audited(Action.REVOKE_DRIVE, grant_object(drive, grantee))
        check_grantee(grantee)
        await self._guard.check(principal, Action.REVOKE_DRIVE, check_drive_name(drive))
        await self._catalogue.remove_grant(principal.tenant, drive, grantee, audit=audit)

    async def get(self, principal: Principal, drive: Drive) -> Sequence[Grant]:
        """Return all grants of a drive that the caller may get."""
        grants = await self._catalogue.grants_of(drive.tenant, drive.name)
        DriveWithGrants.of(drive, grants).may(principal, Action.GET_DRIVE).enforce()
        return grants

    async def list(
        self, principal: Principal, drive: str, limit: int, after: Grantee | None
    ) -> GrantPage:
        await self._guard.check(principal, Action.LIST_GRANTS, check_drive_name(drive))
        return await self._catalogue.list_grants(principal.tenant, drive, limit, after)


def check_grantee(grantee: Grantee) -> Grantee:
    """Check for 1 to 255 printable characters. BAD_GRANTEE."""
    name = grantee.name
    if not 0 < len(name) <= MAX_GRANTEE_CHARACTERS or not name.isprintable():
        raise InvalidArgument(
            "BAD_GRANTEE",
            f"A subject or group has 1 to {MAX_GRANTEE_CHARACTERS} printable characters.",
            field="grantee",
        )
    return grantee


def grantee_cursor(grantee: Grantee | None) -> str:
    """Return the cursor of the page after this grantee, empty without one."""
    return "" if grantee is None else f"{grantee.kind}{_CURSOR_SEPARATOR}{grantee.name}"


def grantee_at(cursor: str) -> Grantee | None:
    """Return the grantee of a cursor. Raise `InvalidArgument` for one that is none."""
    if not cursor:
        return None
    kind, _, name = cursor.partition(_CURSOR_SEPARATOR)
    if kind not in set(GranteeKind):
        raise InvalidArgument("BAD_GRANTEE", "The cursor names no grantee; start again.")
    return check_grantee(Grantee(GranteeKind(kind), name))
