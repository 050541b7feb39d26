"""Command: upload a failed photo again."""

from __future__ import annotations

from sluice_core.photos.changes import Outcome
from sluice_core.photos.states import Reopening
from sluice_gateway.jobs.callers import Caller
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.jobs.views import UploadItemView


async def retry_photo(services: PhotoServices, caller: Caller, photo_id: str) -> UploadItemView:
    """Give a FAILED photo another attempt, and return how to send it. A repeat has no effect.

    Raise `NotFound` PHOTO_NOT_FOUND; `FailedPrecondition` PHOTO_ENDED, PHOTO_NOT_FAILED, and
    OBJECT_EXISTS for a photo that arrived and failed afterwards: reprocess that one; the errors of
    a store that cannot sign URLs, and then the photo stays as it is.
    """
    former = await services.catalogue.get_photo(caller.owner, photo_id)
    strategy = (await services.catalogue.get_job(caller.owner, former.job_id)).strategy
    drive = await services.catalogue.get_drive(former.owner.tenant, former.drive)
    await services.urls.check(drive, strategy, former)
    audit = caller.audit("RetryPhoto", f"photo/{photo_id}")
    reopened = await services.catalogue.reopen_photo(
        caller.owner, photo_id, Reopening.RETRY, audit=audit
    )
    photo, job = reopened.photo, reopened.job
    assert photo is not None, "an unknown photo raises"
    assert job is not None, "an unknown photo raises"
    if reopened.outcome is Outcome.APPLIED:
        await services.multiparts.discard([former])
        await services.announcer.publish(job, [photo])
    return await services.urls.item(drive, strategy, photo)
