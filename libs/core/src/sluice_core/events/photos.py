"""Events of photos and upload jobs for the outbox (rules 22 and 23)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from sluice.events.v1 import uploads_pb2
from sluice.photos.v1 import events_pb2 as photos_pb2
from sluice_core.photos.counts import JobStatus, PhotoCounts
from sluice_core.photos.model import Photo, UploadJob
from sluice_core.photos.states import PhotoStatus
from sluice_core.ports.event_publisher import PHOTOS_TOPIC, EventRecord
from sluice_core.uploads.ids import event_id

# The sequence of an event is the version of its photo or job after the change. Not every version
# has an event, and the event of a job is not that of a photo: the sequences have gaps.

_Header = uploads_pb2.EventHeader

_ENTERED: Mapping[PhotoStatus, type[Any]] = MappingProxyType(
    {
        PhotoStatus.QUEUED: photos_pb2.PhotoQueued,
        PhotoStatus.UPLOADING: photos_pb2.PhotoUploadStarted,
        PhotoStatus.PROCESSING: photos_pb2.PhotoUploadCompleted,
        PhotoStatus.COMPLETED: photos_pb2.PhotoProcessingCompleted,
        PhotoStatus.FAILED: photos_pb2.PhotoFailed,
        PhotoStatus.CANCELLED: photos_pb2.PhotoCancelled,
    }
)


def job_created(job: UploadJob, *, trace_parent: str = "") -> EventRecord:
    """Return UploadJobCreated of a new job."""
    event = photos_pb2.UploadJobCreated(
        header=_job_header("UploadJobCreated", job),
        job_id=job.job_id,
        user_id=job.owner.user_id,
        drive=job.drive,
        strategy=job.strategy.value,
        total_count=job.counts.total,
        total_bytes=job.total_bytes,
    )
    return _record(event, event.header, job.job_id, job.updated_at, trace_parent)


def job_ended(job: UploadJob, *, trace_parent: str = "") -> EventRecord:
    """Return UploadJobCancelled, or UploadJobCompleted for any other end."""
    event: photos_pb2.UploadJobCancelled | photos_pb2.UploadJobCompleted
    if job.status is JobStatus.CANCELLED:
        event = photos_pb2.UploadJobCancelled(
            header=_job_header("UploadJobCancelled", job),
            job_id=job.job_id,
            user_id=job.owner.user_id,
            counts=_counts(job.counts),
        )
    else:
        event = photos_pb2.UploadJobCompleted(
            header=_job_header("UploadJobCompleted", job),
            job_id=job.job_id,
            user_id=job.owner.user_id,
            status=photos_pb2.JobStatus.Value(f"JOB_STATUS_{job.status.value}"),
            counts=_counts(job.counts),
        )
    return _record(event, event.header, job.job_id, job.updated_at, trace_parent)


def photo_entered(photo: Photo, *, trace_parent: str = "") -> EventRecord:
    """Return the event of a photo that entered its status: each status has a type of its own."""
    facts: dict[str, Any] = {}
    match photo.status:
        case PhotoStatus.QUEUED:
            facts = {
                "filename": photo.filename,
                "content_type": photo.content_type,
                "size": photo.size,
            }
        case PhotoStatus.COMPLETED if photo.taken_at is not None:
            facts = {"taken_at": _timestamp(photo.taken_at)}
        case PhotoStatus.FAILED:
            facts = {"reason": photo.reason, "detail": photo.detail}
    return _photo_record(_ENTERED[photo.status], photo, trace_parent, **facts)


def photo_tags_changed(photo: Photo, tags: Sequence[str]) -> EventRecord:
    """Return PhotoTagsChanged; `tags` are all labels of the photo now."""
    return _photo_record(photos_pb2.PhotoTagsChanged, photo, tags=tags)


def photo_deleted(photo: Photo) -> EventRecord:
    """Return PhotoDeleted; `photo` has the version after the deletion."""
    return _photo_record(photos_pb2.PhotoDeleted, photo)


def _counts(counts: PhotoCounts) -> photos_pb2.PhotoCounts:
    return photos_pb2.PhotoCounts(
        queued=counts.queued,
        uploading=counts.uploading,
        processing=counts.processing,
        completed=counts.completed,
        failed=counts.failed,
        cancelled=counts.cancelled,
    )


def _job_header(event_type: str, job: UploadJob) -> _Header:
    return _Header(
        event_id=event_id(job.job_id, event_type, job.version),
        occurred_at=_timestamp(job.updated_at),
        tenant=job.owner.tenant,
        sequence=job.version,
    )


def _timestamp(seconds: float) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(datetime.fromtimestamp(seconds, UTC))
    return timestamp


def _photo_record(
    kind: type[Any], photo: Photo, trace_parent: str = "", **facts: Any
) -> EventRecord:
    """Return an event of this message class, with what all events of a photo have."""
    event: Message = kind(
        header=_Header(
            event_id=event_id(photo.node_id, kind.DESCRIPTOR.name, photo.version),
            occurred_at=_timestamp(photo.updated_at),
            tenant=photo.owner.tenant,
            sequence=photo.version,
        ),
        node_id=photo.node_id,
        photo=photos_pb2.PhotoRef(
            photo_id=photo.photo_id,
            job_id=photo.job_id,
            user_id=photo.owner.user_id,
            drive=photo.drive,
            path=photo.path,
            attempt=photo.attempt,
        ),
        **facts,
    )
    header: _Header = getattr(event, "header")  # noqa: B009 - generated field
    return _record(event, header, photo.node_id, photo.updated_at, trace_parent)


def _record(
    event: Message, header: _Header, key: str, occurred_at: float, trace_parent: str = ""
) -> EventRecord:
    return EventRecord(
        event_id=header.event_id,
        type=event.DESCRIPTOR.full_name,
        topic=PHOTOS_TOPIC,
        key=key,
        tenant=header.tenant,
        occurred_at=occurred_at,
        payload=event.SerializeToString(deterministic=True),
        headers={"traceparent": trace_parent} if trace_parent else {},
    )
