"""Translation of botocore and network errors into errors of the object store port."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import aiohttp
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from sluice_backends.certificates import certificate_problem
from sluice_backends.s3.attributes import bad_encryption, bad_storage_class
from sluice_core.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    OutOfRange,
    PermissionDenied,
    SluiceError,
    Unavailable,
    Unimplemented,
)
from sluice_core.objects.parts import bucket_not_found, multipart_not_found, object_not_found

VENDOR_ERRORS = (ClientError, BotoCoreError, aiohttp.ClientError, OSError, TimeoutError)
"""Everything that a client call raises, besides errors of its body's source."""

_TRANSIENT = frozenset(
    {
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",
        "ExpiredToken",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestTimeTooSkewed",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TokenRefreshRequired",
    }
)
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429})


def checksum_mismatch() -> DataLoss:
    return DataLoss(
        "CHECKSUM_MISMATCH",
        "The object store received other bytes than announced; store them again from their source.",
    )


def store_unavailable(
    detail: str = "does not respond", retry_after_seconds: float | None = None
) -> Unavailable:
    return Unavailable(
        "STORE_UNAVAILABLE",
        "The object store is unavailable at the moment; try again later.",
        retry_after_seconds=retry_after_seconds,
        log_detail=detail,
    )


def invalid_part() -> FailedPrecondition:
    return FailedPrecondition(
        "INVALID_PART",
        "The object store does not have these parts under these ETags, or not in this order; list "
        "the parts and store again those that differ.",
    )


def _beyond_end() -> OutOfRange:
    return OutOfRange("BEYOND_END", "The range begins beyond the end of the object.")


def _part_too_small() -> FailedPrecondition:
    return FailedPrecondition(
        "PART_TOO_SMALL",
        "A part before the last is smaller than the object store allows; plan larger parts.",
    )


def _object_exists() -> FailedPrecondition:
    return FailedPrecondition(
        "OBJECT_EXISTS", "There is an object under this key already; use another key."
    )


_BY_CODE: Mapping[str, Callable[[], SluiceError]] = MappingProxyType(
    {
        "NoSuchKey": object_not_found,
        "NoSuchUpload": multipart_not_found,
        "InvalidPart": invalid_part,
        "InvalidPartOrder": invalid_part,
        "InvalidRange": _beyond_end,
        "MalformedXML": invalid_part,
        # The only condition that we send is `If-None-Match: *`.
        "PreconditionFailed": _object_exists,
        "EntityTooSmall": _part_too_small,
        "BadDigest": checksum_mismatch,
        "InvalidDigest": checksum_mismatch,
        "XAmzContentChecksumMismatch": checksum_mismatch,
        "InvalidStorageClass": bad_storage_class,
        "InvalidEncryptionAlgorithmError": bad_encryption,
        "KMS.DisabledException": bad_encryption,
        "KMS.NotFoundException": bad_encryption,
    }
)


def to_store_error(error: Exception, bucket: str) -> SluiceError:
    """Return the error of the port for one of `VENDOR_ERRORS`.

    The error code decides, then the HTTP status. Every transient condition is `Unavailable`: an
    expired token or a skewed clock is a 403, but not a denial. The vendor's text is dropped,
    because it may quote the request with its credentials.
    """
    if isinstance(error, ClientError):
        return _from_response(error.response, bucket)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return PermissionDenied(
            "STORE_DENIED",
            "The object store denied access; ask the server's operator to check the credentials.",
            log_detail="there are no credentials; set them, or give this machine a role",
        )
    if isinstance(error, ParamValidationError):
        return InvalidArgument(
            "BAD_BUCKET",
            "The object store cannot have such a bucket or key; correct the drive.",
            log_detail=f"bucket {bucket!r}",
        )
    problem = certificate_problem(error, "SLUICE_S3__CA_BUNDLE")
    if problem is not None:
        return store_unavailable(f"its certificate {problem}")
    if isinstance(error, TimeoutError):
        return store_unavailable("stalled for too long")
    return store_unavailable()


def _from_response(response: Mapping[str, Any], bucket: str) -> SluiceError:
    code = str(response.get("Error", {}).get("Code", ""))
    metadata = response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode") or 0)
    if code == "NoSuchBucket":
        return bucket_not_found(bucket)
    if (known := _BY_CODE.get(code)) is not None:
        return known()
    if code in _TRANSIENT or status in _TRANSIENT_STATUS or (status >= 500 and status != 501):
        retry_after = _seconds(metadata.get("HTTPHeaders", {}).get("retry-after"))
        return store_unavailable(f"responded {code or status}", retry_after)
    if status in (401, 403):
        return PermissionDenied(
            "STORE_DENIED",
            "The object store denied access; ask the server's operator to check the credentials.",
            log_detail=f"bucket {bucket!r}, {code or status}; check the credentials and what they "
            "may do",
        )
    if status in (405, 501):
        return Unimplemented(
            "STORE_LACKS_CALL",
            "The object store does not support the request; compare the drive's encryption "
            "and storage class with what it supports.",
        )
    if status == 404:
        # A HEAD has no body to name what is missing.
        return object_not_found()
    return FailedPrecondition(
        "STORE_REFUSED",
        "The object store refused the request; compare the settings of the store and of the drive "
        "with what it supports.",
        log_detail=f"bucket {bucket!r}, {code or status}",
    )


def _seconds(header: str | None) -> float | None:
    """Return Retry-After in seconds. S3 does not use its other form, a date."""
    return float(header) if header is not None and header.isdecimal() else None
