"""The decision whether a principal may do something. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

from sluice_core.access.actions import RULES, Action, Rule
from sluice_core.access.grants import Access, Grantee, GranteeKind, Role
from sluice_core.access.principal import Principal
from sluice_core.access.scopes import Scope
from sluice_core.errors import NotFound, PermissionDenied, SluiceError

Grants = Mapping[Grantee, Role]
"""The grants of one drive."""

NO_GRANTS: Final[Grants] = MappingProxyType({})

_ANY = "*"
"""At the end of an entry of `Principal.drives`: every name with this prefix."""


class GuardedDrive(Protocol):
    """What counts of a drive."""

    @property
    def tenant(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def access(self) -> Access: ...


@dataclass(frozen=True, slots=True)
class NamedDrive:
    """A drive of which only the name is known, or that does not exist yet."""

    tenant: str
    name: str
    access: Access = Access.TENANT


class Refusal(StrEnum):
    """Why a principal may not."""

    NOT_FOUND = "NOT_FOUND"
    """The drive belongs to another tenant."""
    MISSING_SCOPE = "MISSING_SCOPE"
    NOT_GRANTED = "NOT_GRANTED"


@dataclass(frozen=True, slots=True)
class Decision:
    """Outcome of `may`; `refusal` is None when the principal may."""

    action: Action
    refusal: Refusal | None = None

    @property
    def allowed(self) -> bool:
        return self.refusal is None

    def enforce(self) -> None:
        """Raise the error of a refusal.

        `PermissionDenied` MISSING_SCOPE (metadata `scope`: one that suffices) or NOT_GRANTED;
        `NotFound` DRIVE_NOT_FOUND for a drive of another tenant.
        """
        if self.refusal is not None:
            raise _error_of(self.action, self.refusal)


def may(
    principal: Principal,
    action: Action,
    drive: GuardedDrive,
    grants: Grants = NO_GRANTS,
    *,
    upload_subject: str | None = None,
) -> Decision:
    """Decide whether `principal` may do `action` on a drive, or on an upload or a node in it.

    - The token needs one of the action's scopes; `tenant:admin` replaces every scope and role.
    - The drive has to belong to the principal's tenant, and to the drives of the token.
    - On a drive that is open to its grants only, the principal needs the action's role.
    - Only the upload's owner and an owner of the drive may write to or abort an upload.

    Args:
        drive: the drive; `NamedDrive` for one to be created.
        grants: the grants of the drive. See `depends_on_grants`.
        upload_subject: the owner of the upload, for actions on one.
    """
    if not has_scope(principal, action):
        return Decision(action, Refusal.MISSING_SCOPE)
    if drive.tenant != principal.tenant:
        return Decision(action, Refusal.NOT_FOUND)
    if _is_granted(principal, RULES[action], drive, grants, upload_subject):
        return Decision(action)
    return Decision(action, Refusal.NOT_GRANTED)


def check_scope(principal: Principal, action: Action) -> Decision:
    """Decide as far as the scopes go, before the drive is known."""
    return Decision(action, None if has_scope(principal, action) else Refusal.MISSING_SCOPE)


def check_whole_tenant(principal: Principal) -> None:
    """Check that the caller may administer the whole tenant.

    Raise `PermissionDenied` MISSING_SCOPE, or NOT_GRANTED for a token that is limited to drives.
    """
    if not is_admin(principal):
        raise _missing_scope((Scope.TENANT_ADMIN,))
    if principal.drives:
        raise _not_granted()


def require_scope(principal: Principal, scope: Scope) -> None:
    """Check a scope of what no `Action` is. Raise `PermissionDenied` MISSING_SCOPE."""
    if scope not in principal.scopes and not is_admin(principal):
        raise _missing_scope((scope,))


def has_scope(principal: Principal, action: Action) -> bool:
    needed = RULES[action].scopes
    if not needed or is_admin(principal):
        return True
    return any(scope in principal.scopes for scope in needed)


def is_admin(principal: Principal) -> bool:
    """Return whether every drive of the tenant belongs to the principal."""
    return Scope.TENANT_ADMIN in principal.scopes


def depends_on_grants(
    principal: Principal, action: Action, upload_subject: str | None = None
) -> bool:
    """Return whether `may` has to know access and grants of the drive.

    If not, it decides the same for every drive of this tenant and name.
    """
    rule = RULES[action]
    if is_admin(principal) or (rule.own_is_enough and upload_subject == principal.subject):
        return False
    return rule.role is not None


def is_within_limit(principal: Principal, drive_name: str) -> bool:
    """Return whether the token is valid for this drive (`Principal.drives`)."""
    if not principal.drives:
        return True
    return any(
        drive_name.startswith(entry[: -len(_ANY)]) if entry.endswith(_ANY) else drive_name == entry
        for entry in principal.drives
    )


def grantees_of(principal: Principal) -> tuple[Grantee, ...]:
    """Return the grantees whose roles the principal has."""
    groups = (Grantee(GranteeKind.GROUP, group) for group in sorted(principal.groups))
    return Grantee(GranteeKind.SUBJECT, principal.subject), *groups


def _is_granted(
    principal: Principal,
    rule: Rule,
    drive: GuardedDrive,
    grants: Grants,
    upload_subject: str | None,
) -> bool:
    if not is_within_limit(principal, drive.name):
        return False
    if is_admin(principal):
        return True
    is_own = upload_subject is not None and upload_subject == principal.subject
    if rule.own_is_enough and is_own:
        return True
    role = _role_of(principal, grants)
    if rule.by_owner and not is_own and role < Role.OWNER:
        return False
    return rule.role is None or drive.access is Access.TENANT or role >= rule.role


def _role_of(principal: Principal, grants: Grants) -> int:
    """Return the highest granted role, 0 without one."""
    if not grants:
        return 0
    role: int = grants.get(Grantee(GranteeKind.SUBJECT, principal.subject), 0)
    for group in principal.groups:
        role = max(role, grants.get(Grantee(GranteeKind.GROUP, group), 0))
    return role


def _error_of(action: Action, refusal: Refusal) -> SluiceError:
    match refusal:
        case Refusal.MISSING_SCOPE:
            return _missing_scope(RULES[action].scopes)
        case Refusal.NOT_GRANTED:
            return _not_granted()
        case Refusal.NOT_FOUND:
            return NotFound(
                "DRIVE_NOT_FOUND", "There is no such drive; create it first.", field="drive"
            )


def _missing_scope(scopes: tuple[Scope, ...]) -> PermissionDenied:
    return PermissionDenied(
        Refusal.MISSING_SCOPE,
        f"The token lacks the scope {' or '.join(scopes)}; use a token that has it.",
        metadata={"scope": scopes[0]},
    )


def _not_granted() -> PermissionDenied:
    return PermissionDenied(
        Refusal.NOT_GRANTED,
        "You have no sufficient role on this drive or are not the owner of this upload, or"
        " your token is limited to other drives; ask an owner of the drive for a grant.",
    )
