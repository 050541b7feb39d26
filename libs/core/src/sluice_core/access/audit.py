"""Audit log: what is recorded of a change, and the trail of the current call."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sluice_core.access.actions import Action
from sluice_core.access.grants import Grantee, Role
from sluice_core.access.principal import find_principal
from sluice_core.errors import InvalidArgument
from sluice_core.uploads.names import check_drive_name, check_node_id

OK: Final = "OK"
"""Outcome of a change that was made; that of a refused one is the reason of its error."""

AUTHENTICATE: Final = "Authenticate"
"""Action of a refused token, whatever was called with it."""

NO_TENANT: Final = ""
"""Tenant of refused tokens. A token that is not verified says nothing about its tenant."""


class AccountAction(StrEnum):
    """Actions of the accounts of a gateway. The names are those of the log."""

    REGISTER = "Register"
    LOG_IN = "LogIn"
    LOG_IN_BY_LINK = "LogInByLink"
    LOG_OUT = "LogOut"
    REFRESH_SESSION = "RefreshSession"
    END_SESSIONS = "EndSessions"
    SET_PASSWORD = "SetPassword"
    ENABLE_USER = "EnableUser"
    DISABLE_USER = "DisableUser"


REFRESH_TOKEN_REUSED: Final = "REFRESH_TOKEN_REUSED"
"""Outcome of a refresh token that was used before. Its session has ended."""

AUDITED: Final = frozenset(
    {
        Action.CREATE_DRIVE,
        Action.UPDATE_DRIVE,
        Action.DELETE_DRIVE,
        Action.GRANT_DRIVE,
        Action.REVOKE_DRIVE,
        Action.SET_QUOTA,
        Action.UPDATE_NODE,
        Action.DELETE_NODE,
        Action.GET_DOWNLOAD_URL,
    }
)
"""Actions of which every success and refusal is recorded."""

MAX_OBJECT_CHARACTERS: Final = 512
MAX_SUBJECT_CHARACTERS: Final = 255
MAX_PEER_CHARACTERS: Final = 64
MAX_OUTCOME_CHARACTERS: Final = 64
MAX_VALUE_CHARACTERS: Final = 128
"""Of a policy's field. All fields of a policy fit into an object, the drive's name included."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry of the log. It names no person but the subject, and holds no part of a token.

    `object`: `drive/NAME`, `node/ID`, `photo/ID`, `job/ID` or `user/ID`, with the receiver of a
    role or the values of a policy, or `tenant` for its quota; empty when none was named validly.
    `peer`: host of the caller, without its port. `count`: equal refusals that this entry stands
    for. `occurred_at`: Unix seconds, None for the time of the transaction.
    """

    tenant: str
    subject: str
    action: str
    object: str = ""
    outcome: str = OK
    request_id: str = ""
    peer: str = ""
    count: int = 1
    occurred_at: float | None = None


class Trail:
    """Origin of the current call, and the object that it concerns once the handler names it."""

    __slots__ = ("object", "peer", "request_id")

    def __init__(self, request_id: str, peer: str) -> None:
        self.request_id = request_id
        self.peer = peer
        self.object = ""


_trail: ContextVar[Trail | None] = ContextVar("sluice_audit_trail", default=None)


def begin_trail(trail: Trail) -> None:
    """Bind the trail to the current call. Only the layer of the audit log calls this."""
    _trail.set(trail)


def find_trail() -> Trail | None:
    """Return the trail of the current call; None outside of a call."""
    return _trail.get()


def session_entry(action: AccountAction, user_id: str = "", outcome: str = OK) -> AuditEntry:
    """Return the entry of a change of sessions that the current call makes.

    Args:
        user_id: also the tenant of its user; empty if the transaction of the change finds it.
    """
    trail = _trail.get()
    return AuditEntry(
        user_id,
        user_id,
        action.value,
        outcome=outcome,
        request_id="" if trail is None else trail.request_id,
        peer="" if trail is None else trail.peer,
    )


def operator_entry(action: AccountAction, user_id: str) -> AuditEntry:
    """Return the entry of a change of an account that an operator makes.

    It has no subject, since no token says who they are; the tenant is the user's.
    """
    return AuditEntry(user_id, "", action.value, f"user/{user_id}")


def audited(action: Action, named: str) -> AuditEntry | None:
    """Return the entry of a change that the current call makes, for the transaction of the change.

    A refusal of the call is recorded with the same object. None without a caller: a change of
    Sluice itself, such as a sweep.

    Args:
        named: the object, see `drive_object` and `node_object`.
    """
    principal = find_principal()
    if principal is None:
        return None
    trail = _trail.get()
    if trail is None:
        return AuditEntry(principal.tenant, principal.subject, action.value, named)
    trail.object = named
    return AuditEntry(
        principal.tenant,
        principal.subject,
        action.value,
        named,
        request_id=trail.request_id,
        peer=trail.peer,
    )


def drive_object(name: str, detail: str = "") -> str:
    """Return the object of a drive; empty for an invalid name, which may be anything.

    Args:
        detail: follows after a space.
    """
    try:
        check_drive_name(name)
    except InvalidArgument:
        return ""
    return f"drive/{name} {detail}".rstrip()


def policy_object(name: str, values: Mapping[str, object]) -> str:
    """Return the object of a policy: the drive, and fields of the policy with their values.

    Args:
        values: by field; None for a field whose value is left out. Longer ones are cut.
    """
    listed = (
        field if value is None else f"{field}={_value_of(value)}"
        for field, value in sorted(values.items())
    )
    return drive_object(name, " ".join(listed))


def _value_of(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)[:MAX_VALUE_CHARACTERS]


def quota_object(drive: str, limits: Mapping[str, int]) -> str:
    """Return the object of a quota: the drive, or the tenant for an empty name, and the limits."""
    listed = " ".join(f"{name}={limit}" for name, limit in limits.items())
    return drive_object(drive, listed) if drive else f"tenant {listed}"


def grant_object(name: str, grantee: Grantee, role: Role | None = None) -> str:
    """Return the object of a grant: the drive, the role if one is given, and who receives it."""
    given = "" if role is None else f"{role.name.lower()} "
    if not grantee.name.isprintable() or len(grantee.name) > MAX_SUBJECT_CHARACTERS:
        return drive_object(name)
    return drive_object(name, f"{given}{grantee.kind}:{grantee.name}")


def node_object(node_id: str) -> str:
    """Return the object of a node; empty for an invalid id. A path may say something personal."""
    try:
        check_node_id(node_id)
    except InvalidArgument:
        return ""
    return f"node/{node_id}"
