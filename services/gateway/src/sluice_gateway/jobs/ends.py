"""Counts of the ends of photos, whichever command or event brought them."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from sluice_core.photos.changes import Outcome
from sluice_core.photos.states import PhotoStatus
from sluice_core.ports.photos import ChangedPhoto
from sluice_gateway.metrics import PhotoMetrics

_log = structlog.get_logger(__name__)


def count_ends(metrics: PhotoMetrics, changed: Iterable[ChangedPhoto]) -> None:
    """Count and log the photos that a transaction completed or failed."""
    for photo in (each.photo for each in changed if each.outcome is Outcome.APPLIED):
        if photo is None:
            continue
        match photo.status:
            case PhotoStatus.COMPLETED:
                metrics.completed.inc()
                metrics.upload_completed.inc()
            case PhotoStatus.FAILED:
                metrics.failed.labels(photo.reason).inc()
                metrics.upload_failed.labels(photo.reason).inc()
                _log.info(
                    "photo.failed", photoId=photo.photo_id, jobId=photo.job_id, reason=photo.reason
                )
            case _:
                pass


def applied_count(changed: Iterable[ChangedPhoto]) -> int:
    """Return how many changes had an effect."""
    return sum(each.outcome is Outcome.APPLIED for each in changed)
