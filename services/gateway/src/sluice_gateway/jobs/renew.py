"""Command: a new URL for the same photo."""

from __future__ import annotations

from sluice_gateway.jobs.callers import Caller
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.jobs.upload_states import check_open, keep_awaiting
from sluice_gateway.jobs.views import UploadItemView


async def renew_upload(services: PhotoServices, caller: Caller, photo_id: str) -> UploadItemView:
    """Return how to send the photo, with a URL that has its whole life before it.

    The time in which the photo has to arrive begins again.

    Sends no request to the store. For the parts of a multipart ask `list_parts`.

    Raise `NotFound` PHOTO_NOT_FOUND; `FailedPrecondition` PHOTO_UPLOADED, PHOTO_ENDED.
    """
    photo = await services.catalogue.get_photo(caller.owner, photo_id)
    check_open(photo)
    await keep_awaiting(services, photo)
    job = await services.catalogue.get_job(caller.owner, photo.job_id)
    drive = await services.catalogue.get_drive(photo.owner.tenant, photo.drive)
    item = await services.urls.item(drive, job.strategy, photo)
    entry = caller.audit("RenewUploadUrl", f"photo/{photo_id}")
    await services.url_audit.append(entry)  # before anybody has the URL
    return item
