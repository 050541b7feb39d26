"""What clients send to and receive from the routes of photos."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from sluice_core.photos.names import MAX_LABEL_CHARACTERS, MAX_TAGS_OF_PHOTO
from sluice_core.photos.states import PhotoStatus
from sluice_gateway.http.models import Body, BodyList, View

LABEL_FORM = {"minLength": 1, "maxLength": MAX_LABEL_CHARACTERS}
"""Of a tag, as documents have it; `check_label` has all of its rules."""


class TagsBody(Body):
    """Tags to add."""

    tags: Annotated[
        BodyList[Annotated[str, Field(json_schema_extra=LABEL_FORM)]],
        Field(min_length=1, max_length=MAX_TAGS_OF_PHOTO),
    ]


class TagsView(View):
    """All tags of a photo, in order."""

    photo_id: str
    tags: list[str]


class TagCountView(View):
    """A tag, and how many photos have it."""

    label: str
    count: int


class TagPageView(View):
    """A page of tags, in order."""

    items: list[TagCountView]
    next: Annotated[str | None, Field(description="`cursor` of the next page.")]


class ThumbnailView(View):
    """A smaller picture of a photo."""

    size: Annotated[int, Field(description="Longest side asked for; the picture may be smaller.")]
    width: int
    height: int
    mime_type: str
    url: str
    expires_at: datetime


class PhotoSummaryView(View):
    """A photo."""

    photo_id: str
    job_id: str
    filename: str
    mime_type: Annotated[str, Field(description="As detected; as declared before that.")]
    bytes: int
    status: PhotoStatus
    reason: Annotated[
        str | None,
        Field(description="Why it FAILED, or why a COMPLETED one cannot be shown any more."),
    ]
    detail: str | None
    tags: list[str]
    width: int | None
    height: int | None
    created_at: datetime
    completed_at: datetime | None
    taken_at: datetime | None
    thumbnails: list[ThumbnailView]


class PhotoView(PhotoSummaryView):
    """A photo with what its EXIF says. `location`: where it was taken."""

    exif: dict[str, Any] | None
    location: dict[str, Any] | None


class PhotoPageView(View):
    """A page of photos. Follow `next` rather than page numbers: it costs less."""

    items: list[PhotoSummaryView]
    page: int
    size: int
    has_more: bool
    next: Annotated[str | None, Field(description="`cursor` of the next page.")]


class DownloadView(View):
    """Where to read an object, until the time."""

    photo_id: str
    variant: str
    url: str
    expires_at: datetime
    filename: str
