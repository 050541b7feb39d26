"""Errors of resumable uploads."""

from __future__ import annotations

from sluice_core.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)


def version_unsupported(version: str) -> FailedPrecondition:
    return FailedPrecondition(
        "TUS_VERSION_UNSUPPORTED",
        f"The server speaks another version of tus; send Tus-Resumable: {version}.",
        metadata={"version": version},
    )


def bad_header(name: str, what: str) -> InvalidArgument:
    """Return the error for a header that is missing or malformed; `what` says what to send."""
    return InvalidArgument(
        "BAD_TUS_HEADER", f"{name} is missing or malformed; {what}.", metadata={"header": name}
    )


def length_cannot_be_deferred() -> Unimplemented:
    return Unimplemented(
        "DEFERRED_LENGTH_UNSUPPORTED",
        "The server has to know the size of an upload when it is created; send Upload-Length.",
    )


def checksum_unsupported(algorithms: str) -> InvalidArgument:
    return InvalidArgument(
        "CHECKSUM_ALGORITHM_UNSUPPORTED",
        f"The server does not know this algorithm; use one of {algorithms}.",
        metadata={"algorithms": algorithms},
    )


def checksum_mismatch() -> DataLoss:
    return DataLoss(
        "UPLOAD_CHECKSUM_MISMATCH",
        "The body does not match its Upload-Checksum, and was discarded; send it again.",
    )


def content_type_unsupported() -> InvalidArgument:
    return InvalidArgument(
        "UNSUPPORTED_MEDIA_TYPE",
        "The body is no part of an upload; send content-type: application/offset+octet-stream.",
    )


def length_required() -> InvalidArgument:
    return InvalidArgument(
        "LENGTH_REQUIRED",
        "A body with Upload-Checksum needs Content-Length; send it, or leave the checksum out.",
    )


def upload_too_large(max_size: int) -> ResourceExhausted:
    return ResourceExhausted(
        "UPLOAD_TOO_LARGE",
        f"An upload has at most {max_size} bytes; cut the file.",
        metadata={"max_size": str(max_size)},
    )


def beyond_length(length: int) -> ResourceExhausted:
    return ResourceExhausted(
        "UPLOAD_LENGTH_EXCEEDED",
        f"The body reaches beyond the Upload-Length of {length} bytes; send what is missing.",
        metadata={"length": str(length)},
    )


def checked_body_too_large(max_bytes: int) -> ResourceExhausted:
    return ResourceExhausted(
        "MESSAGE_TOO_LARGE",
        f"A body with Upload-Checksum has at most {max_bytes} bytes; send the rest in others.",
        metadata={"max_bytes": str(max_bytes)},
    )


def offset_mismatch(offset: int) -> FailedPrecondition:
    return FailedPrecondition(
        "UPLOAD_OFFSET_MISMATCH",
        "The upload has another offset; ask for it by HEAD and continue there.",
        metadata={"offset": str(offset)},
    )


def upload_not_found() -> NotFound:
    return NotFound("UPLOAD_NOT_FOUND", "There is no such upload; create one.")


def upload_gone(state: str, reason: str) -> NotFound:
    """Return the error for an upload that ended without a file.

    Args:
        reason: of its failure; empty without one.
    """
    metadata = {"state": state, **({"failure_reason": reason} if reason else {})}
    return NotFound("UPLOAD_GONE", f"The upload is {state}; create another one.", metadata=metadata)


def final_takes_no_bytes() -> PermissionDenied:
    return PermissionDenied(
        "UPLOAD_IS_FINAL", "A final upload consists of its partial uploads; send it no bytes."
    )


def not_partial() -> InvalidArgument:
    return InvalidArgument(
        "UPLOAD_NOT_PARTIAL",
        "Upload-Concat names an upload that is not partial; create it with Upload-Concat: partial.",
    )


def partial_incomplete() -> FailedPrecondition:
    return FailedPrecondition(
        "PARTIAL_UPLOAD_INCOMPLETE",
        "A partial upload lacks bytes; send them before the final upload is created.",
    )


def partial_not_stored() -> Unavailable:
    return Unavailable(
        "PARTIAL_UPLOAD_PENDING",
        "The partial uploads are not stored yet; create the final upload again.",
        retry_after_seconds=1.0,
    )


def damaged_on_the_way() -> DataLoss:
    return DataLoss(
        "UPLOAD_DAMAGED", "The server damaged a part of the upload and ended it; create another."
    )


def intake_unavailable(log_detail: str = "", retry_after_seconds: float = 1.0) -> Unavailable:
    return Unavailable(
        "INTAKE_UNAVAILABLE",
        "The server takes no uploads at the moment; try again.",
        retry_after_seconds=retry_after_seconds,
        log_detail=log_detail,
    )


def photo_not_found() -> NotFound:
    return NotFound("PHOTO_NOT_FOUND", "There is no photo with this id.", field="photoId")


def other_photo_size(size: int) -> InvalidArgument:
    return InvalidArgument(
        "BAD_PHOTO_SIZE",
        f"The job announced {size} bytes for this photo; send them, or create another job.",
        field="photoId",
        metadata={"bytes": str(size)},
    )


def other_services_have_no_keys() -> Unimplemented:
    return Unimplemented(
        "TUS_NEEDS_KEYS",
        "The upload services of this server cannot tell users apart; send photos by s3-presigned.",
    )
