"""Query: the limits of uploads, by which clients refuse files before they send anything."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from sluice_core.photos.model import MAX_JOB_PHOTOS
from sluice_core.photos.names import CONTENT_TYPES
from sluice_gateway.http.conditional import conditional, etag_of
from sluice_gateway.jobs.options import PhotoOptions
from sluice_gateway.jobs.part_plan import MAX_SINGLE_PUT_BYTES
from sluice_gateway.jobs.views import UploadLimitsView


def get_upload_limits(options: PhotoOptions, request: Request) -> Response:
    """Answer with the limits, or 304."""
    view = UploadLimitsView(
        max_photo_bytes=options.max_photo_bytes,
        max_job_photos=MAX_JOB_PHOTOS,
        content_types=sorted(CONTENT_TYPES),
        max_single_put_bytes=MAX_SINGLE_PUT_BYTES,
        # A server without tus refuses such jobs.
        tus_above_bytes=options.tus_above_bytes if options.tus_path else None,
    )
    return conditional(request, etag_of([view.model_dump_json()]), view)
