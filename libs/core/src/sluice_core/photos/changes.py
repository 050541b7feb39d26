"""Changes of photos and their effect on the job. Pure.

The caller holds the lock of the photo's job, so that counts and versions are current.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from sluice_core.errors import FailedPrecondition
from sluice_core.photos.counts import JOB_ENDS
from sluice_core.photos.model import Photo, UploadJob
from sluice_core.photos.states import (
    REOPENED,
    TAKES_PARTS,
    UNARRIVED,
    PhotoStatus,
    Reopening,
    photo_ended,
    steps_to,
)


@dataclass(frozen=True, slots=True)
class PhotoChange:
    """A photo is to enter a state. The guard is (photo id, status): a repeat has no effect."""

    photo_id: str
    target: PhotoStatus
    attempt: int | None = None
    """The attempt that this is news of; None for the current one."""
    reason: str = ""
    """Why it FAILED, in UPPER_SNAKE."""
    detail: str = ""
    taken_at: float | None = None
    """When a COMPLETED photo was taken, if it says so. Unix seconds."""
    trace_parent: str = ""
    asked_before: float | None = None
    """Only if its client has got no URL since this time: for a photo that did not arrive."""


class Outcome(Enum):
    """What became of a change."""

    APPLIED = auto()
    REPEATED = auto()
    """The photo has this status already."""
    LATE = auto()
    """The photo is past this state, has ended, is in a later attempt or waits for longer."""
    UNPROCESSED = auto()
    """It is to be COMPLETED, and no processed object is known."""
    UNKNOWN = auto()
    """There is no such photo."""


def decide(
    photo: Photo, change: PhotoChange, *, is_processed: bool
) -> tuple[Outcome, tuple[PhotoStatus, ...]]:
    """Return what becomes of the change, and the states that the photo enters.

    Args:
        is_processed: whether the photo has a live node with a processed object. Only then can it be
            COMPLETED.
    """
    if change.attempt is not None and change.attempt != photo.attempt:
        return Outcome.LATE, ()
    if change.asked_before is not None and photo.asked_at >= change.asked_before:
        return Outcome.LATE, ()
    if change.target is photo.status:
        return Outcome.REPEATED, ()
    steps = steps_to(photo.status, change.target)
    if not steps:
        return Outcome.LATE, ()
    if change.target is PhotoStatus.COMPLETED and not is_processed:
        return Outcome.UNPROCESSED, ()
    return Outcome.APPLIED, steps


def enter(photo: Photo, status: PhotoStatus, change: PhotoChange, now: float) -> Photo:
    """Return the photo after one step of a decided change."""
    changed = replace(photo, status=status, version=photo.version + 1, updated_at=now)
    match status:
        case PhotoStatus.COMPLETED:
            return replace(changed, completed_at=now, taken_at=change.taken_at)
        case PhotoStatus.FAILED:
            return replace(changed, reason=change.reason, detail=change.detail)
        case _:
            return changed


def reopen(photo: Photo, how: Reopening, now: float) -> Photo:
    """Return the FAILED photo in its next attempt, or the photo itself if that has begun.

    Raise `FailedPrecondition` PHOTO_ENDED or PHOTO_NOT_FAILED; ARRIVED raises nothing and changes
    only a photo that FAILED because it did not arrive. That its object is missing (RETRY) or there
    (REPROCESS, ARRIVED) is for the caller to check.
    """
    if how is Reopening.ARRIVED and (
        photo.status is not PhotoStatus.FAILED or photo.reason not in UNARRIVED
    ):
        return photo
    if photo.status is PhotoStatus.FAILED:
        return replace(
            photo,
            status=REOPENED[how],
            attempt=photo.attempt + 1,
            version=photo.version + 1,
            updated_at=now,
            # Results for an object that arrived late are of no attempt before.
            attempt_started_at=photo.attempt_started_at if how is Reopening.ARRIVED else now,
            asked_at=now if how is Reopening.RETRY else photo.asked_at,
            reason="",
            detail="",
            multipart_id="",
        )
    if photo.status in (PhotoStatus.COMPLETED, PhotoStatus.CANCELLED):
        raise photo_ended(photo.status)
    begun = (
        photo.status is PhotoStatus.PROCESSING
        if how is Reopening.REPROCESS
        else photo.status is not PhotoStatus.PROCESSING
    )
    if begun:
        return photo
    raise FailedPrecondition(
        "PHOTO_NOT_FAILED",
        f"The photo is {photo.status.value}; wait until it has ended.",
        metadata={"status": photo.status.value},
    )


@dataclass(frozen=True, slots=True)
class JobChange:
    """A job after changes of its photos."""

    job: UploadJob
    has_ended: bool
    """Whether the last open photo ended."""


def move(job: UploadJob, steps: Sequence[tuple[PhotoStatus, Photo]], now: float) -> JobChange:
    """Return the job after these steps, each a former status and the photo after it."""
    counts, sent_bytes = job.counts, job.sent_bytes
    for former, photo in steps:
        counts = counts.moved(former, photo.status)
        # A new attempt takes the bytes back.
        sent_bytes += photo.size * ((former in TAKES_PARTS) - (photo.status in TAKES_PARTS))
    moved = replace(
        job, counts=counts, sent_bytes=sent_bytes, version=job.version + 1, updated_at=now
    )
    has_ended = moved.status in JOB_ENDS and job.status not in JOB_ENDS
    if moved.status not in JOB_ENDS:
        moved = replace(moved, finished_at=None)
    elif has_ended:
        moved = replace(moved, finished_at=now)
    return JobChange(moved, has_ended)
