"""Classification of refusals: whether a new upload may succeed where this one failed."""

from __future__ import annotations

from sluice_client.errors import AlreadyExists, SluiceError, UploadFailed
from sluice_client.model import UploadStatus

_MISMATCHES = frozenset({"CLAIM_MISMATCH", "CHUNK_CONFLICT", "CHECKSUM_MISMATCH", "FOREIGN_CHUNK"})
"""Reasons of an upload whose bytes differ from today's, although the file seems the same."""
_MISFITS = frozenset(
    {"CHUNK_QUEUED", "SIZE_MISMATCH", "TOTAL_MISMATCH", "TOTAL_UNKNOWN", "UNKNOWN_FORMAT"}
)
"""Reasons that refuse a plan although their status code does not say so."""


class Restart(Exception):
    """Only a new upload can succeed; `cause` is raised when no further restart is allowed."""

    def __init__(self, why: str, cause: SluiceError, upload_id: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.cause = cause
        self.upload_id = upload_id
        """A useless upload that still exists on the server."""


def is_mismatch(error: SluiceError) -> bool:
    """Return whether the server holds other bytes of the upload than the source has."""
    return error.reason in _MISMATCHES


def is_misfit(error: SluiceError) -> bool:
    """Return whether the server refuses the upload as planned: sizes, numbers, limits, its id.

    Excludes what a new upload would meet as well, such as a drive that has become read-only: the
    bytes sent are kept for a later resumption.
    """
    return error.code in ("INVALID_ARGUMENT", "OUT_OF_RANGE") or error.reason in _MISFITS


def failure_of(status: UploadStatus) -> SluiceError:
    """Return why an upload ended without a node."""
    reason = status.failure_reason or f"UPLOAD_{status.state}"
    detail = status.failure_detail or f"the upload is {status.state.lower()}"
    # `if_absent` is one promise, whether it fails at the first call or at completion.
    kind = AlreadyExists if reason == "PATH_EXISTS" else UploadFailed
    return kind(reason, detail, metadata={"upload_id": status.upload_id, "state": status.state})
