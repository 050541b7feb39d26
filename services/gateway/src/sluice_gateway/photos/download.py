"""Query: a URL to download a photo or one of its thumbnails."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from sluice_core.errors import FailedPrecondition, NotFound
from sluice_core.photos.model import Photo
from sluice_core.photos.states import PhotoStatus
from sluice_core.uploads.model import ObjectRef
from sluice_gateway.http.models import moment
from sluice_gateway.jobs.callers import Caller
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.photos.photo_views import thumbnail_name
from sluice_gateway.photos.views import DownloadView


class Variant(StrEnum):
    """What to download: the photo, or a thumbnail by its longest side in pixels."""

    ORIGINAL = "original"
    SMALL = "256"
    LARGE = "1024"


_INFECTED: Final = "INFECTED"
"""Reason of the processor."""
_SIZES: Final = {Variant.SMALL: 256, Variant.LARGE: 1024}


async def download_url(
    services: PhotoServices, caller: Caller, photo_id: str, variant: Variant
) -> DownloadView:
    """Return a URL with which anybody can read the object until it expires.

    Raise `NotFound` PHOTO_NOT_FOUND, VARIANT_NOT_FOUND; `FailedPrecondition` OBJECT_MISSING for a
    photo that has not arrived, PHOTO_INFECTED for one in which a virus scanner found something.
    """
    photo = await services.catalogue.get_photo(caller.owner, photo_id)
    ref, filename = await _find(services, photo, variant)
    url, expires_at = await services.urls.download(ref, filename)
    entry = caller.audit("GetPhotoDownloadUrl", f"photo/{photo_id}")
    await services.url_audit.append(entry)  # before anybody has the URL
    return DownloadView(
        photo_id=photo_id,
        variant=variant.value,
        url=url,
        expires_at=moment(expires_at),
        filename=filename,
    )


async def _find(services: PhotoServices, photo: Photo, variant: Variant) -> tuple[ObjectRef, str]:
    if photo.status is PhotoStatus.FAILED and photo.reason == _INFECTED:
        raise FailedPrecondition(
            "PHOTO_INFECTED",
            "The virus scanner found something in the photo; delete it.",
            metadata={"status": photo.status.value},
        )
    if variant is Variant.ORIGINAL:
        try:
            node = await services.catalogue.get_node(photo.owner.tenant, photo.node_id)
        except NotFound:
            raise FailedPrecondition(
                "OBJECT_MISSING",
                "The photo has not arrived; wait until it is PROCESSING.",
                metadata={"status": photo.status.value},
            ) from None
        return node.object, photo.filename
    results = await services.catalogue.processing_of(photo.owner.tenant, [photo.node_id])
    processing = results.get(photo.node_id)
    for thumbnail in () if processing is None else processing.thumbnails:
        if thumbnail.size == _SIZES[variant]:
            return thumbnail.object, thumbnail_name(photo, thumbnail)
    raise NotFound(
        "VARIANT_NOT_FOUND",
        "The photo has no thumbnail of this size; wait until it is COMPLETED, or use another one.",
        field="variant",
    )
