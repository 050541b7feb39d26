"""The Sluice SDK: `Client`, what it returns, what it raises, and how it is tuned.

Everything else in this package is private.
"""

from sluice_client.client import Client
from sluice_client.errors import (
    Aborted,
    AlreadyExists,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    SluiceError,
    SourceChanged,
    SourceNotRepeatable,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    UploadBusy,
    UploadFailed,
    UploadGone,
)
from sluice_client.model import (
    ChunkRange,
    DownloadResult,
    Drive,
    DrivePolicy,
    Durability,
    Integrity,
    Limits,
    Node,
    UploadResult,
    UploadState,
    UploadStatus,
)
from sluice_client.options import ClientOptions
from sluice_client.progress import Phase, Progress, ProgressCallback
from sluice_client.retry import RetryPolicy
from sluice_client.sources import Source

__all__ = [
    "Aborted",
    "AlreadyExists",
    "ChunkRange",
    "Client",
    "ClientOptions",
    "DataLoss",
    "DeadlineExceeded",
    "DownloadResult",
    "Drive",
    "DrivePolicy",
    "Durability",
    "FailedPrecondition",
    "Integrity",
    "Internal",
    "InvalidArgument",
    "Limits",
    "Node",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "Phase",
    "Progress",
    "ProgressCallback",
    "ResourceExhausted",
    "RetryPolicy",
    "SluiceError",
    "Source",
    "SourceChanged",
    "SourceNotRepeatable",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UploadBusy",
    "UploadFailed",
    "UploadGone",
    "UploadResult",
    "UploadState",
    "UploadStatus",
]
