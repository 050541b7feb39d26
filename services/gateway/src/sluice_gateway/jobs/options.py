"""The options of jobs and photos: limits, lifetimes and sizes."""

from __future__ import annotations

from dataclasses import dataclass

from sluice_core.photos.model import MAX_PHOTO_BYTES
from sluice_core.ports.catalogue import MAX_DOWNLOAD_URL_SECONDS


@dataclass(frozen=True, slots=True)
class PhotoOptions:
    """Options of jobs and photos.

    jobs_per_minute, progress_per_second: of one user, of which one period's may be used at once;
        0 means no limit.
    upload_url_seconds, download_url_seconds: at most an hour, for which the object of a deleted
        photo is kept.
    tus_path: where uploads by tus begin; empty where there are none.
    tus_above_bytes: above which the panel sends photos by tus; None: it sends none so.
    """

    jobs_per_minute: int = 10
    progress_per_second: int = 20
    max_photo_bytes: int = MAX_PHOTO_BYTES
    upload_url_seconds: int = MAX_DOWNLOAD_URL_SECONDS
    download_url_seconds: int = MAX_DOWNLOAD_URL_SECONDS
    tus_path: str = ""
    tus_above_bytes: int | None = None
    answer_lifetime_seconds: float = 24 * 3600.0
    """How long an `Idempotency-Key` is known."""
    claim_seconds: float = 60.0
    """After which a request whose process died is taken over: longer than any command takes."""
    repeat_wait_seconds: float = 10.0
    """How long a repeat waits for the first request's answer."""
