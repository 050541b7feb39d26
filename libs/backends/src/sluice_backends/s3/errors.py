"""What botocore and the network raise, as the errors of the object store port.

The code decides, then the HTTP status. Whatever may be otherwise a moment later is `Unavailable`:
an expired token or a stepped clock comes as 403 and is no refusal of ours.
"""

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
"""All that a call of the client raises, besides what its body's source does."""

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
        "The object store saw other bytes than were announced; store them again from their source.",
    )


def store_unavailable(
    detail: str = "does not answer", retry_after_seconds: float | None = None
) -> Unavailable:
    return Unavailable(
        "STORE_UNAVAILABLE",
        "The object store does not do its work at the moment; try again later.",
        retry_after_seconds=retry_after_seconds,
        log_detail=detail,
    )


def invalid_part() -> FailedPrecondition:
    return FailedPrecondition(
        "INVALID_PART",
        "The object store does not hold these parts under these ETags, or not in this order; list "
        "the parts and store again what differs.",
    )


def _beyond_end() -> OutOfRange:
    return OutOfRange("BEYOND_END", "The range begins beyond the end of the object.")


def _part_too_small() -> FailedPrecondition:
    return FailedPrecondition(
        "PART_TOO_SMALL",
        "A part before the last is smaller than the object store allows; plan larger parts.",
    )


_BY_CODE: Mapping[str, Callable[[], SluiceError]] = MappingProxyType(
    {
        "NoSuchKey": object_not_found,
        "NoSuchUpload": multipart_not_found,
        "InvalidPart": invalid_part,
        "InvalidPartOrder": invalid_part,
        "InvalidRange": _beyond_end,
        "MalformedXML": invalid_part,
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
    """The port's word for one of `VENDOR_ERRORS`. No vendor's text goes along: it may quote what
    was asked, credentials among it."""
    if isinstance(error, ClientError):
        return _answered(error.response, bucket)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return PermissionDenied(
            "STORE_DENIED",
            "The object store refuses access; the server's operator has to look into it.",
            log_detail="there are no credentials; set them, or give this machine a role",
        )
    if isinstance(error, ParamValidationError):
        return InvalidArgument(
            "BAD_BUCKET",
            "The object store cannot have such a bucket or key; correct the drive.",
            log_detail=f"bucket {bucket!r}",
        )
    if isinstance(error, TimeoutError):
        return store_unavailable("stood still for too long")
    return store_unavailable()


def _answered(response: Mapping[str, Any], bucket: str) -> SluiceError:
    code = str(response.get("Error", {}).get("Code", ""))
    metadata = response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode") or 0)
    if code == "NoSuchBucket":
        return bucket_not_found(bucket)
    if (known := _BY_CODE.get(code)) is not None:
        return known()
    if code in _TRANSIENT or status in _TRANSIENT_STATUS or (status >= 500 and status != 501):
        retry_after = _seconds(metadata.get("HTTPHeaders", {}).get("retry-after"))
        return store_unavailable(f"answered {code or status}", retry_after)
    if status in (401, 403):
        return PermissionDenied(
            "STORE_DENIED",
            "The object store refuses access; the server's operator has to look into it.",
            log_detail=f"bucket {bucket!r}, {code or status}; check the credentials and what they "
            "may do",
        )
    if status in (405, 501):
        return Unimplemented(
            "STORE_LACKS_CALL",
            "The object store does not offer what was asked of it; compare the drive's encryption "
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
    """Retry-After in seconds; its other form, a date, is not used by S3."""
    return float(header) if header is not None and header.isdecimal() else None
