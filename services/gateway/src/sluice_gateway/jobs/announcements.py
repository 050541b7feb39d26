"""Announcement of changed photos and jobs to those who listen, after the commit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import structlog

from sluice_core.errors import NotFound, SluiceError
from sluice_core.photos.model import Photo, UploadJob
from sluice_core.ports.live_updates import LiveUpdates
from sluice_core.ports.upload_jobs import JobCatalogue
from sluice_gateway.jobs.updates import audience_of, job_update, photo_update

_log = structlog.get_logger(__name__)


class Announcer:
    """Publishes the present states of photos and their jobs, for commands and events alike.

    States, not steps: a repeat has no effect, and an older state none after a newer one. A failure
    is logged only, because the commit stands: those who poll or take a snapshot see it.
    """

    def __init__(self, jobs: JobCatalogue, live: LiveUpdates) -> None:
        self._jobs = jobs
        self._live = live

    async def announce(self, photos: Iterable[Photo], jobs: Iterable[UploadJob] = ()) -> None:
        """Publish these photos, and once each job that they belong to.

        Reads no photo: a job of a thousand would be read for each change of one.

        Args:
            photos: as they are now.
            jobs: those that the caller knows as they are now; of the others one row is read each.
        """
        known = {job.job_id: job for job in jobs}
        by_job: defaultdict[str, list[Photo]] = defaultdict(list)
        for photo in photos:
            by_job[photo.job_id].append(photo)
        for job_id, changed in by_job.items():
            job = known.get(job_id)
            try:
                job = job or await self._jobs.get_job(changed[0].owner, job_id)
            except NotFound:
                continue
            except SluiceError as error:
                _log.warning("update.publish_failed", jobId=job_id, error=str(error))
                continue
            await self.publish(job, changed)

    async def publish(self, job: UploadJob, photos: Iterable[Photo] = ()) -> None:
        """Publish a job and some of its photos, as they are now."""
        # The job last: a client that hears of its end has heard of every photo.
        updates = [*map(photo_update, photos), job_update(job)]
        try:
            await self._live.publish(audience_of(job.owner), updates)
        except SluiceError as error:
            _log.warning("update.publish_failed", jobId=job.job_id, error=str(error))
