"""Command: process a failed photo again."""

from __future__ import annotations

from sluice_core.photos.changes import Outcome
from sluice_core.photos.states import Reopening
from sluice_gateway.jobs.callers import Caller
from sluice_gateway.jobs.job_views import photo_state
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.jobs.views import PhotoStateView


async def reprocess_photo(services: PhotoServices, caller: Caller, photo_id: str) -> PhotoStateView:
    """Have the object of a FAILED photo processed again; return the photo.

    A repeat while it is PROCESSING requests it again: the request of the first call may be lost.

    Raise `NotFound` PHOTO_NOT_FOUND; `FailedPrecondition` PHOTO_ENDED, PHOTO_NOT_FAILED,
    OBJECT_MISSING; `Unavailable`.
    """
    # Before anything is locked: a stranger neither waits for the owner's requests nor delays them.
    await services.catalogue.get_photo(caller.owner, photo_id)
    reopened = await services.catalogue.reopen_photo(
        caller.owner,
        photo_id,
        Reopening.REPROCESS,
        audit=caller.audit("ReprocessPhoto", f"photo/{photo_id}"),
    )
    photo, job = reopened.photo, reopened.job
    assert photo is not None, "an unknown photo raises"
    assert job is not None, "an unknown photo raises"
    if reopened.outcome is Outcome.APPLIED:
        await services.announcements.publish(job, [photo])
    await services.reprocessing(photo)
    return photo_state(photo)
