"""Conversion to the `UploadStatus` message, for responses and error details."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from sluice.upload.v1 import upload_pb2
from sluice_core.uploads.model import UploadStatus
from sluice_intake.uploads.status import Status

STATES = {
    UploadStatus.PENDING: upload_pb2.UPLOAD_STATE_PENDING,
    UploadStatus.UPLOADING: upload_pb2.UPLOAD_STATE_UPLOADING,
    UploadStatus.COMPLETING: upload_pb2.UPLOAD_STATE_COMPLETING,
    UploadStatus.COMPLETED: upload_pb2.UPLOAD_STATE_COMPLETED,
    UploadStatus.FAILED: upload_pb2.UPLOAD_STATE_FAILED,
    UploadStatus.ABORTED: upload_pb2.UPLOAD_STATE_ABORTED,
    UploadStatus.EXPIRED: upload_pb2.UPLOAD_STATE_EXPIRED,
}


def status_message(status: Status) -> upload_pb2.UploadStatus:
    snapshot, missing = status.snapshot, status.missing
    new = snapshot.new
    return upload_pb2.UploadStatus(
        upload_id=snapshot.upload_id,
        node_id=new.node_id,
        drive=new.drive,
        path=new.path,
        state=STATES[snapshot.status],
        sequence=snapshot.sequence,
        received_bytes=snapshot.received_bytes,
        received_chunks=snapshot.received_chunks,
        stored_bytes=snapshot.stored_bytes,
        stored_chunks=snapshot.stored_chunks,
        total_chunks=snapshot.total_chunks,
        expected_size=new.expected_size,
        chunk_size=new.chunk_size,
        missing=[upload_pb2.ChunkRange(first=gap.first, last=gap.last) for gap in missing.ranges],
        missing_truncated=missing.truncated,
        failure_reason=snapshot.failure_reason,
        failure_detail=snapshot.failure_detail,
        created_at=timestamp(snapshot.created_at),
        updated_at=timestamp(snapshot.updated_at),
        expires_at=timestamp(snapshot.expires_at),
        crc32c=snapshot.crc32c,
        sha256=snapshot.sha256,
    )


def timestamp(seconds: float) -> Timestamp:
    message = Timestamp()
    message.FromNanoseconds(round(seconds * 1_000_000) * 1_000)
    return message
