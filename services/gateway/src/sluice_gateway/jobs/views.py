"""What clients send to and receive from the routes of jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from sluice_core.photos.counts import JobStatus
from sluice_core.photos.model import MAX_JOB_PHOTOS
from sluice_core.photos.names import CONTENT_TYPES, KNOWN_CONTENT_TYPES, MAX_FILENAME_BYTES
from sluice_core.photos.states import PhotoStatus
from sluice_core.photos.strategies import STRATEGY_NAMES
from sluice_core.uploads.model import MAX_PARTS
from sluice_gateway.http.models import Body, BodyList, View
from sluice_gateway.jobs.part_plan import MAX_PART_URLS

_EXAMPLE_ID = "ph_0199d3f0c1a27c3d9b0e6f3a5d4c2b10"


class FileBody(Body):
    """One file of a new job.

    Its rules are documented here, and checked by the command, whose refusals have exact reasons.
    """

    filename: Annotated[
        str,
        Field(
            examples=["IMG_001.jpg"],
            description="Without a path, control characters or bidi overrides.",
            json_schema_extra={
                "minLength": 1,
                "maxLength": MAX_FILENAME_BYTES,
                "pattern": r"^[^/\\\x00-\x1f\x7f]+$",
            },
        ),
    ]
    mime_type: Annotated[
        str,
        Field(
            max_length=255,
            examples=["image/jpeg"],
            json_schema_extra={"enum": sorted(KNOWN_CONTENT_TYPES)},
        ),
    ]
    size: Annotated[int, Field(alias="bytes", examples=[2457811], json_schema_extra={"minimum": 1})]


class NewJobBody(Body):
    """A new job."""

    files: Annotated[BodyList[FileBody], Field(min_length=1, max_length=MAX_JOB_PHOTOS)]
    strategy: Annotated[
        str, Field(max_length=32, json_schema_extra={"enum": sorted(STRATEGY_NAMES)})
    ] = "s3-presigned"


class MultipartView(View):
    """A photo that is sent in parts; ask for their URLs at `…/parts`."""

    upload_id: Annotated[str, Field(description="Opaque; changes with a retry.")]
    part_size: Annotated[int, Field(description="Bytes of every part but the last.")]


class UploadItemView(View):
    """How to send one photo."""

    photo_id: Annotated[str, Field(examples=[_EXAMPLE_ID])]
    filename: Annotated[str, Field(description="Unique in the job.")]
    method: str
    presigned_url: Annotated[str | None, Field(description="Null for a photo sent in parts.")]
    headers: Annotated[dict[str, str], Field(description="Send them unchanged: they are signed.")]
    expires_at: datetime | None
    multipart: MultipartView | None


class NewJobView(View):
    """A created job, with one item for each file, in the order of the request."""

    job_id: str
    items: list[UploadItemView]


class WantedPartBody(Body):
    """A part to sign a URL for."""

    part_number: Annotated[int, Field(ge=1, le=MAX_PARTS)]
    crc32c: Annotated[
        str | None,
        Field(
            alias="crc32c",  # not "crc32C"
            pattern="^[0-9a-f]{8}$",
            description="Checksum of the part in hexadecimal, for the store to verify.",
        ),
    ] = None


class PartsBody(Body):
    """Parts to sign URLs for; without a list, all that the store does not have."""

    upload_id: Annotated[str | None, Field(max_length=128)] = None
    parts: Annotated[BodyList[WantedPartBody] | None, Field(max_length=MAX_PART_URLS)] = None


class StoredPartView(View):
    """A part that the store has."""

    part_number: int
    bytes: int
    etag: str


class PartUrlView(View):
    """Where to put one part."""

    part_number: int
    bytes: Annotated[int, Field(description="Exactly so many have to be sent.")]
    method: str = "PUT"
    presigned_url: str
    headers: dict[str, str]
    expires_at: datetime


class PartsView(View):
    """The parts of a photo."""

    photo_id: str
    upload_id: str
    part_size: int
    part_count: int
    stored: list[StoredPartView]
    parts: list[PartUrlView]


class SentPartBody(Body):
    """A part that the client has sent."""

    part_number: Annotated[int, Field(ge=1, le=MAX_PARTS)]
    etag: Annotated[str, Field(min_length=1, max_length=255)]


class FinalizeBody(Body):
    """The end of an upload; `parts` are compared with those of the store if they are given."""

    upload_id: Annotated[str | None, Field(max_length=128)] = None
    parts: Annotated[BodyList[SentPartBody] | None, Field(max_length=MAX_PART_URLS)] = None


class PhotoStateView(View):
    """State of a photo in its job."""

    photo_id: str
    filename: str
    mime_type: str
    bytes: int
    status: PhotoStatus
    progress: Annotated[int, Field(ge=0, le=100)]
    bytes_sent: int
    reason: str | None
    detail: str | None
    attempt: int
    deleted: bool


class JobSummaryView(View):
    """State of a job."""

    job_id: str
    status: JobStatus
    strategy: str
    total_count: int
    queued_count: int
    uploading_count: int
    processing_count: int
    completed_count: int
    failed_count: int
    cancelled_count: int
    bytes_total: int
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class JobView(JobSummaryView):
    """State of a job and of each of its photos."""

    progress: Annotated[int, Field(ge=0, le=100)]
    bytes_sent: int
    photos: list[PhotoStateView]


class JobPageView(View):
    """A page of jobs, newest first. Follow `next` rather than page numbers: it costs less."""

    items: list[JobSummaryView]
    page: int
    size: int
    has_more: bool
    next: Annotated[str | None, Field(description="`cursor` of the next page.")]


class UploadLimitsView(View):
    """What uploads have to keep to on this server. A new job is checked by the same limits."""

    max_photo_bytes: int
    max_job_photos: int
    content_types: Annotated[list[str], Field(examples=[sorted(CONTENT_TYPES)])]
    max_single_put_bytes: Annotated[
        int, Field(description="Larger photos are sent in parts by strategy `s3-presigned`.")
    ]
    tus_above_bytes: Annotated[
        int | None,
        Field(description="The panel sends larger photos by strategy `tus`; null: none."),
    ]
