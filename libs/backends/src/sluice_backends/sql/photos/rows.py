"""Conversion between rows and records of jobs and photos."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from sqlalchemy import CursorResult, RowMapping

from sluice_backends.sql.schema import photos, upload_jobs
from sluice_core.errors import NotFound
from sluice_core.photos.counts import PhotoCounts
from sluice_core.photos.model import Owner, Photo, UploadJob
from sluice_core.photos.names import search_key
from sluice_core.photos.states import PhotoStatus, is_terminal
from sluice_core.photos.strategies import UploadStrategy
from sluice_core.uploads.model import ObjectRef

_MICROSECONDS = 1_000_000
_ROWS_AT_ONCE: Final = 50
"""A photo takes a tenth of a millisecond; others get their turn in between."""


def whole_micros(seconds: float) -> float:
    """Return the time as it will be read back, so that a returned record equals the stored one."""
    return round(seconds * _MICROSECONDS) / _MICROSECONDS


async def each_row(result: CursorResult[Any]) -> AsyncIterator[RowMapping]:
    """Yield the rows of a result that may have a thousand."""
    for rows in result.mappings().partitions(_ROWS_AT_ONCE):
        for row in rows:
            yield row
        await asyncio.sleep(0)


def photo_of(row: RowMapping) -> Photo:
    """Return the photo of a row that has all columns of `photos`."""
    c = photos.c
    return Photo(
        photo_id=row[c.photo_id],
        job_id=row[c.job_id],
        position=row[c.position],
        owner=Owner(row[c.tenant], row[c.user_id]),
        node_id=row[c.node_id],
        drive=row[c.drive],
        path=row[c.path],
        object=ObjectRef(row[c.bucket], row[c.object_key]),
        filename=row[c.filename],
        content_type=row[c.content_type],
        size=row[c.size],
        status=PhotoStatus(row[c.status]),
        created_at=row[c.created_at],
        updated_at=row[c.updated_at],
        attempt_started_at=row[c.attempt_started_at],
        asked_at=row[c.asked_at],
        reason=row[c.reason],
        detail=row[c.detail],
        attempt=row[c.attempt],
        version=row[c.version],
        multipart_id=row[c.multipart_id],
        completed_at=row[c.completed_at],
        taken_at=row[c.taken_at],
        deleted_at=row[c.deleted_at],
    )


def photo_columns(photo: Photo) -> dict[str, Any]:
    """Return all columns of a photo."""
    return {
        "photo_id": photo.photo_id,
        "job_id": photo.job_id,
        "position": photo.position,
        "tenant": photo.owner.tenant,
        "user_id": photo.owner.user_id,
        "node_id": photo.node_id,
        "drive": photo.drive,
        "path": photo.path,
        "bucket": photo.object.bucket,
        "object_key": photo.object.key,
        "filename": photo.filename,
        "search_key": search_key(photo.filename),
        "content_type": photo.content_type,
        "size": photo.size,
        "multipart_id": photo.multipart_id,
        "created_at": photo.created_at,
        **changing_columns(photo),
    }


MAX_REASON_CHARACTERS = 64
MAX_DETAIL_CHARACTERS = 512


def changing_columns(photo: Photo) -> dict[str, Any]:
    """Return the columns that changes of a photo write."""
    return {
        "status": photo.status.value,
        "reason": photo.reason,
        "detail": photo.detail,
        "attempt": photo.attempt,
        "version": photo.version,
        "updated_at": photo.updated_at,
        "open_updated_at": None if is_terminal(photo.status) else photo.updated_at,
        "attempt_started_at": photo.attempt_started_at,
        "asked_at": photo.asked_at,
        "completed_at": photo.completed_at,
        "taken_at": photo.taken_at,
        "dated_at": photo.dated_at,
        "deleted_at": photo.deleted_at,
    }


def job_of(row: RowMapping) -> UploadJob:
    """Return the job of a row that has all columns of `upload_jobs`."""
    c = upload_jobs.c
    return UploadJob(
        job_id=row[c.job_id],
        owner=Owner(row[c.tenant], row[c.user_id]),
        drive=row[c.drive],
        strategy=UploadStrategy(row[c.strategy]),
        counts=PhotoCounts(
            **{status.value.lower(): row[c[status.value.lower()]] for status in PhotoStatus}
        ),
        total_bytes=row[c.total_bytes],
        created_at=row[c.created_at],
        updated_at=row[c.updated_at],
        version=row[c.version],
        finished_at=row[c.finished_at],
        sent_bytes=row[c.sent_bytes],
    )


def job_columns(job: UploadJob) -> dict[str, Any]:
    """Return all columns of a job."""
    return {
        "job_id": job.job_id,
        "tenant": job.owner.tenant,
        "user_id": job.owner.user_id,
        "drive": job.drive,
        "strategy": job.strategy.value,
        "total_bytes": job.total_bytes,
        "created_at": job.created_at,
        **changing_job_columns(job),
    }


def changing_job_columns(job: UploadJob) -> dict[str, Any]:
    """Return the columns that changes of a job write."""
    return {
        "status": job.status.value,
        **{status.value.lower(): job.counts[status] for status in PhotoStatus},
        "sent_bytes": job.sent_bytes,
        "version": job.version,
        "updated_at": job.updated_at,
        "finished_at": job.finished_at,
    }


def photo_not_found() -> NotFound:
    return NotFound("PHOTO_NOT_FOUND", "There is no photo with this id.", field="photoId")


def job_not_found() -> NotFound:
    return NotFound("JOB_NOT_FOUND", "There is no upload job with this id.", field="jobId")
