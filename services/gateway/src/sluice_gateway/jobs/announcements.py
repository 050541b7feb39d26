"""Live updates of jobs and photos, published after their transaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import structlog

from sluice_core.errors import ResourceExhausted, Unavailable
from sluice_core.live.updates import MAX_FIELD_CHARS, Audience, Update
from sluice_core.photos.counts import JOB_ENDS
from sluice_core.photos.model import Photo, UploadJob
from sluice_core.photos.states import PhotoStatus
from sluice_core.ports.live_updates import LiveUpdates

_IN_STORE: Final = frozenset({PhotoStatus.PROCESSING, PhotoStatus.COMPLETED})

_log = structlog.get_logger(__name__)


class Announcements:
    """Publishes the states of jobs and photos to their owners.

    Best effort: the catalogue has the truth, and the projector publishes the same states.
    """

    def __init__(self, updates: LiveUpdates) -> None:
        self._updates = updates

    async def publish(self, job: UploadJob, photos: Iterable[Photo] = ()) -> None:
        """Publish the states of a job and of some of its photos, as their transaction left them."""
        owner = Audience(job.owner.tenant, job.owner.user_id)
        states = [*map(update_of_photo, photos), update_of_job(job)]
        try:
            await self._updates.publish(owner, states)
        except (Unavailable, ResourceExhausted) as error:
            _log.warning("updates.publish_failed", reason=error.reason, detail=error.log_detail)


def update_of_photo(photo: Photo) -> Update:
    """Return the state of a photo for those who listen."""
    return Update(
        photo.job_id,
        photo.photo_id,
        photo.status.value,
        bytes_sent=photo.size if photo.status in _IN_STORE else 0,
        bytes_total=photo.size,
        version=photo.version,
        reason=photo.reason[:MAX_FIELD_CHARS],
    )


def update_of_job(job: UploadJob) -> Update:
    """Return the state of a job for those who listen."""
    return Update(
        job.job_id,
        "",
        job.status.value,
        bytes_sent=job.total_bytes if job.status in JOB_ENDS else 0,
        bytes_total=job.total_bytes,
        version=job.version,
    )
