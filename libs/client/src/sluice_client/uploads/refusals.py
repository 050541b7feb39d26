"""What a server's refusal says about an upload: whether another one, begun anew, may work."""

from __future__ import annotations

from sluice_client.errors import AlreadyExists, SluiceError, UploadFailed
from sluice_client.model import UploadStatus

_MISMATCHES = frozenset({"CLAIM_MISMATCH", "CHUNK_CONFLICT", "CHECKSUM_MISMATCH", "FOREIGN_CHUNK"})
"""What an upload of other bytes than today's looks like, although the file seems the same."""
_MISFITS = frozenset(
    {"CHUNK_QUEUED", "SIZE_MISMATCH", "TOTAL_MISMATCH", "TOTAL_UNKNOWN", "UNKNOWN_FORMAT"}
)
"""Refusals of a plan whose status code does not say so."""


class BeginAnew(Exception):
    """Only a new upload helps; `cause` is what to raise when it may not be tried again."""

    def __init__(self, why: str, cause: SluiceError, upload_id: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.cause = cause
        self.upload_id = upload_id
        """An upload that is of no use any more but still lives on the server."""


def is_mismatch(error: SluiceError) -> bool:
    """Whether the server holds other bytes of the upload than the source has."""
    return error.reason in _MISMATCHES


def is_misfit(error: SluiceError) -> bool:
    """Whether the server refuses the upload as it was planned: sizes, numbers, limits, its id.

    Not what a new upload would meet as well without anything being gained, such as a drive that
    has become read-only: what was sent is kept for when it can go on.
    """
    return error.code in ("INVALID_ARGUMENT", "OUT_OF_RANGE") or error.reason in _MISFITS


def failure_of(status: UploadStatus) -> SluiceError:
    """Why an upload ended without a node."""
    reason = status.failure_reason or f"UPLOAD_{status.state}"
    detail = status.failure_detail or f"the upload is {status.state.lower()}"
    # `if_absent` is one promise, whether it breaks at the first call or at completion.
    kind = AlreadyExists if reason == "PATH_EXISTS" else UploadFailed
    return kind(reason, detail, metadata={"upload_id": status.upload_id, "state": status.state})
