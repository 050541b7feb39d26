"""Actions of callers, one for each RPC, and the scopes and roles that they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from sluice_core.access.grants import Role
from sluice_core.access.scopes import Scope

GUARDED_SERVICES: Final = frozenset(
    {"sluice.upload.v1.IntakeService", "sluice.repository.v1.RepositoryService"}
)
"""Services of users. Each of their methods is an `Action` of the same name."""


class Action(StrEnum):
    """What a caller asks for; the value is the name of the RPC."""

    GET_LIMITS = "GetLimits"
    INITIATE_UPLOAD = "InitiateUpload"
    UPLOAD_CHUNK = "UploadChunk"
    UPLOAD_STREAM = "UploadStream"
    COMPLETE_UPLOAD = "CompleteUpload"
    ABORT_UPLOAD = "AbortUpload"
    GET_UPLOAD_STATUS = "GetUploadStatus"
    WATCH_UPLOAD = "WatchUpload"
    LIST_UPLOADS = "ListUploads"

    CREATE_DRIVE = "CreateDrive"
    GET_DRIVE = "GetDrive"
    LIST_DRIVES = "ListDrives"
    UPDATE_DRIVE = "UpdateDrive"
    DELETE_DRIVE = "DeleteDrive"
    GRANT_DRIVE = "GrantDrive"
    REVOKE_DRIVE = "RevokeDrive"
    LIST_GRANTS = "ListGrants"
    SET_QUOTA = "SetQuota"
    GET_USAGE = "GetUsage"
    RESERVE_QUOTA = "ReserveQuota"
    RELEASE_QUOTA = "ReleaseQuota"
    GET_NODE = "GetNode"
    LIST_NODES = "ListNodes"
    UPDATE_NODE = "UpdateNode"
    DELETE_NODE = "DeleteNode"
    READ_NODE = "ReadNode"
    GET_DOWNLOAD_URL = "GetDownloadUrl"
    LIST_AUDIT_ENTRIES = "ListAuditEntries"


@dataclass(frozen=True, slots=True)
class Rule:
    """What an action needs, beside the tenant.

    `scopes`: one of them, the usual one first; empty means that any authenticated caller may.
    `role`: the role on a drive that is open to its grants only; None for an action that concerns no
    existing drive.
    """

    scopes: tuple[Scope, ...]
    role: Role | None = None
    by_owner: bool = False
    """Only the upload's owner and owners of its drive may."""
    own_is_enough: bool = False
    """The upload's owner needs no role."""


_WRITE: Final = Rule((Scope.UPLOADS_WRITE,), Role.WRITER, by_owner=True)
_WATCH: Final = Rule((Scope.UPLOADS_READ,), Role.READER, own_is_enough=True)
_ADMIN: Final = Rule((Scope.DRIVES_ADMIN,), Role.OWNER)
_READ_NODES: Final = Rule((Scope.NODES_READ,), Role.READER)
_WRITE_NODES: Final = Rule((Scope.NODES_WRITE,), Role.WRITER)

RULES: Final[Mapping[Action, Rule]] = MappingProxyType(
    {
        Action.GET_LIMITS: Rule(()),
        Action.INITIATE_UPLOAD: Rule((Scope.UPLOADS_WRITE,), Role.WRITER),
        Action.UPLOAD_CHUNK: _WRITE,
        Action.UPLOAD_STREAM: _WRITE,
        Action.COMPLETE_UPLOAD: _WRITE,
        Action.ABORT_UPLOAD: _WRITE,
        Action.GET_UPLOAD_STATUS: _WATCH,
        Action.WATCH_UPLOAD: _WATCH,
        Action.LIST_UPLOADS: _WATCH,
        Action.CREATE_DRIVE: Rule((Scope.DRIVES_ADMIN,)),
        # The intake looks up the drive of an upload with the token of its caller.
        Action.GET_DRIVE: Rule(
            (
                Scope.DRIVES_READ,
                Scope.UPLOADS_WRITE,
                Scope.UPLOADS_READ,
            ),
            Role.READER,
        ),
        Action.LIST_DRIVES: Rule((Scope.DRIVES_READ,), Role.READER),
        Action.UPDATE_DRIVE: _ADMIN,
        Action.DELETE_DRIVE: _ADMIN,
        Action.GRANT_DRIVE: _ADMIN,
        Action.REVOKE_DRIVE: _ADMIN,
        Action.LIST_GRANTS: _ADMIN,
        # For the whole tenant both need `tenant:admin`, see `check_whole_tenant`.
        Action.SET_QUOTA: _ADMIN,
        Action.GET_USAGE: Rule((Scope.DRIVES_READ,), Role.READER),
        # The intake reserves with the token of its caller.
        Action.RESERVE_QUOTA: _WRITE,
        Action.RELEASE_QUOTA: _WRITE,
        Action.GET_NODE: _READ_NODES,
        Action.LIST_NODES: _READ_NODES,
        Action.UPDATE_NODE: _WRITE_NODES,
        Action.DELETE_NODE: _WRITE_NODES,
        Action.READ_NODE: _READ_NODES,
        Action.GET_DOWNLOAD_URL: _READ_NODES,
        Action.LIST_AUDIT_ENTRIES: Rule((Scope.TENANT_ADMIN,)),
    }
)
