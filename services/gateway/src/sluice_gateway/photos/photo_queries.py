"""Queries: a photo, and the list of photos."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from sluice_core.catalogue.processing import Processing
from sluice_core.errors import InvalidArgument
from sluice_core.photos.model import Photo
from sluice_core.photos.names import check_label
from sluice_core.photos.states import PhotoStatus
from sluice_core.ports.photos import PhotoCursor, PhotoFilter, PhotoSort
from sluice_gateway.http.conditional import conditional, etag_of
from sluice_gateway.http.paging import decode_cursor, encode_cursor
from sluice_gateway.jobs.callers import Caller
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.photos.photo_views import summary_of, thumbnail_name, thumbnail_view
from sluice_gateway.photos.views import (
    PhotoPageView,
    PhotoSummaryView,
    PhotoView,
    ThumbnailView,
)

_MAX_TIME: Final = 1e11
"""Of a cursor: within the range of the catalogue's microseconds."""
_DIRECTIONS: Final = {"": True, "desc": True, "asc": False}
_TAG_LIVES: Final = 4
"""A tag of an answer with URLs ends after this share of their life, so that an answer that a
client keeps has no expired ones."""


async def get_photo(
    services: PhotoServices, caller: Caller, request: Request, photo_id: str
) -> Response:
    """Answer with a photo and its EXIF, or 304. Raise `NotFound` PHOTO_NOT_FOUND."""
    photo = await services.catalogue.get_photo(caller.owner, photo_id)
    results, tags, thumbnails = await _details(services, [photo])
    processing = results.get(photo.node_id)
    view = PhotoView(
        **summary_of(photo, processing, tags.get(photo_id, ()), thumbnails.get(photo.node_id, ())),
        exif=None if processing is None else dict(processing.exif),
        location=None
        if processing is None or processing.location is None
        else dict(processing.location),
    )
    return conditional(request, _etag(services, [photo], results, ["photo"]), view)


async def list_photos(
    services: PhotoServices,
    caller: Caller,
    request: Request,
    wanted: PhotoFilter,
    *,
    page: int,
    size: int,
    cursor: str | None,
) -> Response:
    """Answer with a page of the caller's photos, or 304. Raise `InvalidArgument` BAD_CURSOR."""
    after = None if cursor is None else _decode(cursor, wanted)
    found = await services.catalogue.list_photos(
        caller.owner, size, after, wanted, skip=0 if after is not None else page * size
    )
    results, tags, thumbnails = await _details(services, found.photos)
    following = found.next_after
    view = PhotoPageView(
        items=[
            PhotoSummaryView(
                **summary_of(
                    photo,
                    results.get(photo.node_id),
                    tags.get(photo.photo_id, ()),
                    thumbnails.get(photo.node_id, ()),
                )
            )
            for photo in found.photos
        ],
        page=page,
        size=size,
        has_more=following is not None,
        next=None if following is None else _encode(following, wanted),
    )
    etag = _etag(services, found.photos, results, ["photos", page, size, view.next])
    return conditional(request, etag, view)


def wanted_photos(
    *,
    tag: str | None,
    q: str | None,
    status: PhotoStatus | None,
    taken_from: datetime | None,
    taken_to: datetime | None,
    sort: str,
) -> PhotoFilter:
    """Return the filter of a query. Raise `InvalidArgument` BAD_TAG, BAD_SORT."""
    name, _, direction = sort.partition(",")
    if name not in set(PhotoSort) or direction not in _DIRECTIONS:
        raise InvalidArgument(
            "BAD_SORT",
            "There is no such order; sort by createdAt, takenAt or filename, with ,asc or ,desc.",
            field="sort",
        )
    return PhotoFilter(
        tag="" if tag is None else check_label(tag, "tag"),
        text=q or "",
        status=status,
        taken_from=_unix_seconds(taken_from),
        taken_to=_unix_seconds(taken_to),
        sort=PhotoSort(name),
        descending=_DIRECTIONS[direction],
    )


async def _details(
    services: PhotoServices, photos: Sequence[Photo]
) -> tuple[
    Mapping[str, Processing], Mapping[str, Sequence[str]], Mapping[str, list[ThumbnailView]]
]:
    """Return results by node, tags by photo, and thumbnails by node."""
    if not photos:
        return {}, {}, {}
    tenant = photos[0].owner.tenant
    results = await services.catalogue.processing_of(tenant, [each.node_id for each in photos])
    tags = await services.catalogue.tags_of([photo.photo_id for photo in photos])
    shown = [
        (photo, thumbnail)
        for photo in photos
        if photo.node_id in results
        for thumbnail in results[photo.node_id].thumbnails
    ]
    urls = await services.urls.thumbnails(
        (thumbnail.object, thumbnail_name(photo, thumbnail)) for photo, thumbnail in shown
    )
    thumbnails: dict[str, list[ThumbnailView]] = {}
    for (photo, thumbnail), (url, expires_at) in zip(shown, urls, strict=True):
        view = thumbnail_view(thumbnail, url, expires_at)
        thumbnails.setdefault(photo.node_id, []).append(view)
    return results, tags, thumbnails


def _etag(
    services: PhotoServices,
    photos: Sequence[Photo],
    results: Mapping[str, Processing],
    request: Sequence[object],
) -> str:
    """Return the tag of an answer; every change of a photo, its tags included, has a version."""
    age = services.options.download_url_seconds / _TAG_LIVES
    versions = (f"{photo.photo_id}:{photo.version}" for photo in photos)
    processed = (f"{node}:{one.etag}:{one.processed_at}" for node, one in sorted(results.items()))
    return etag_of([*request, int(time.time() / age), *versions, *processed])


def _kind(wanted: PhotoFilter) -> str:
    return f"photos,{wanted.sort.value},{'desc' if wanted.descending else 'asc'}"


def _encode(cursor: PhotoCursor, wanted: PhotoFilter) -> str:
    return encode_cursor(_kind(wanted), [cursor.value, cursor.photo_id])


def _decode(cursor: str, wanted: PhotoFilter) -> PhotoCursor:
    is_name = wanted.sort is PhotoSort.FILENAME
    value, photo_id = decode_cursor(_kind(wanted), cursor, (str if is_name else float, str))
    return PhotoCursor(value if is_name else min(max(value, -_MAX_TIME), _MAX_TIME), photo_id)


def _unix_seconds(time_: datetime | None) -> float | None:
    """Return the time; without a zone it is UTC."""
    if time_ is None:
        return None
    return (time_ if time_.tzinfo is not None else time_.replace(tzinfo=UTC)).timestamp()
