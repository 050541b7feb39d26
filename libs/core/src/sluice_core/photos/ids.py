"""Ids of jobs, photos and repeatable operations."""

from __future__ import annotations

import re

import uuid_utils

from sluice_core.errors import InvalidArgument

ID_PATTERN = "^[A-Za-z0-9_-]{1,64}$"
"""Form of the ids of jobs and photos, as documents of the API have it."""
_ID = re.compile(ID_PATTERN)


def new_operation_id() -> str:
    """Return the id of one intended operation, which its retries share."""
    return str(uuid_utils.uuid7().hex)


def job_id_of(operation_id: str) -> str:
    """Return the id of the job that this operation creates.

    A repeated operation finds the job of its first run instead of creating a twin.
    """
    return f"job_{operation_id}"


def new_photo_id() -> str:
    """Return a photo id; ids sort by time."""
    return f"ph_{uuid_utils.uuid7().hex}"


def check_job_id(job_id: str, field: str = "jobId") -> str:
    """Check the form of a job id, not whether it exists. BAD_JOB_ID."""
    return _check(job_id, field, "BAD_JOB_ID", "a job")


def check_photo_id(photo_id: str, field: str = "photoId") -> str:
    """Check the form of a photo id, not whether it exists. BAD_PHOTO_ID."""
    return _check(photo_id, field, "BAD_PHOTO_ID", "a photo")


def _check(value: str, field: str, reason: str, kind: str) -> str:
    if not _ID.fullmatch(value):
        raise InvalidArgument(
            reason,
            f"This cannot be the id of {kind}: send the one that the server gave.",
            field=field,
        )
    return value
