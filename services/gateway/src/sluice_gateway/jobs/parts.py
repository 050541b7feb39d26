"""Command: URLs for the parts of a photo, first, further or renewed."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_core.errors import FailedPrecondition
from sluice_core.photos.model import Photo
from sluice_core.photos.states import PhotoStatus
from sluice_core.ports.object_store import PartTag
from sluice_core.ports.photos import UploadPart
from sluice_gateway.jobs.callers import Caller
from sluice_gateway.jobs.part_plan import PartPlan, is_multipart, plan_parts
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.jobs.signing import public_upload_id
from sluice_gateway.jobs.upload_states import (
    change_upload,
    check_attempt,
    check_open,
    fail_expired,
    keep_awaiting,
)
from sluice_gateway.jobs.views import PartsBody, PartsView, StoredPartView, WantedPartBody


async def list_parts(
    services: PhotoServices, caller: Caller, photo_id: str, body: PartsBody
) -> PartsView:
    """Return which parts the store has, and URLs for the wanted ones.

    The first call opens the store's multipart and makes the photo UPLOADING. With each call the
    time in which the photo has to arrive begins again. After a reload the
    client goes on with the parts that are missing.

    Raise `NotFound` PHOTO_NOT_FOUND; `InvalidArgument` BAD_PART_NUMBER; `FailedPrecondition`
    NOT_MULTIPART, UPLOAD_REPLACED, UPLOAD_EXPIRED, UPLOAD_COMPLETE, PHOTO_UPLOADED, PHOTO_ENDED;
    the errors of the store.
    """
    photo = await services.catalogue.get_photo(caller.owner, photo_id)
    _check_multipart(photo)
    plan = plan_parts(photo.size)
    wanted = None if body.parts is None else _check_parts(plan, body.parts)
    check_open(photo)
    check_attempt(photo, body.upload_id)
    await keep_awaiting(services, photo)
    drive = await services.catalogue.get_drive(photo.owner.tenant, photo.drive)
    stored: Sequence[PartTag] = ()
    multipart_id = await services.multiparts.open(drive, photo)
    if photo.multipart_id:
        listed = await services.multiparts.stored_parts(photo, multipart_id)
        if listed is None:
            if await services.multiparts.has_object(photo):
                raise FailedPrecondition(
                    "UPLOAD_COMPLETE", "The store has the whole photo; finalize it."
                )
            raise await fail_expired(services, photo)
        stored = valid_parts(plan, listed)
        # What the store has is shown as sent, also when nobody knows the client's reports any more.
        parts = [UploadPart(tag.number, tag.size, tag.etag) for tag in stored]
        if parts:
            await services.catalogue.record_upload_parts(photo_id, photo.attempt, parts)
    if photo.status is PhotoStatus.QUEUED:
        await change_upload(services, photo, PhotoStatus.UPLOADING)
    if wanted is None:
        have = {tag.number for tag in stored}
        wanted = {number: None for number in plan.numbers if number not in have}
    urls = await services.urls.parts(photo, plan, multipart_id, wanted)
    if urls:
        entry = caller.audit("GetPartUrls", f"photo/{photo_id}")
        await services.url_audit.append(entry)  # before anybody has the URLs
    return PartsView(
        photo_id=photo_id,
        upload_id=public_upload_id(photo),
        part_size=plan.part_bytes,
        part_count=plan.count,
        stored=[
            StoredPartView(part_number=tag.number, bytes=tag.size, etag=tag.etag) for tag in stored
        ],
        parts=urls,
    )


def valid_parts(plan: PartPlan, listed: Sequence[PartTag]) -> list[PartTag]:
    """Return the stored parts that belong to the plan; a part of another size is to be repeated."""
    return [
        tag for tag in listed if tag.number in plan.numbers and tag.size == plan.size_of(tag.number)
    ]


def _check_multipart(photo: Photo) -> None:
    if not is_multipart(photo.size):
        raise FailedPrecondition(
            "NOT_MULTIPART", "The photo is sent by one PUT; renew its URL if that has expired."
        )


def _check_parts(plan: PartPlan, parts: Sequence[WantedPartBody]) -> dict[int, int | None]:
    """Return the CRC32C by part number."""
    wanted: dict[int, int | None] = {}
    for index, part in enumerate(parts):
        number = plan.check_number(part.part_number, f"parts.{index}.partNumber")
        wanted[number] = None if part.crc32c is None else int(part.crc32c, 16)
    return wanted
