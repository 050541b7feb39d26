"""Commands: cancel a photo, or all open photos of a job."""

from __future__ import annotations

from sluice_core.photos.changes import Outcome, PhotoChange
from sluice_core.photos.states import PhotoStatus, photo_ended
from sluice_gateway.jobs.callers import Caller
from sluice_gateway.jobs.job_views import job_view, photo_state
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.jobs.views import JobView, PhotoStateView


async def cancel_photo(services: PhotoServices, caller: Caller, photo_id: str) -> PhotoStateView:
    """Cancel a photo and abort its multipart; return the photo. A repeat has no effect.

    Raise `NotFound` PHOTO_NOT_FOUND; `FailedPrecondition` PHOTO_ENDED.
    """
    photo = await services.catalogue.get_photo(caller.owner, photo_id)
    (changed,) = await services.catalogue.change_photos(
        [PhotoChange(photo_id, PhotoStatus.CANCELLED)],
        audit=caller.audit("CancelPhoto", f"photo/{photo_id}"),
    )
    now, job = changed.photo or photo, changed.job
    if changed.outcome not in (Outcome.APPLIED, Outcome.REPEATED):
        raise photo_ended(now.status)
    # Also at a repeat: the first call may have been killed before the abort.
    await services.multiparts.discard([now])
    if changed.outcome is Outcome.APPLIED and job is not None:
        await services.announcer.publish(job, [now])
    return photo_state(now)


async def cancel_job(services: PhotoServices, caller: Caller, job_id: str) -> JobView:
    """Cancel every open photo of a job; return the job. No-op for a job that has ended.

    Raise `NotFound` JOB_NOT_FOUND.
    """
    # Before anything is locked: a stranger neither waits for the owner's requests nor delays them.
    await services.catalogue.get_job(caller.owner, job_id)
    cancelled = await services.catalogue.cancel_job(
        caller.owner, job_id, audit=caller.audit("CancelUploadJob", f"job/{job_id}")
    )
    now = await services.catalogue.job_with_photos(caller.owner, job_id)
    gone = [photo for photo in now.photos if photo.status is PhotoStatus.CANCELLED]
    await services.multiparts.discard(gone)
    if cancelled:
        await services.announcer.publish(now.job, cancelled)
    return job_view(now.job, now.photos, {})
