"""Protobuf messages to values of `model.py` and back; pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2
from sluice_client import model

V = TypeVar("V")

_STATES = {
    upload_pb2.UPLOAD_STATE_PENDING: model.UploadState.PENDING,
    upload_pb2.UPLOAD_STATE_UPLOADING: model.UploadState.UPLOADING,
    upload_pb2.UPLOAD_STATE_COMPLETING: model.UploadState.COMPLETING,
    upload_pb2.UPLOAD_STATE_COMPLETED: model.UploadState.COMPLETED,
    upload_pb2.UPLOAD_STATE_FAILED: model.UploadState.FAILED,
    upload_pb2.UPLOAD_STATE_ABORTED: model.UploadState.ABORTED,
    upload_pb2.UPLOAD_STATE_EXPIRED: model.UploadState.EXPIRED,
}
_DURABILITIES = {
    upload_pb2.DURABILITY_MEMORY: model.Durability.MEMORY,
    upload_pb2.DURABILITY_REPLICATED: model.Durability.REPLICATED,
    upload_pb2.DURABILITY_FSYNC: model.Durability.FSYNC,
}
_INTEGRITIES = {
    repository_pb2.INTEGRITY_CRC: model.Integrity.CRC,
    repository_pb2.INTEGRITY_SHA256_ASYNC: model.Integrity.SHA256_ASYNC,
    repository_pb2.INTEGRITY_SHA256_BEFORE_VISIBLE: model.Integrity.SHA256_BEFORE_VISIBLE,
}
_ACCESS_NUMBERS = {
    model.Access.TENANT: repository_pb2.ACCESS_TENANT,
    model.Access.GRANTS: repository_pb2.ACCESS_GRANTS,
}
_ROLES = {
    repository_pb2.ROLE_READER: model.Role.READER,
    repository_pb2.ROLE_WRITER: model.Role.WRITER,
    repository_pb2.ROLE_OWNER: model.Role.OWNER,
}
_ROLE_NUMBERS = {value: number for number, value in _ROLES.items()}
_INTEGRITY_NUMBERS = {value: number for number, value in _INTEGRITIES.items()}
_STATE_NUMBERS = {value: number for number, value in _STATES.items()}


def upload_state(number: upload_pb2.UploadState.ValueType) -> model.UploadState:
    return _STATES.get(number, model.UploadState.UNKNOWN)


def upload_state_number(state: model.UploadState) -> upload_pb2.UploadState.ValueType:
    return _STATE_NUMBERS.get(state, upload_pb2.UPLOAD_STATE_UNSPECIFIED)


def limits(answer: upload_pb2.GetLimitsResponse) -> model.Limits:
    return model.Limits(
        max_block_bytes=answer.max_block_bytes,
        max_chunk_bytes=answer.max_chunk_bytes,
        max_unary_message_bytes=answer.max_unary_message_bytes,
        preferred_chunk_bytes=answer.preferred_chunk_bytes,
        part_bytes=answer.part_bytes,
        max_object_bytes=answer.max_object_bytes,
        max_chunks=answer.max_chunks,
        max_inline_bytes=answer.max_inline_bytes,
        idle_lifetime=_span(answer.idle_lifetime),
        total_lifetime=_span(answer.total_lifetime),
        durability=_DURABILITIES.get(answer.durability, model.Durability.UNKNOWN),
        look_ahead_bytes=answer.look_ahead_bytes,
        uploads_per_minute=answer.rate_limits.uploads_per_minute,
        bytes_per_second=answer.rate_limits.bytes_per_second,
        calls_per_second=answer.rate_limits.calls_per_second,
    )


def upload_status(status: upload_pb2.UploadStatus) -> model.UploadStatus:
    return model.UploadStatus(
        upload_id=status.upload_id,
        node_id=status.node_id,
        drive=status.drive,
        path=status.path,
        state=upload_state(status.state),
        sequence=status.sequence,
        received_bytes=status.received_bytes,
        received_chunks=status.received_chunks,
        stored_bytes=status.stored_bytes,
        stored_chunks=status.stored_chunks,
        total_chunks=_optional(status, "total_chunks", status.total_chunks),
        expected_size=_optional(status, "expected_size", status.expected_size),
        chunk_size=_optional(status, "chunk_size", status.chunk_size),
        missing=tuple(model.ChunkRange(gap.first, gap.last) for gap in status.missing),
        missing_truncated=status.missing_truncated,
        failure_reason=status.failure_reason,
        failure_detail=status.failure_detail,
        created_at=_moment(status, "created_at", status.created_at),
        updated_at=_moment(status, "updated_at", status.updated_at),
        expires_at=_moment(status, "expires_at", status.expires_at),
        crc32c=_optional(status, "crc32c", status.crc32c),
        sha256=_optional(status, "sha256", status.sha256),
    )


def drive(answer: repository_pb2.Drive) -> model.Drive:
    policy = answer.policy
    return model.Drive(
        name=answer.name,
        bucket=answer.bucket,
        key_prefix=answer.key_prefix,
        policy=model.DrivePolicy(
            integrity=_INTEGRITIES.get(policy.integrity, model.Integrity.SHA256_ASYNC),
            part_bytes=policy.part_bytes,
            require_uniform=policy.require_uniform,
            read_only=policy.read_only,
            storage_class=policy.storage_class,
            encryption=policy.encryption,
            drop_location=policy.drop_location,
            # A server of an earlier release does not set it: its drives are open.
            access=model.Access.GRANTS
            if policy.access == repository_pb2.ACCESS_GRANTS
            else model.Access.TENANT,
        ),
        created_at=_moment(answer, "created_at", answer.created_at),
        updated_at=_moment(answer, "updated_at", answer.updated_at),
    )


def drive_policy(policy: model.DrivePolicy) -> repository_pb2.DrivePolicy:
    return repository_pb2.DrivePolicy(
        integrity=_INTEGRITY_NUMBERS[policy.integrity],
        part_bytes=policy.part_bytes,
        require_uniform=policy.require_uniform,
        read_only=policy.read_only,
        storage_class=policy.storage_class,
        encryption=policy.encryption,
        drop_location=policy.drop_location,
        access=_ACCESS_NUMBERS[policy.access],
    )


def quota_message(quota: model.Quota) -> repository_pb2.Quota:
    return repository_pb2.Quota(
        max_bytes=quota.max_bytes,
        max_nodes=quota.max_nodes,
        max_open_uploads=quota.max_open_uploads,
    )


def usage(
    answer: repository_pb2.SetQuotaResponse | repository_pb2.GetUsageResponse,
) -> model.Usage:
    quota = answer.quota
    return model.Usage(
        quota=model.Quota(quota.max_bytes, quota.max_nodes, quota.max_open_uploads),
        bytes=answer.usage.bytes,
        nodes=answer.usage.nodes,
        reserved_bytes=answer.usage.reserved_bytes,
        open_uploads=answer.usage.open_uploads,
    )


def grant(answer: repository_pb2.Grant) -> model.Grant:
    return model.Grant(
        subject=answer.grantee.subject,
        group=answer.grantee.group,
        role=_ROLES.get(answer.role, model.Role.UNKNOWN),
        created_at=_moment(answer, "created_at", answer.created_at),
    )


def audit_entry(answer: repository_pb2.AuditEntry) -> model.AuditEntry:
    return model.AuditEntry(
        time=_moment(answer, "time", answer.time),
        subject=answer.subject,
        action=answer.action,
        object=answer.object,
        outcome=answer.outcome,
        request_id=answer.request_id,
        peer=answer.peer,
        count=answer.count,
    )


def role_number(role: model.Role) -> repository_pb2.Role.ValueType:
    return _ROLE_NUMBERS.get(role, repository_pb2.ROLE_UNSPECIFIED)


def node(answer: repository_pb2.Node) -> model.Node:
    return model.Node(
        node_id=answer.node_id,
        drive=answer.drive,
        path=answer.path,
        size=answer.size,
        content_type=answer.content_type,
        crc32c=answer.crc32c,
        sha256=_optional(answer, "sha256", answer.sha256),
        version=answer.version,
        created_at=_moment(answer, "created_at", answer.created_at),
        updated_at=_moment(answer, "updated_at", answer.updated_at),
        metadata=dict(answer.metadata),
    )


def processing(answer: repository_pb2.Processing) -> model.Processing:
    failed = answer.state == repository_pb2.PROCESSING_STATE_FAILED
    return model.Processing(
        state=model.ProcessingState.FAILED if failed else model.ProcessingState.PROCESSED,
        reason=answer.reason,
        detail=answer.detail,
        content_type=answer.content_type,
        width=answer.width,
        height=answer.height,
        frames=answer.frames,
        exif=json.loads(answer.exif_json or "{}"),
        location=json.loads(answer.location_json) if answer.location_json else None,
        thumbnails=tuple(thumbnail(one) for one in answer.thumbnails),
        processed_at=_moment(answer, "processed_at", answer.processed_at),
        damaged=answer.damaged,
    )


def thumbnail(answer: repository_pb2.Thumbnail) -> model.Thumbnail:
    return model.Thumbnail(
        size=answer.size,
        width=answer.width,
        height=answer.height,
        content_type=answer.content_type,
        size_bytes=answer.size_bytes,
        crc32c=answer.crc32c,
    )


def duration(seconds: float) -> Duration:
    result = Duration()
    result.FromNanoseconds(round(seconds * 1e9))
    return result


_Message = (
    upload_pb2.UploadStatus
    | repository_pb2.Drive
    | repository_pb2.Grant
    | repository_pb2.AuditEntry
    | repository_pb2.Node
    | repository_pb2.Processing
)


def _optional(message: _Message, name: str, value: V) -> V | None:
    return value if message.HasField(name) else None  # type: ignore[arg-type]


def _moment(message: _Message, name: str, value: Timestamp) -> datetime | None:
    return value.ToDatetime(UTC) if message.HasField(name) else None  # type: ignore[arg-type]


def _span(value: Duration) -> timedelta:
    return value.ToTimedelta()
