"""Routes of jobs: they translate and delegate to the commands and queries."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from sluice_core.photos.counts import JobStatus
from sluice_core.photos.ids import ID_PATTERN, check_job_id, check_photo_id
from sluice_gateway.http.authentication import Authentication
from sluice_gateway.http.paging import Cursor, PageNumber, PageSize
from sluice_gateway.http.routes import NEEDS_TOKEN, PROBLEMS, authenticated_route
from sluice_gateway.jobs.callers import Callers
from sluice_gateway.jobs.cancel import cancel_job, cancel_photo
from sluice_gateway.jobs.create_job import create_job
from sluice_gateway.jobs.finalize import finalize_upload
from sluice_gateway.jobs.idempotency_key import IdempotencyKey
from sluice_gateway.jobs.job_queries import get_job, list_jobs
from sluice_gateway.jobs.parts import list_parts
from sluice_gateway.jobs.renew import renew_upload
from sluice_gateway.jobs.reprocess import reprocess_photo
from sluice_gateway.jobs.retry import retry_photo
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.jobs.upload_limits import get_upload_limits
from sluice_gateway.jobs.views import (
    FinalizeBody,
    JobPageView,
    JobView,
    NewJobBody,
    NewJobView,
    PartsBody,
    PartsView,
    PhotoStateView,
    UploadItemView,
    UploadLimitsView,
)

# The forms are documented here, and checked by the handlers, whose refusals have exact reasons.
_FORM = {"pattern": ID_PATTERN}
JobId = Annotated[str, Path(alias="jobId", description="Id of a job.", json_schema_extra=_FORM)]
PhotoId = Annotated[
    str, Path(alias="photoId", description="Id of a photo.", json_schema_extra=_FORM)
]


def job_routes(services: PhotoServices, authentication: Authentication) -> APIRouter:
    """Return the routes."""
    callers = Callers(authentication)
    repeatable = services.repeatable
    router = APIRouter(
        tags=["jobs"], route_class=authenticated_route(authentication), responses=PROBLEMS
    )

    @router.post(
        "/commands/upload-jobs",
        status_code=201,
        response_model=NewJobView,
        openapi_extra=NEEDS_TOKEN,
    )
    async def create_upload_job(
        body: NewJobBody, request: Request, _key: IdempotencyKey = None
    ) -> Response:
        """Create a job of 1 to 1,000 photos; the answer says how to send each of them."""
        caller = await callers.writer(request)
        response = await repeatable.answer(
            caller.owner,
            request,
            lambda operation_id: create_job(services, caller, body, operation_id),
            201,
        )
        response.headers["ratelimit-policy"] = services.limits.jobs.header
        return response

    @router.post(
        "/commands/upload-jobs/{jobId}/cancel", response_model=JobView, openapi_extra=NEEDS_TOKEN
    )
    async def cancel_upload_job(
        job_id: JobId, request: Request, _key: IdempotencyKey = None
    ) -> Response:
        """Cancel all photos of a job that have not ended."""
        caller = await callers.writer(request)
        check_job_id(job_id)
        return await repeatable.answer(
            caller.owner, request, lambda _: cancel_job(services, caller, job_id)
        )

    @router.post(
        "/commands/upload/{photoId}/parts", response_model=PartsView, openapi_extra=NEEDS_TOKEN
    )
    async def sign_upload_parts(
        photo_id: PhotoId,
        request: Request,
        body: PartsBody | None = None,
        _key: IdempotencyKey = None,
    ) -> Response:
        """Return which parts the store has, and URLs for others: first, further or renewed ones."""
        caller = await callers.writer(request)
        check_photo_id(photo_id)
        wanted = body or PartsBody()
        return await repeatable.answer(
            caller.owner, request, lambda _: list_parts(services, caller, photo_id, wanted)
        )

    @router.post(
        "/commands/upload/{photoId}/finalize",
        response_model=PhotoStateView,
        openapi_extra=NEEDS_TOKEN,
    )
    async def finalize(
        photo_id: PhotoId,
        request: Request,
        body: FinalizeBody | None = None,
        _key: IdempotencyKey = None,
    ) -> Response:
        """Complete a multipart, or confirm that the photo was put."""
        caller = await callers.writer(request)
        check_photo_id(photo_id)
        sent = body or FinalizeBody()
        return await repeatable.answer(
            caller.owner, request, lambda _: finalize_upload(services, caller, photo_id, sent)
        )

    @router.post(
        "/commands/upload/{photoId}/renew",
        response_model=UploadItemView,
        openapi_extra=NEEDS_TOKEN,
    )
    async def renew(photo_id: PhotoId, request: Request, _key: IdempotencyKey = None) -> Response:
        """Return a new URL for the same photo."""
        caller = await callers.writer(request)
        check_photo_id(photo_id)
        return await repeatable.answer(
            caller.owner, request, lambda _: renew_upload(services, caller, photo_id)
        )

    @router.post(
        "/commands/upload/{photoId}/retry",
        response_model=UploadItemView,
        openapi_extra=NEEDS_TOKEN,
    )
    async def retry(photo_id: PhotoId, request: Request, _key: IdempotencyKey = None) -> Response:
        """Give a failed photo another attempt while its object is missing."""
        caller = await callers.writer(request)
        check_photo_id(photo_id)
        return await repeatable.answer(
            caller.owner, request, lambda _: retry_photo(services, caller, photo_id)
        )

    @router.post(
        "/commands/upload/{photoId}/cancel",
        response_model=PhotoStateView,
        openapi_extra=NEEDS_TOKEN,
    )
    async def cancel(photo_id: PhotoId, request: Request, _key: IdempotencyKey = None) -> Response:
        """Cancel a photo that has not ended, and abort its multipart."""
        caller = await callers.writer(request)
        check_photo_id(photo_id)
        return await repeatable.answer(
            caller.owner, request, lambda _: cancel_photo(services, caller, photo_id)
        )

    @router.post(
        "/commands/photos/{photoId}/reprocess",
        response_model=PhotoStateView,
        openapi_extra=NEEDS_TOKEN,
    )
    async def reprocess(
        photo_id: PhotoId, request: Request, _key: IdempotencyKey = None
    ) -> Response:
        """Process a failed photo again whose object is there."""
        caller = await callers.writer(request)
        check_photo_id(photo_id)
        return await repeatable.answer(
            caller.owner, request, lambda _: reprocess_photo(services, caller, photo_id)
        )

    @router.get("/queries/upload-jobs", response_model=JobPageView, openapi_extra=NEEDS_TOKEN)
    async def query_upload_jobs(
        request: Request,
        status: Annotated[JobStatus | None, Query()] = None,
        page: PageNumber = 0,
        size: PageSize = 20,
        cursor: Cursor = None,
    ) -> Response:
        """List jobs, newest first."""
        caller = await callers.reader(request)
        return await list_jobs(
            services, caller, request, status=status, page=page, size=size, cursor=cursor
        )

    @router.get("/queries/upload-jobs/{jobId}", response_model=JobView, openapi_extra=NEEDS_TOKEN)
    async def query_upload_job(job_id: JobId, request: Request) -> Response:
        """Return a job with the status and progress of its photos. Poll it with If-None-Match."""
        caller = await callers.reader(request)
        return await get_job(services, caller, request, check_job_id(job_id))

    @router.get(
        "/queries/upload-limits", response_model=UploadLimitsView, openapi_extra=NEEDS_TOKEN
    )
    async def query_upload_limits(request: Request) -> Response:
        """Return sizes, types and numbers of files that this server takes."""
        await callers.either(request)  # those who upload need them, those who look may
        return get_upload_limits(services.options, request)

    return router
