"""Errors of requests for objects."""

from __future__ import annotations

from typing import Final

from sluice_core.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    Unimplemented,
)

STALLED: Final = "MESSAGE_STALLED"


def route_not_found() -> NotFound:
    return NotFound("ROUTE_NOT_FOUND", "There is nothing at this path; use the URL as issued.")


def method_not_allowed(allowed: str) -> Unimplemented:
    return Unimplemented(
        "METHOD_NOT_ALLOWED",
        "Objects have no such method; use one of those in the header Allow.",
        metadata={"allow": allowed},
    )


def other_method() -> PermissionDenied:
    return PermissionDenied(
        "URL_SIGNATURE_INVALID", "The URL was issued for another method; use it as issued."
    )


def length_required() -> InvalidArgument:
    return InvalidArgument(
        "LENGTH_REQUIRED", "The body has no Content-Length; send it, not chunks of unknown number."
    )


def other_length(signed: int) -> PermissionDenied:
    return PermissionDenied(
        "SIGNED_LENGTH_DIFFERS",
        f"The URL was issued for a body of {signed} bytes; send exactly these, or ask for a URL of"
        " the new size.",
        metadata={"signed_length": str(signed)},
    )


def other_type(signed: str) -> PermissionDenied:
    return PermissionDenied(
        "SIGNED_TYPE_DIFFERS",
        "The URL was issued for another Content-Type; send the one that was issued with it.",
        metadata={"signed_type": signed},
    )


def bad_checksum() -> InvalidArgument:
    return InvalidArgument(
        "BAD_CHECKSUM",
        "x-amz-checksum-crc32c is no CRC32C; send its four bytes in Base64, or omit it.",
    )


def precondition_failed() -> FailedPrecondition:
    return FailedPrecondition(
        "PRECONDITION_FAILED", "The object has another ETag; read it without If-Match."
    )


def range_not_satisfiable(size: int) -> OutOfRange:
    return OutOfRange(
        "RANGE_NOT_SATISFIABLE",
        f"The range begins beyond the end of the object, which has {size} bytes; correct Range.",
        metadata={"size": str(size)},
    )
