"""Error class of each failure reason of a FAILED upload. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sluice_core.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
    SluiceError,
)

# The ledger stores a reason and a sentence. The reason determines the status, so that every process
# answers a repeated call alike. None is UNAVAILABLE or ABORTED: the upload has ended, and a retry
# of the call cannot succeed.
_CLASSES: Final[Mapping[str, type[SluiceError]]] = MappingProxyType(
    {
        "PATH_EXISTS": AlreadyExists,
        "DRIVE_NOT_FOUND": NotFound,
        # Without a retry delay, so no client repeats the call.
        "QUOTA_EXCEEDED": ResourceExhausted,
        # The bytes are not those that were claimed or acknowledged.
        "CATALOGUE_DAMAGED": DataLoss,
        "CHECKSUM_MISMATCH": DataLoss,
        "CHUNK_DAMAGED": DataLoss,
        "CHUNK_MISSING": DataLoss,
        "INVALID_PART": DataLoss,
        "MANIFEST_DAMAGED": DataLoss,
        "MULTIPART_NOT_FOUND": DataLoss,
        "OBJECT_DAMAGED": DataLoss,
        "OBJECT_NOT_FOUND": DataLoss,
        "UNKNOWN_FORMAT": DataLoss,
    }
)


def failure_class(reason: str) -> type[SluiceError]:
    """Return the error class of a failure reason; `FailedPrecondition` for unlisted ones.

    For those the drive or the deployment has to change before a new upload can succeed:
    BUCKET_NOT_FOUND, STORE_DENIED, a store that was unavailable for the upload's whole lifetime.
    """
    return _CLASSES.get(reason, FailedPrecondition)
