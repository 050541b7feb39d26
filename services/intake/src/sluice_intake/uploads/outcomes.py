"""The error of an upload that ended without a node."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sluice_core.errors import FailedPrecondition, SluiceError
from sluice_core.uploads.failures import failure_class
from sluice_core.uploads.model import UploadSnapshot, UploadStatus
from sluice_core.uploads.states import is_terminal
from sluice_intake.uploads.status import StatusReader
from sluice_intake.uploads.status_message import status_message

_MAX_DETAIL_CHARACTERS: Final = 512
"""Limit of the failure detail in the attached status: it repeats the error's message, and both
share the trailers."""


def check_not_ended(snapshot: UploadSnapshot) -> None:
    """Raise the error of an upload that is FAILED, ABORTED or EXPIRED.

    A FAILED upload raises its failure reason with the status of `failure_class`; the others raise
    FAILED_PRECONDITION UPLOAD_ENDED. The upload's status is attached as an error detail.
    """
    if is_terminal(snapshot.status) and snapshot.status is not UploadStatus.COMPLETED:
        raise _ended(snapshot)


def _ended(snapshot: UploadSnapshot) -> SluiceError:
    status = snapshot.status
    short = replace(snapshot, failure_detail=snapshot.failure_detail[:_MAX_DETAIL_CHARACTERS])
    metadata = {"status": status.value, "upload_id": snapshot.upload_id}
    attachments = (status_message(StatusReader.of_ended(short)),)
    if status is UploadStatus.FAILED and snapshot.failure_reason:
        return failure_class(snapshot.failure_reason)(
            snapshot.failure_reason,
            snapshot.failure_detail or "The upload failed; start a new one.",
            metadata=metadata,
            attachments=attachments,
        )
    return FailedPrecondition(
        "UPLOAD_ENDED",
        f"The upload is {status.value} and cannot change any more; start a new upload.",
        metadata=metadata,
        attachments=attachments,
    )
