"""Announcement of changed photos and jobs to those who listen, after the commit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import structlog

from sluice_core.errors import NotFound, SluiceError
from sluice_core.photos.model import Photo
from sluice_core.ports.live_updates import LiveUpdates
from sluice_core.ports.upload_jobs import JobCatalogue, JobWithPhotos
from sluice_gateway.jobs.updates import audience_of, job_update, photo_update

_log = structlog.get_logger(__name__)


class Announcer:
    """Publishes the present states of photos and their jobs, for commands and events alike.

    States, not steps: what was committed meanwhile is in them, and a repeat has no effect. A
    failure is logged only, because the commit stands: those who poll or take a snapshot see it.
    """

    def __init__(self, jobs: JobCatalogue, live: LiveUpdates) -> None:
        self._jobs = jobs
        self._live = live

    async def announce(self, photos: Iterable[Photo]) -> None:
        """Publish these photos as they are now, and once each job that they belong to."""
        by_job: defaultdict[str, list[Photo]] = defaultdict(list)
        for photo in photos:
            by_job[photo.job_id].append(photo)
        for job_id, changed in by_job.items():
            try:
                found = await self._jobs.job_with_photos(changed[0].owner, job_id)
            except NotFound:
                continue
            except SluiceError as error:
                _log.warning("update.publish_failed", jobId=job_id, error=str(error))
                continue
            await self.publish(found, {photo.photo_id for photo in changed})

    async def publish(self, found: JobWithPhotos, photo_ids: Iterable[str] = ()) -> None:
        """Publish a job that was just read, and some of its photos."""
        named = frozenset(photo_ids)
        updates = [photo_update(photo) for photo in found.photos if photo.photo_id in named]
        # The job last: a client that hears of its end has heard of every photo.
        updates.append(job_update(found.job, found.photos))
        try:
            await self._live.publish(audience_of(found.job.owner), updates)
        except SluiceError as error:
            _log.warning("update.publish_failed", jobId=found.job.job_id, error=str(error))
