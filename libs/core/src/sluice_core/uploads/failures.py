"""What a FAILED upload is answered with: the status of each reason that ends one. Pure.

The ledger keeps a reason and a sentence. The status follows from the reason, so that every repeat
of the call answers the same, whichever process is asked. None of them says UNAVAILABLE or ABORTED:
the upload has ended, and the same call cannot work later.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sluice_core.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    NotFound,
    SluiceError,
)

_CLASSES: Final[Mapping[str, type[SluiceError]]] = MappingProxyType(
    {
        "PATH_EXISTS": AlreadyExists,
        "DRIVE_NOT_FOUND": NotFound,
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
    """The error of a failure reason. FAILED_PRECONDITION for all others: something of the drive
    or the deployment has to change (BUCKET_NOT_FOUND, STORE_DENIED, a store that was away for the
    whole life of the upload), then a new upload works."""
    return _CLASSES.get(reason, FailedPrecondition)
