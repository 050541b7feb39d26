"""Conversion of photos to what clients receive. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sluice_core.catalogue.processing import Processing, ProcessingState, Thumbnail
from sluice_core.photos.model import Photo
from sluice_core.photos.states import PhotoStatus
from sluice_gateway.http.models import moment, optional_moment
from sluice_gateway.photos.views import ThumbnailView


def summary_of(
    photo: Photo,
    processing: Processing | None,
    tags: Sequence[str],
    thumbnails: Sequence[ThumbnailView],
) -> dict[str, Any]:
    """Return the members of a photo's summary."""
    reason, detail = photo.reason, photo.detail
    if (
        photo.status is PhotoStatus.COMPLETED
        and processing is not None
        and processing.state is ProcessingState.FAILED
    ):
        # Who has a URL of the store may put other bytes until it expires. No state leads out of
        # COMPLETED, so the present content speaks for itself.
        reason, detail = processing.reason, processing.detail
    return {
        "photo_id": photo.photo_id,
        "job_id": photo.job_id,
        "filename": photo.filename,
        "mime_type": (processing.content_type if processing else "") or photo.content_type,
        "bytes": photo.size,
        "status": photo.status,
        "reason": reason or None,
        "detail": detail or None,
        "tags": list(tags),
        "width": (processing.width if processing else 0) or None,
        "height": (processing.height if processing else 0) or None,
        "created_at": moment(photo.created_at),
        "completed_at": optional_moment(photo.completed_at),
        "taken_at": optional_moment(photo.taken_at),
        "thumbnails": list(thumbnails),
    }


def thumbnail_view(thumbnail: Thumbnail, url: str, expires_at: float) -> ThumbnailView:
    return ThumbnailView(
        size=thumbnail.size,
        width=thumbnail.width,
        height=thumbnail.height,
        mime_type=thumbnail.content_type,
        url=url,
        expires_at=moment(expires_at),
    )


def thumbnail_name(photo: Photo, thumbnail: Thumbnail) -> str:
    """Return the name under which a thumbnail is saved, such as `IMG_1-256.webp`."""
    stem = photo.filename.rpartition(".")[0] or photo.filename
    return f"{stem}-{thumbnail.size}.{thumbnail.content_type.rpartition('/')[2]}"
