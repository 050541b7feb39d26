"""Who may hear a topic, and what it holds, by the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sluice_core.access.principal import Principal
from sluice_core.access.scopes import Scope
from sluice_core.errors import NotFound
from sluice_core.live.updates import Update
from sluice_core.photos.counts import JobStatus
from sluice_core.photos.model import Owner, UploadJob
from sluice_core.ports.upload_jobs import JobCatalogue
from sluice_gateway.jobs.updates import job_update, photo_update
from sluice_gateway.live.topics import JobTopic, UserTopic

MAX_JOBS: Final = 50
"""Open jobs in a user's snapshot, the newest of each status. Others are heard when they change."""

_OPEN: Final = (JobStatus.QUEUED, JobStatus.IN_PROGRESS)
_READERS: Final = frozenset({Scope.PHOTOS_READ, Scope.TENANT_ADMIN})


class CatalogueTopics:
    """`Topics` of the jobs in the catalogue."""

    def __init__(self, jobs: JobCatalogue) -> None:
        self._jobs = jobs

    async def may_hear(self, principal: Principal, topic: JobTopic | UserTopic) -> bool:
        if principal.scopes.isdisjoint(_READERS):
            return False
        if isinstance(topic, UserTopic):
            return True
        try:
            # One read, whether the job is another one's or does not exist.
            await self._jobs.get_job(_owner(principal), topic.job_id)
        except NotFound:
            return False
        return True

    async def snapshot(self, principal: Principal, topic: JobTopic | UserTopic) -> Sequence[Update]:
        owner = _owner(principal)
        if isinstance(topic, UserTopic):
            return [job_update(job) for job in await self._open_jobs(owner)]
        try:
            read = await self._jobs.job_with_photos(owner, topic.job_id)
        except NotFound:
            return []
        return [*map(photo_update, read.photos), job_update(read.job)]

    async def versions(self, job_ids: Sequence[str]) -> Mapping[str, int]:
        return await self._jobs.job_versions(job_ids)

    async def _open_jobs(self, owner: Owner) -> list[UploadJob]:
        pages = [await self._jobs.list_jobs(owner, MAX_JOBS, status=status) for status in _OPEN]
        return [job for page in pages for job in page.jobs]


def _owner(principal: Principal) -> Owner:
    return Owner(principal.tenant, principal.subject)
