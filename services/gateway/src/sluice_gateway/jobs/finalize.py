"""Command: end the upload of a photo."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from sluice_core.errors import FailedPrecondition, InvalidArgument
from sluice_core.photos.model import Photo
from sluice_core.photos.states import TAKES_PARTS, PhotoStatus, photo_ended
from sluice_core.photos.strategies import UploadStrategy
from sluice_core.ports.object_store import PartTag
from sluice_gateway.jobs.callers import Caller
from sluice_gateway.jobs.job_views import photo_state
from sluice_gateway.jobs.part_plan import PartPlan, describe_numbers, is_multipart, plan_parts
from sluice_gateway.jobs.parts import valid_parts
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.jobs.upload_states import change_upload, check_attempt, fail_expired
from sluice_gateway.jobs.views import FinalizeBody, PhotoStateView, SentPartBody

_ARRIVED = (PhotoStatus.PROCESSING, PhotoStatus.COMPLETED)


async def finalize_upload(
    services: PhotoServices, caller: Caller, photo_id: str, body: FinalizeBody
) -> PhotoStateView:
    """Complete a multipart, or confirm that a photo was put; return the photo.

    The parts come from the store's own list: pages cannot read an ETag that a store does not
    expose, and nobody has to be believed. A repeat has no effect.

    Raise `NotFound` PHOTO_NOT_FOUND; `InvalidArgument` BAD_PART_NUMBER; `FailedPrecondition`
    PARTS_MISSING, ETAG_MISMATCH, OBJECT_MISSING, UPLOAD_REPLACED, UPLOAD_EXPIRED, PHOTO_ENDED;
    the errors of the store.
    """
    photo = await services.catalogue.get_photo(caller.owner, photo_id)
    check_attempt(photo, body.upload_id)
    plan = plan_parts(photo.size)
    sent = _check_parts(plan, body.parts or ())
    if photo.status in _ARRIVED:
        return photo_state(photo)
    if photo.status not in TAKES_PARTS:
        raise photo_ended(photo.status)
    job = await services.catalogue.get_job(caller.owner, photo.job_id)
    if job.strategy is UploadStrategy.TUS:
        raise FailedPrecondition(
            "OBJECT_MISSING",
            "The photo is not complete; send the rest by tus, which needs no finalization.",
        )
    if is_multipart(photo.size):
        await _complete(services, photo, plan, sent)
    elif not await services.multiparts.has_object(photo):
        raise FailedPrecondition(
            "OBJECT_MISSING", "The store does not have the photo; put it, and finalize it then."
        )
    # With a node, the store's own notification has come: another one would have the whole photo
    # read again within this request.
    if not await services.catalogue.candidates([photo.node_id]):
        # Before the state: a repeat after a crash in between notifies again.
        await services.object_created(photo.object, happened_at=time.time())
    changed = await change_upload(services, photo, PhotoStatus.PROCESSING)
    now = changed.photo or photo
    if now.status not in _ARRIVED and now.status is not PhotoStatus.FAILED:
        raise photo_ended(now.status)  # cancelled meanwhile
    return photo_state(now)


async def _complete(
    services: PhotoServices, photo: Photo, plan: PartPlan, sent: Sequence[SentPartBody]
) -> None:
    if not photo.multipart_id:
        raise _parts_missing(list(plan.numbers))
    listed = await services.multiparts.stored_parts(photo, photo.multipart_id)
    if listed is None:
        # A former call may have completed it.
        if not await services.multiparts.has_object(photo):
            raise await fail_expired(services, photo)
        return
    stored = {tag.number: tag for tag in valid_parts(plan, listed)}
    missing = [number for number in plan.numbers if number not in stored]
    if missing:
        raise _parts_missing(missing)
    _check_etags(stored.values(), sent)
    parts = [stored[number] for number in plan.numbers]
    if not await services.multiparts.complete(photo, photo.multipart_id, parts):
        raise await fail_expired(services, photo)


def _check_parts(plan: PartPlan, sent: Sequence[SentPartBody]) -> Sequence[SentPartBody]:
    """Return the parts. Raise `InvalidArgument` BAD_PART_NUMBER for repeated and foreign ones."""
    numbers: set[int] = set()
    for index, part in enumerate(sent):
        field = f"parts.{index}.partNumber"
        plan.check_number(part.part_number, field)
        if part.part_number in numbers:
            raise InvalidArgument(
                "BAD_PART_NUMBER", "The part is listed twice; list each part once.", field=field
            )
        numbers.add(part.part_number)
    return sent


def _check_etags(stored: Iterable[PartTag], sent: Sequence[SentPartBody]) -> None:
    etags = {tag.number: _bare(tag.etag) for tag in stored}
    wrong = [part.part_number for part in sent if etags[part.part_number] != _bare(part.etag)]
    if wrong:
        raise FailedPrecondition(
            "ETAG_MISMATCH",
            "The store has other bytes for the parts in metadata; send these parts again.",
            metadata={"parts": describe_numbers(wrong)},
        )


def _bare(etag: str) -> str:
    """Return an ETag without the quotes that it has in a header."""
    return etag.strip('"')


def _parts_missing(numbers: Sequence[int]) -> FailedPrecondition:
    return FailedPrecondition(
        "PARTS_MISSING",
        "The store does not have the parts in metadata; send them, and finalize then.",
        metadata={"parts": describe_numbers(numbers)},
    )
