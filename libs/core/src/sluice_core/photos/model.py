"""Records of photos, upload jobs and their owners."""

from __future__ import annotations

from dataclasses import dataclass

from sluice_core.photos.counts import JobStatus, PhotoCounts, job_status
from sluice_core.photos.states import PhotoStatus
from sluice_core.photos.strategies import UploadStrategy
from sluice_core.uploads.model import MIB, ObjectRef

MAX_JOB_PHOTOS = 1000
MAX_PHOTO_BYTES = 200 * MIB
"""Default limit of one photo; a deployment may set another one."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom jobs, photos and tags belong to: the tenant and the subject of a token."""

    tenant: str
    user_id: str


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of a job. Times are Unix seconds."""

    photo_id: str
    job_id: str
    position: int
    """Place in the job, from 0: the order in which the files were named."""
    owner: Owner
    node_id: str
    """Made with the photo, so that its object has a key before it exists."""
    drive: str
    path: str
    object: ObjectRef
    filename: str
    content_type: str
    size: int
    status: PhotoStatus
    created_at: float
    updated_at: float
    attempt_started_at: float
    """What happened before is of a former attempt. A change of the photo does not move it."""
    asked_at: float
    """When its client last got URLs to send it, to some minutes: its arrival is due after that."""
    reason: str = ""
    """Why it FAILED, in UPPER_SNAKE; otherwise empty."""
    detail: str = ""
    attempt: int = 1
    version: int = 1
    """Number of changes, the creation included; the sequence of the photo's events."""
    multipart_id: str = ""
    """Multipart upload of the store in this attempt; empty before the first part is asked for."""
    completed_at: float | None = None
    taken_at: float | None = None
    """When it was taken, as its EXIF says; None when unknown."""
    deleted_at: float | None = None
    """Since when it is gone for its owner. The job still counts it."""

    @property
    def dated_at(self) -> float:
        """When it was taken; while that is unknown, when it was added."""
        return self.created_at if self.taken_at is None else self.taken_at


@dataclass(frozen=True, slots=True)
class UploadJob:
    """Photos that were uploaded together. Times are Unix seconds."""

    job_id: str
    owner: Owner
    drive: str
    strategy: UploadStrategy
    counts: PhotoCounts
    total_bytes: int
    created_at: float
    updated_at: float
    version: int = 1
    """Number of changes of the job and its photos: for ETags, and the sequence of its events."""
    finished_at: float | None = None
    sent_bytes: int = 0
    """Bytes of the photos whose upload is over, however it ended."""

    @property
    def status(self) -> JobStatus:
        return job_status(self.counts)
