"""Photos and jobs of the catalogue as live updates. Pure."""

from __future__ import annotations

from typing import Final

from sluice_core.live.updates import MAX_FIELD_CHARS, Audience, Update
from sluice_core.photos.model import Owner, Photo, UploadJob
from sluice_core.photos.states import PhotoStatus

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


def job_update(job: UploadJob) -> Update:
    """Return the state of a job. An ended photo counts as sent, however it ended."""
    return Update(
        job_id=job.job_id,
        photo_id="",
        status=job.status.value,
        bytes_sent=job.sent_bytes,
        bytes_total=job.total_bytes,
        version=job.version,
    )
