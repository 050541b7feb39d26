"""Catalogue port: upload jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sluice_core.access.audit import AuditEntry
from sluice_core.photos.counts import JobStatus
from sluice_core.photos.model import Owner, Photo, UploadJob
from sluice_core.photos.strategies import UploadStrategy
from sluice_core.uploads.model import ObjectRef


@dataclass(frozen=True, slots=True)
class NewPhoto:
    """A photo of a new job; its names were checked and are unique in the job."""

    photo_id: str
    node_id: str
    object: ObjectRef
    filename: str
    path: str
    content_type: str
    size: int


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to create, with 1 to `MAX_JOB_PHOTOS` photos in the order of the request."""

    job_id: str
    owner: Owner
    drive: str
    strategy: UploadStrategy
    photos: Sequence[NewPhoto]
    trace_parent: str = ""


@dataclass(frozen=True, slots=True)
class JobWithPhotos:
    job: UploadJob
    photos: tuple[Photo, ...]
    """All of them, deleted ones included, by position."""
    created: bool = False
    """Whether this call created the job."""


@dataclass(frozen=True, slots=True)
class JobCursor:
    """Place in a listing: after the job of this time and id."""

    created_at: float
    job_id: str


@dataclass(frozen=True, slots=True)
class JobPage:
    jobs: tuple[UploadJob, ...]
    next_after: JobCursor | None


class JobCatalogue(Protocol):
    """Upload jobs. Every method names the owner: another one's job is `NotFound` JOB_NOT_FOUND."""

    async def create_job(self, new: NewJob, *, audit: AuditEntry | None = None) -> JobWithPhotos:
        """Create a job with its photos, UploadJobCreated and a PhotoQueued each; append `audit`.

        A repeat with the same id changes nothing and returns the stored job and photos. Raise
        `AlreadyExists` JOB_EXISTS if the id belongs to another owner.
        """
        ...

    async def get_job(self, owner: Owner, job_id: str) -> UploadJob: ...

    async def job_with_photos(self, owner: Owner, job_id: str) -> JobWithPhotos:
        """Return the job and its photos as they are at one moment."""
        ...

    async def job_versions(self, job_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the versions of those jobs that exist, whoever owns them."""
        ...

    async def list_jobs(
        self,
        owner: Owner,
        limit: int,
        after: JobCursor | None = None,
        *,
        status: JobStatus | None = None,
        skip: int = 0,
    ) -> JobPage:
        """Return jobs, newest first, starting after the cursor and `skip` further ones.

        `skip` is for clients that name a page by its number; its cost grows with it.
        """
        ...

    async def cancel_job(
        self, owner: Owner, job_id: str, *, audit: AuditEntry | None = None
    ) -> Sequence[Photo]:
        """Cancel every open photo of the job; return those that this call cancelled.

        Their objects are removed as by `change_photos`. No-op for an ended job.
        """
        ...
