"""Routes of photos: they translate and delegate to the commands and queries."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from sluice_core.photos.ids import check_photo_id
from sluice_core.photos.names import MAX_FILENAME_BYTES, MAX_TAGS_OF_PHOTO
from sluice_core.photos.states import PhotoStatus
from sluice_gateway.http.authentication import Authentication
from sluice_gateway.http.paging import Cursor, PageNumber, PageSize
from sluice_gateway.http.parameters import Rfc3339
from sluice_gateway.http.routes import NEEDS_TOKEN, PROBLEMS, authenticated_route
from sluice_gateway.jobs.callers import Callers
from sluice_gateway.jobs.idempotency_key import IdempotencyKey
from sluice_gateway.jobs.routes import PhotoId
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.photos.delete import delete_photo
from sluice_gateway.photos.download import Variant, download_url
from sluice_gateway.photos.photo_queries import get_photo, list_photos, wanted_photos
from sluice_gateway.photos.tags import add_tags, list_tags, remove_tags
from sluice_gateway.photos.views import (
    LABEL_FORM,
    DownloadView,
    PhotoPageView,
    PhotoView,
    TagPageView,
    TagsBody,
    TagsView,
)

_MAX_LABEL_CHARS = 4 * 64


def photo_routes(services: PhotoServices, authentication: Authentication) -> APIRouter:
    """Return the routes."""
    callers = Callers(authentication)
    router = APIRouter(
        tags=["photos"], route_class=authenticated_route(authentication), responses=PROBLEMS
    )

    @router.post(
        "/commands/photos/{photoId}/tags", response_model=TagsView, openapi_extra=NEEDS_TOKEN
    )
    async def tag_photo(
        photo_id: PhotoId, body: TagsBody, request: Request, _key: IdempotencyKey = None
    ) -> Response:
        """Add tags to a photo."""
        caller = await callers.writer(request)
        check_photo_id(photo_id)
        return await services.repeatable.answer(
            caller.owner, request, lambda _: add_tags(services, caller, photo_id, body.tags)
        )

    @router.delete("/commands/photos/{photoId}/tags", openapi_extra=NEEDS_TOKEN)
    async def untag_photo(
        photo_id: PhotoId,
        request: Request,
        tag: Annotated[
            list[Annotated[str, Field(json_schema_extra=LABEL_FORM)]],
            Query(min_length=1, max_length=MAX_TAGS_OF_PHOTO),
        ],
    ) -> TagsView:
        """Remove tags from a photo: `?tag=…&tag=…`."""
        caller = await callers.writer(request)
        return await remove_tags(services, caller, check_photo_id(photo_id), tag)

    @router.delete(
        "/commands/photos/{photoId}",
        status_code=204,
        response_class=Response,
        openapi_extra=NEEDS_TOKEN,
    )
    async def remove_photo(photo_id: PhotoId, request: Request) -> None:
        """Delete a photo."""
        caller = await callers.writer(request)
        await delete_photo(services, caller, check_photo_id(photo_id))

    @router.get("/queries/photos", response_model=PhotoPageView, openapi_extra=NEEDS_TOKEN)
    async def query_photos(
        request: Request,
        tag: Annotated[
            str | None, Query(max_length=_MAX_LABEL_CHARS, json_schema_extra=LABEL_FORM)
        ] = None,
        q: Annotated[
            str | None, Query(max_length=MAX_FILENAME_BYTES, description="Part of the file name.")
        ] = None,
        status: Annotated[PhotoStatus | None, Query()] = None,
        taken_from: Annotated[
            Rfc3339 | None, Query(alias="takenFrom", description="From this time on.")
        ] = None,
        taken_to: Annotated[
            Rfc3339 | None, Query(alias="takenTo", description="Before this time.")
        ] = None,
        sort: Annotated[
            str,
            Query(
                max_length=32,
                description="`createdAt`, `takenAt` or `filename`, with `,asc` or `,desc`.",
                json_schema_extra={"pattern": "^(createdAt|takenAt|filename)(,(asc|desc)?)?$"},
            ),
        ] = "createdAt,desc",
        page: PageNumber = 0,
        size: PageSize = 20,
        cursor: Cursor = None,
    ) -> Response:
        """List photos with their thumbnails."""
        caller = await callers.reader(request)
        wanted = wanted_photos(
            tag=tag, q=q, status=status, taken_from=taken_from, taken_to=taken_to, sort=sort
        )
        return await list_photos(
            services, caller, request, wanted, page=page, size=size, cursor=cursor
        )

    @router.get("/queries/photos/{photoId}", response_model=PhotoView, openapi_extra=NEEDS_TOKEN)
    async def query_photo(photo_id: PhotoId, request: Request) -> Response:
        """Return a photo with its EXIF."""
        caller = await callers.reader(request)
        return await get_photo(services, caller, request, check_photo_id(photo_id))

    @router.get("/queries/photos/{photoId}/download-url", openapi_extra=NEEDS_TOKEN)
    async def query_download_url(
        photo_id: PhotoId, request: Request, variant: Annotated[Variant, Query()] = Variant.ORIGINAL
    ) -> DownloadView:
        """Return a URL to download a photo or one of its thumbnails."""
        caller = await callers.reader(request)
        return await download_url(services, caller, check_photo_id(photo_id), variant)

    @router.get("/queries/tags", openapi_extra=NEEDS_TOKEN)
    async def query_tags(
        request: Request, size: PageSize = 100, cursor: Cursor = None
    ) -> TagPageView:
        """List tags with the number of their photos."""
        caller = await callers.reader(request)
        return await list_tags(services, caller, size=size, cursor=cursor)

    return router
