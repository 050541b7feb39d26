"""Conversion between wire messages and the repository's values."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from sluice.repository.v1 import repository_pb2 as pb
from sluice_core.access.audit import AuditEntry
from sluice_core.access.grants import Access, Grant, Grantee, GranteeKind, Role
from sluice_core.catalogue.processing import Processing, ProcessingState, Thumbnail
from sluice_core.errors import InvalidArgument
from sluice_core.ports.audit import AuditFilter
from sluice_core.ports.catalogue import POLICY_FIELDS, Drive, DrivePolicy, Node
from sluice_core.ports.quotas import Quota, Usage
from sluice_core.uploads.model import Integrity
from sluice_repository.rpc.nodes import NodeById, NodeByPath, NodeLocator

_INTEGRITY_BY_NUMBER = {
    pb.INTEGRITY_UNSPECIFIED: DrivePolicy().integrity,
    pb.INTEGRITY_CRC: Integrity.CRC,
    pb.INTEGRITY_SHA256_ASYNC: Integrity.SHA256_ASYNC,
    pb.INTEGRITY_SHA256_BEFORE_VISIBLE: Integrity.SHA256_BEFORE_VISIBLE,
}
_NUMBER_BY_INTEGRITY = {
    Integrity.CRC: pb.INTEGRITY_CRC,
    Integrity.SHA256_ASYNC: pb.INTEGRITY_SHA256_ASYNC,
    Integrity.SHA256_BEFORE_VISIBLE: pb.INTEGRITY_SHA256_BEFORE_VISIBLE,
}

_ACCESS_BY_NUMBER = {
    pb.ACCESS_UNSPECIFIED: DrivePolicy().access,
    pb.ACCESS_TENANT: Access.TENANT,
    pb.ACCESS_GRANTS: Access.GRANTS,
}
_NUMBER_BY_ACCESS = {Access.TENANT: pb.ACCESS_TENANT, Access.GRANTS: pb.ACCESS_GRANTS}
_ROLE_BY_NUMBER = {
    pb.ROLE_READER: Role.READER,
    pb.ROLE_WRITER: Role.WRITER,
    pb.ROLE_OWNER: Role.OWNER,
}
_NUMBER_BY_ROLE = {role: number for number, role in _ROLE_BY_NUMBER.items()}

_MAX_SECONDS = 253_402_300_799
"""The end of the year 9999, the latest time of a `Timestamp`."""

_MAX_MASK_PATHS = 64
"""Most paths of one update mask, repeated ones included; a policy has far fewer fields."""


def locator_of(
    request: pb.GetNodeRequest
    | pb.DeleteNodeRequest
    | pb.ReadNodeRequest
    | pb.GetDownloadUrlRequest,
) -> NodeLocator:
    """Return the node that a request names.

    Raise `InvalidArgument` NODE_REQUIRED when it names none.
    """
    match request.WhichOneof("node"):
        case "node_id":
            return NodeById(request.node_id)
        case "location":
            return NodeByPath(request.location.drive, request.location.path)
        case _:
            raise InvalidArgument(
                "NODE_REQUIRED", "No node is given; set node_id or location.", field="node"
            )


def policy_of(message: pb.DrivePolicy) -> DrivePolicy:
    """Return the policy of a message.

    Raise `InvalidArgument` BAD_POLICY for an integrity or access that this release does not know.
    """
    access = _ACCESS_BY_NUMBER.get(message.access)
    if access is None:
        raise InvalidArgument(
            "BAD_POLICY",
            "This server does not know the requested access; choose another or upgrade it.",
            field="policy.access",
        )
    integrity = _INTEGRITY_BY_NUMBER.get(message.integrity)
    if integrity is None:
        raise InvalidArgument(
            "BAD_POLICY",
            "This server does not know the requested integrity; choose another or upgrade it.",
            field="policy.integrity",
        )
    return DrivePolicy(
        integrity=integrity,
        part_bytes=message.part_bytes,
        require_uniform=message.require_uniform,
        read_only=message.read_only,
        storage_class=message.storage_class,
        encryption=message.encryption,
        drop_location=message.drop_location,
        access=access,
    )


def policy_fields_of(request: pb.UpdateDriveRequest) -> frozenset[str]:
    """Return the fields of the policy to update; no mask means all that the request sets.

    A client of an earlier release does not know `access`, and must not open a closed drive. Raise
    `InvalidArgument` BAD_UPDATE_MASK for too many paths, BAD_POLICY for `access` without a value.
    """
    has_access = request.policy.access != pb.ACCESS_UNSPECIFIED
    fields = _fields_of(request.update_mask)
    if not fields:
        return POLICY_FIELDS if has_access else POLICY_FIELDS - {"access"}
    if "access" in fields and not has_access:
        raise InvalidArgument(
            "BAD_POLICY",
            "The update mask names access, but the policy has none; set it.",
            field="policy.access",
        )
    return fields


def _fields_of(mask: FieldMask) -> frozenset[str]:
    if len(mask.paths) > _MAX_MASK_PATHS:
        raise InvalidArgument(
            "BAD_UPDATE_MASK",
            "The update mask names more fields than a policy has; name each once.",
            field="update_mask",
        )
    return frozenset(mask.paths)


def grantee_of(message: pb.Grantee) -> Grantee:
    """Return the grantee of a message. Raise `InvalidArgument` GRANTEE_REQUIRED without one."""
    match message.WhichOneof("grantee"):
        case "subject":
            return Grantee(GranteeKind.SUBJECT, message.subject)
        case "group":
            return Grantee(GranteeKind.GROUP, message.group)
        case _:
            raise InvalidArgument(
                "GRANTEE_REQUIRED", "No grantee is given; set subject or group.", field="grantee"
            )


def role_of(number: pb.Role.ValueType) -> Role:
    """Return the role of a message. Raise `InvalidArgument` BAD_ROLE."""
    role = _ROLE_BY_NUMBER.get(number)
    if role is None:
        raise InvalidArgument(
            "BAD_ROLE", "The role is missing or unknown; use reader, writer or owner.", field="role"
        )
    return role


def grant_message(grant: Grant) -> pb.Grant:
    is_group = grant.grantee.kind is GranteeKind.GROUP
    name = grant.grantee.name
    return pb.Grant(
        grantee=pb.Grantee(group=name) if is_group else pb.Grantee(subject=name),
        role=_NUMBER_BY_ROLE[grant.role],
        created_at=timestamp(grant.created_at),
    )


def drive_message(drive: Drive) -> pb.Drive:
    return pb.Drive(
        name=drive.name,
        bucket=drive.bucket,
        key_prefix=drive.key_prefix,
        policy=pb.DrivePolicy(
            integrity=_NUMBER_BY_INTEGRITY[drive.policy.integrity],
            part_bytes=drive.policy.part_bytes,
            require_uniform=drive.policy.require_uniform,
            read_only=drive.policy.read_only,
            storage_class=drive.policy.storage_class,
            encryption=drive.policy.encryption,
            drop_location=drive.policy.drop_location,
            access=_NUMBER_BY_ACCESS[drive.policy.access],
        ),
        created_at=timestamp(drive.created_at),
        updated_at=timestamp(drive.updated_at),
    )


def quota_of(message: pb.Quota) -> Quota:
    return Quota(message.max_bytes, message.max_nodes, message.max_open_uploads)


def quota_message(quota: Quota) -> pb.Quota:
    return pb.Quota(
        max_bytes=quota.max_bytes,
        max_nodes=quota.max_nodes,
        max_open_uploads=quota.max_open_uploads,
    )


def usage_message(usage: Usage) -> pb.Usage:
    return pb.Usage(
        bytes=usage.bytes,
        nodes=usage.nodes,
        reserved_bytes=usage.reserved_bytes,
        open_uploads=usage.open_uploads,
    )


def node_message(node: Node) -> pb.Node:
    return pb.Node(
        node_id=node.node_id,
        drive=node.drive,
        path=node.path,
        size=node.size,
        content_type=node.content_type,
        crc32c=node.crc32c,
        sha256=node.sha256,
        metadata=node.metadata,
        version=node.version,
        created_at=timestamp(node.created_at),
        updated_at=timestamp(node.updated_at),
    )


def processing_message(processing: Processing) -> pb.Processing:
    failed = processing.state is ProcessingState.FAILED
    location = processing.location
    return pb.Processing(
        state=pb.PROCESSING_STATE_FAILED if failed else pb.PROCESSING_STATE_PROCESSED,
        reason=processing.reason,
        detail=processing.detail,
        content_type=processing.content_type,
        width=processing.width,
        height=processing.height,
        frames=processing.frames,
        damaged=processing.damaged,
        exif_json=json.dumps(dict(processing.exif), ensure_ascii=False),
        location_json="" if location is None else json.dumps(dict(location)),
        thumbnails=[thumbnail_message(thumbnail) for thumbnail in processing.thumbnails],
        processed_at=timestamp(processing.processed_at),
    )


def thumbnail_message(thumbnail: Thumbnail) -> pb.Thumbnail:
    return pb.Thumbnail(
        size=thumbnail.size,
        width=thumbnail.width,
        height=thumbnail.height,
        content_type=thumbnail.content_type,
        size_bytes=thumbnail.size_bytes,
        crc32c=thumbnail.crc32c,
    )


def timestamp(seconds: float) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(datetime.fromtimestamp(seconds, UTC))
    return message


def audit_filter_of(request: pb.ListAuditEntriesRequest) -> AuditFilter:
    """Return the filter of a request. Raise `InvalidArgument` BAD_TIME."""
    return AuditFilter(
        since=_seconds_of(request.since, "since") if request.HasField("since") else None,
        until=_seconds_of(request.until, "until") if request.HasField("until") else None,
        subject=request.subject,
        action=request.action,
    )


def _seconds_of(message: Timestamp, field: str) -> float:
    if not (0 <= message.seconds <= _MAX_SECONDS and 0 <= message.nanos < 1_000_000_000):
        raise InvalidArgument(
            "BAD_TIME", "The time is not between the years 1970 and 9999.", field=field
        )
    return message.seconds + message.nanos / 1e9


def audit_message(entry: AuditEntry) -> pb.AuditEntry:
    assert entry.occurred_at is not None, "entries of the log have a time"
    return pb.AuditEntry(
        time=timestamp(entry.occurred_at),
        subject=entry.subject,
        action=entry.action,
        object=entry.object,
        outcome=entry.outcome,
        request_id=entry.request_id,
        peer=entry.peer,
        count=entry.count,
    )


def whole_seconds(duration: Duration) -> int:
    """Return the whole seconds of a duration, rounded down."""
    return int(duration.seconds)
