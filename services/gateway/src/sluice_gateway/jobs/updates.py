"""Photos and jobs of the catalogue as live updates. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sluice_core.live.updates import MAX_FIELD_CHARS, Audience, Update
from sluice_core.photos.model import Owner, Photo, UploadJob
from sluice_core.photos.states import TAKES_PARTS, PhotoStatus

_STORED: Final = frozenset({PhotoStatus.PROCESSING, PhotoStatus.COMPLETED})


def audience_of(owner: Owner) -> Audience:
    """Return who hears of an owner's photos."""
    return Audience(owner.tenant, owner.user_id)


def photo_update(photo: Photo) -> Update:
    """Return the state of a photo. Bytes under way are not in the catalogue, so they are 0."""
    return Update(
        job_id=photo.job_id,
        photo_id=photo.photo_id,
        status=photo.status.value,
        bytes_sent=photo.size if photo.status in _STORED else 0,
        bytes_total=photo.size,
        version=photo.version,
        reason=photo.reason[:MAX_FIELD_CHARS],
    )


def job_update(job: UploadJob, photos: Iterable[Photo]) -> Update:
    """Return the state of a job with these photos, which are all that it has.

    An ended photo counts as sent, however it ended, as in `job_percent`.
    """
    return Update(
        job_id=job.job_id,
        photo_id="",
        status=job.status.value,
        bytes_sent=sum(photo.size for photo in photos if photo.status not in TAKES_PARTS),
        bytes_total=job.total_bytes,
        version=job.version,
    )
