"""Command: process a failed photo again."""

from __future__ import annotations

from sluice_common.telemetry.tracing import current_traceparent
from sluice_core.errors import Unimplemented
from sluice_core.photos.changes import Outcome
from sluice_core.photos.states import Reopening
from sluice_gateway.jobs.callers import Caller
from sluice_gateway.jobs.job_views import photo_state
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.jobs.views import PhotoStateView


async def reprocess_photo(services: PhotoServices, caller: Caller, photo_id: str) -> PhotoStateView:
    """Have the object of a FAILED photo processed again; return the photo.

    The request is an event, which the processors get as they get that of an upload. A repeat while
    the photo is PROCESSING requests it again, e.g. after the first request became a dead letter.

    Raise `NotFound` PHOTO_NOT_FOUND; `FailedPrecondition` PHOTO_ENDED, PHOTO_NOT_FAILED,
    OBJECT_MISSING; `Unimplemented` REPROCESSING_DISABLED; `Unavailable`.
    """
    if services.reprocessing is None:
        raise Unimplemented(
            "REPROCESSING_DISABLED",
            "This server has no events by which processors are asked; upload the photo in a new"
            " job.",
        )
    # Before anything is locked: a stranger neither waits for the owner's requests nor delays them.
    await services.catalogue.get_photo(caller.owner, photo_id)
    reopened = await services.catalogue.reopen_photo(
        caller.owner,
        photo_id,
        Reopening.REPROCESS,
        audit=caller.audit("ReprocessPhoto", f"photo/{photo_id}"),
        trace_parent=current_traceparent() or "",
    )
    photo, job = reopened.photo, reopened.job
    assert photo is not None, "an unknown photo raises"
    assert job is not None, "an unknown photo raises"
    if reopened.outcome is Outcome.APPLIED:
        await services.announcer.publish(job, [photo])
    await services.reprocessing(photo)
    return photo_state(photo)
