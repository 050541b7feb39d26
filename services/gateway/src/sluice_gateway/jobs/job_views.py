"""Conversion of jobs and photos to what clients receive. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from sluice_core.live.updates import UPLOADING, Update
from sluice_core.photos.counts import PhotoCounts
from sluice_core.photos.model import Photo, UploadJob
from sluice_core.photos.progress import Progress, job_percent, shown_percent
from sluice_core.photos.states import TAKES_PARTS, PhotoStatus
from sluice_gateway.http.models import moment, optional_moment
from sluice_gateway.jobs.views import JobSummaryView, JobView, PhotoStateView

_IN_STORE = (PhotoStatus.PROCESSING, PhotoStatus.COMPLETED)


def photo_state(
    photo: Photo, update: Update | None = None, recorded_bytes: int = 0
) -> PhotoStateView:
    """Return the state of a photo.

    Args:
        update: what live updates know of it: reports of progress are not in the catalogue.
        recorded_bytes: of the parts that the store had when a client last went on.
    """
    status, sent = _current(photo, update, recorded_bytes)
    return PhotoStateView(
        photo_id=photo.photo_id,
        filename=photo.filename,
        mime_type=photo.content_type,
        bytes=photo.size,
        status=status,
        progress=shown_percent(status, Progress(sent, photo.size)),
        bytes_sent=sent,
        reason=photo.reason or None,
        detail=photo.detail or None,
        attempt=photo.attempt,
        deleted=photo.deleted_at is not None,
    )


def job_summary(job: UploadJob) -> JobSummaryView:
    """Return the state of a job as the catalogue has it."""
    counts = job.counts
    return JobSummaryView(
        job_id=job.job_id,
        status=job.status,
        strategy=job.strategy.value,
        total_count=counts.total,
        queued_count=counts.queued,
        uploading_count=counts.uploading,
        processing_count=counts.processing,
        completed_count=counts.completed,
        failed_count=counts.failed,
        cancelled_count=counts.cancelled,
        bytes_total=job.total_bytes,
        created_at=moment(job.created_at),
        updated_at=moment(job.updated_at),
        finished_at=optional_moment(job.finished_at),
    )


def job_view(
    job: UploadJob,
    photos: Sequence[Photo],
    updates: Mapping[str, Update],
    recorded_bytes: Mapping[str, int] = MappingProxyType({}),
) -> JobView:
    """Return the state of a job and its photos.

    Args:
        updates, recorded_bytes: by photo id, see `photo_state`.
    """
    states = [
        photo_state(photo, updates.get(photo.photo_id), recorded_bytes.get(photo.photo_id, 0))
        for photo in photos
    ]
    shown = replace(job, counts=PhotoCounts.of(state.status for state in states))
    return JobView(
        **job_summary(shown).model_dump(),
        progress=job_percent(
            (state.status, Progress(state.bytes_sent, state.bytes)) for state in states
        ),
        bytes_sent=sum(state.bytes_sent for state in states),
        photos=states,
    )


def _current(photo: Photo, update: Update | None, recorded_bytes: int) -> tuple[PhotoStatus, int]:
    """Return status and bytes sent. Progress makes a QUEUED photo UPLOADING, no other change."""
    if photo.status in _IN_STORE:
        return photo.status, photo.size
    if photo.status not in TAKES_PARTS:
        return photo.status, 0
    sent = min(recorded_bytes, photo.size)
    if update is None or update.status != UPLOADING:
        return photo.status, sent
    return PhotoStatus.UPLOADING, max(sent, min(update.bytes_sent, photo.size))
