"""Counts of a job's photos and the job status that follows from them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from sluice_core.photos.states import TERMINAL, PhotoStatus


class JobStatus(StrEnum):
    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    COMPLETED_WITH_ERRORS = "COMPLETED_WITH_ERRORS"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


JOB_ENDS = frozenset(
    {
        JobStatus.COMPLETED,
        JobStatus.COMPLETED_WITH_ERRORS,
        JobStatus.FAILED,
        JobStatus.CANCELLED,
    }
)
"""States in which every photo has ended. Only a new attempt of a photo leaves them."""


@dataclass(frozen=True, slots=True)
class PhotoCounts:
    """How many photos of a job are in each state. The fields are named like the states."""

    queued: int = 0
    uploading: int = 0
    processing: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    @classmethod
    def of(cls, statuses: Iterable[PhotoStatus]) -> PhotoCounts:
        """Count these photos."""
        counts = dict.fromkeys(PhotoStatus, 0)
        for status in statuses:
            counts[status] += 1
        return cls(**{status.value.lower(): count for status, count in counts.items()})

    def __getitem__(self, status: PhotoStatus) -> int:
        count: int = getattr(self, status.value.lower())
        return count

    @property
    def total(self) -> int:
        return sum(self[status] for status in PhotoStatus)

    @property
    def ended(self) -> int:
        return sum(self[status] for status in TERMINAL)

    def moved(self, current: PhotoStatus, target: PhotoStatus) -> PhotoCounts:
        """Return the counts after one photo went from `current` to `target`.

        Raise ValueError when no photo is in `current`: the counts were wrong before.
        """
        if current is target:
            return self
        if self[current] < 1:
            raise ValueError(f"no photo is {current.value}")
        return replace(
            self,
            **{current.value.lower(): self[current] - 1, target.value.lower(): self[target] + 1},
        )


def job_status(counts: PhotoCounts) -> JobStatus:
    """Return the status of a job with these photos; ValueError for a job without any.

    A job has ended exactly when all its photos have. It is then CANCELLED or FAILED when all of
    them are, COMPLETED_WITH_ERRORS when some failed, and otherwise COMPLETED: a cancelled photo is
    what its owner asked for, and no error.
    """
    total = counts.total
    if total < 1:
        raise ValueError("a job has at least one photo")
    if counts.ended < total:
        return JobStatus.QUEUED if counts.queued == total else JobStatus.IN_PROGRESS
    if counts.cancelled == total:
        return JobStatus.CANCELLED
    if counts.failed == total:
        return JobStatus.FAILED
    return JobStatus.COMPLETED_WITH_ERRORS if counts.failed else JobStatus.COMPLETED
