"""Checks that the commands of one upload have in common."""

from __future__ import annotations

import time
from typing import Final

from sluice_core.errors import FailedPrecondition
from sluice_core.photos.changes import PhotoChange
from sluice_core.photos.model import Photo
from sluice_core.photos.states import TAKES_PARTS, UPLOAD_EXPIRED, PhotoStatus, photo_ended
from sluice_core.ports.photos import ChangedPhoto
from sluice_gateway.jobs.ends import count_ends
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.jobs.signing import public_upload_id

_AWAITED_SECONDS: Final = 600.0
"""After which new URLs are recorded again: not with each page of parts."""


def check_open(photo: Photo) -> None:
    """Raise `FailedPrecondition` PHOTO_UPLOADED, PHOTO_ENDED unless the photo awaits its bytes."""
    if photo.status is PhotoStatus.PROCESSING:
        raise FailedPrecondition(
            "PHOTO_UPLOADED",
            "The photo has arrived and is being processed; send nothing more.",
            metadata={"status": photo.status.value},
        )
    if photo.status not in TAKES_PARTS:
        raise photo_ended(photo.status)


async def keep_awaiting(services: PhotoServices, photo: Photo) -> None:
    """Give the photo its whole time to arrive, since it is about to get new URLs.

    Raise `FailedPrecondition` PHOTO_ENDED.
    """
    if time.time() - photo.asked_at >= _AWAITED_SECONDS:
        await services.catalogue.keep_awaiting(photo.photo_id, photo.attempt)


def check_attempt(photo: Photo, upload_id: str | None) -> None:
    """Raise `FailedPrecondition` UPLOAD_REPLACED for the upload of another attempt."""
    if upload_id is not None and upload_id != public_upload_id(photo):
        raise FailedPrecondition(
            "UPLOAD_REPLACED",
            "The photo has no such upload, or a retry has replaced it; use its current uploadId.",
            metadata={"upload_id": public_upload_id(photo)},
        )


async def change_upload(
    services: PhotoServices,
    photo: Photo,
    target: PhotoStatus,
    *,
    reason: str = "",
    detail: str = "",
) -> ChangedPhoto:
    """Change the state of the photo's present attempt, and publish it."""
    change = PhotoChange(photo.photo_id, target, photo.attempt, reason, detail)
    (changed,) = await services.catalogue.change_photos([change])
    count_ends(services.metrics.ends, [changed])
    if changed.photo is not None and changed.job is not None:
        await services.announcer.publish(changed.job, [changed.photo])
    return changed


async def fail_expired(services: PhotoServices, photo: Photo) -> FailedPrecondition:
    """Fail a photo whose multipart the store has forgotten; return the error for its client."""
    error = FailedPrecondition(
        UPLOAD_EXPIRED,
        "The upload took too long and its parts were removed; retry the photo.",
        metadata={"status": PhotoStatus.FAILED.value},
    )
    await change_upload(
        services, photo, PhotoStatus.FAILED, reason=UPLOAD_EXPIRED, detail=error.message
    )
    return error
