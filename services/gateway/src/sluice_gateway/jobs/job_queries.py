"""Queries: a job with its photos, and the list of jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import structlog
from starlette.requests import Request
from starlette.responses import Response

from sluice_core.errors import ResourceExhausted, Unavailable
from sluice_core.live.updates import Audience, Update
from sluice_core.photos.counts import JOB_ENDS, JobStatus
from sluice_core.photos.model import Photo
from sluice_core.photos.states import TAKES_PARTS
from sluice_core.ports.upload_jobs import JobCursor
from sluice_gateway.http.conditional import conditional, etag_of, known_etags, not_modified
from sluice_gateway.http.paging import decode_cursor, encode_cursor
from sluice_gateway.jobs.callers import Caller
from sluice_gateway.jobs.job_views import job_summary, job_view
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.jobs.views import JobPageView

_KIND: Final = "jobs"
_MAX_TIME: Final = 1e11
"""Of a cursor: later than any job, and within the range of the catalogue's microseconds."""

_log = structlog.get_logger(__name__)


async def get_job(
    services: PhotoServices, caller: Caller, request: Request, job_id: str
) -> Response:
    """Answer with a job and its photos, or 304.

    The tag consists of the job's version and the progress of its open photos. A job that has ended
    is compared by one row: clients of a finished job poll cheaply.

    Raise `NotFound` JOB_NOT_FOUND.
    """
    # One row, whoever asks: the photos of another one's job are not read.
    summary = await services.catalogue.get_job(caller.owner, job_id)
    etag = etag_of([job_id, summary.version])
    if summary.status in JOB_ENDS and etag in known_etags(request):
        return not_modified(etag)
    found = await services.catalogue.job_with_photos(caller.owner, job_id)
    job = found.job
    updates: Mapping[str, Update] = {}
    recorded: Mapping[str, int] = {}
    if job.status not in JOB_ENDS:
        updates = await _progress_of(services, caller.audience, found.photos)
        resumable = [photo.photo_id for photo in found.photos if _may_have_parts(photo)]
        recorded = await services.catalogue.recorded_bytes(resumable)
    sent = [f"{key}:{update.bytes_sent}" for key, update in updates.items()]
    sent += [f"{key}+{size}" for key, size in sorted(recorded.items())]
    view = job_view(job, found.photos, updates, recorded)
    return conditional(request, etag_of([job_id, job.version, *sent]), view)


async def list_jobs(
    services: PhotoServices,
    caller: Caller,
    request: Request,
    *,
    status: JobStatus | None,
    page: int,
    size: int,
    cursor: str | None,
) -> Response:
    """Answer with a page of the caller's jobs, newest first, or 304.

    Raise `InvalidArgument` BAD_CURSOR.
    """
    after = None if cursor is None else _decode(cursor)
    found = await services.catalogue.list_jobs(
        caller.owner, size, after, status=status, skip=0 if after is not None else page * size
    )
    following = found.next_after
    view = JobPageView(
        items=[job_summary(job) for job in found.jobs],
        page=page,
        size=size,
        has_more=following is not None,
        next=None if following is None else _encode(following),
    )
    versions = (f"{job.job_id}:{job.version}" for job in found.jobs)
    return conditional(request, etag_of([page, size, view.next, *versions]), view)


async def _progress_of(
    services: PhotoServices, audience: Audience, photos: Sequence[Photo]
) -> dict[str, Update]:
    """Return what live updates know of the open photos. Best effort."""
    opened = [photo.photo_id for photo in photos if photo.status in TAKES_PARTS]
    if not opened:
        return {}
    try:
        latest = await services.updates.latest(audience, opened)
    except (Unavailable, ResourceExhausted) as error:
        _log.warning("progress.read_failed", reason=error.reason, detail=error.log_detail)
        return {}
    return {update.key: update for update in latest if update is not None}


def _may_have_parts(photo: Photo) -> bool:
    return bool(photo.multipart_id) and photo.status in TAKES_PARTS


def _encode(cursor: JobCursor) -> str:
    return encode_cursor(_KIND, [cursor.created_at, cursor.job_id])


def _decode(cursor: str) -> JobCursor:
    created_at, job_id = decode_cursor(_KIND, cursor, (float, str))
    return JobCursor(min(max(created_at, 0.0), _MAX_TIME), job_id)
